"""From the symbols of a kernel report to source lines, by the DWARF of vmlinux and of modules.

The kernel prints `function+0x12/0x34 [module]`: an offset into a symbol and the distance to the
next symbol (kernel/kallsyms.c, __sprint_symbol; a build id may follow the module's name since
5.15). Three facts of ARM decide which line that is:

* "PC is at" and what stands behind "__dabt_svc from" (or another `_svc` or `_usr` entry) is the
  very instruction. All else in a report is a return address: the call is the instruction before
  it, and its line can be another one.
* A return address in a Thumb-2 kernel is odd, and so is the value of a Thumb function in the ELF
  symbol table ("ELF for the Arm Architecture", 5.5.3), while DWARF has even addresses.
* A .ko is relocatable: each of its sections starts at 0. `harness.kernel.elf` gives each an address
  of its own, so that .text, .init.text and .text.unlikely stay apart.

Only the compilation unit that is asked for is read, found by .debug_aranges, which gcc and gas
write and clang does not (without it there are no lines). On a 6.12 kernel with 75 MB of
.debug_info the first look-up costs 0.6 s (most of it reading the sections into 110 MB of memory),
each further unit 0.08 s; checked against addr2line at 1500 random places of 556 units.
"""

from __future__ import annotations

import posixpath
import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.closing import Closing
from harness.faults import Fault
from harness.kernel.elf import code_symbols, open_elf, reading

_PLACE = re.compile(
    r"(?P<exact>PC is at |_(?:svc|usr)\)? from (?:\[<[0-9a-f]+>\] \()?)?"
    r"(?P<symbol>[A-Za-z_$][\w.$]*)\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]++)"
    r"(?: \[(?P<module>[\w-]+)(?: [0-9a-f]+)?\])?+"
    r"(?! \([^() ]+:\d+\))"
)
# Functions that print a report or wait; what called them is what the report is about.
_REPORTING = re.compile(
    r"(?:unwind_backtrace|dump_backtrace|show_stack|dump_stack|sched_show_task|__?warn|warn_slow"
    r"|panic|vpanic|bad_page|__might_|nmi_|rcu_|(?:__|io_)?schedule|_*wait_for_|__mutex_lock)"
)
_WHOLE = ("", "constprop", "isra")  # clones of a function that begin where it does


@dataclass(frozen=True, slots=True)
class Location:
    """A place in the source: a function, its file and a line (from 1).

    `file` is relative to the kernel's source, or to the folder of an out-of-tree module.
    """

    function: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class _Place:
    """`function+0x12/0x34 [module]` as a report has it; `offset` and `size` in bytes."""

    symbol: str
    offset: int
    size: int | None
    module: str | None
    returns: bool  # a return address, not the instruction itself

    @classmethod
    def of(cls, match: re.Match[str]) -> _Place:
        return cls(
            symbol=match["symbol"],
            offset=int(match["offset"], 16),
            size=int(match["size"], 16),
            module=match["module"],
            returns=match["exact"] is None,
        )


@dataclass(frozen=True, slots=True)
class _Unit:
    """The lines of one compilation unit, by address: each row holds to the next row's address.

    A row without a file ends a sequence. `source` is the unit's own file, `compiled_in` the
    folder the compiler ran in; both as the compiler was told, mostly absolute.
    """

    addresses: tuple[int, ...]
    rows: tuple[tuple[str, int] | None, ...]
    source: str
    compiled_in: str

    def at(self, address: int) -> tuple[str, int] | None:
        index = bisect_right(self.addresses, address) - 1
        return self.rows[index] if index >= 0 else None


class _Image:
    """One ELF file with its symbols and the units read so far."""

    def __init__(self, path: Path) -> None:
        elf = open_elf(path)
        self._functions = code_symbols(elf)
        self._dwarf: Any = elf.get_dwarf_info() if elf.has_dwarf_info() else None
        self._aranges: Any = self._dwarf.get_aranges() if self._dwarf else None
        self._units: dict[int, _Unit] = {}

    def address(self, symbol: str, offset: int, size: int | None) -> int | None:
        """Give the address of `symbol` plus `offset`; None if no one function of the name fits.

        `size` is what the kernel prints: the distance to the next symbol, so never less than the
        function's own size, and of several static functions the nearest from above is meant.
        """
        found = [
            (size - length if size is not None else 0, start)
            for start, length in self._functions.get(symbol, ())
            if size is None or length <= size
        ]
        best = sorted(set(found))
        if not best or (len(best) > 1 and best[0][0] == best[1][0]):
            return None
        return best[0][1] + offset & ~1

    def name(self, address: int) -> str | None:
        """Give `function+0x12/0x34`, if a function is there."""
        for symbol, places in self._functions.items():
            for start, size in places:
                if start <= address < start + size:
                    return f"{symbol}+{address - start:#x}/{size:#x}"
        return None

    def unit(self, address: int) -> _Unit | None:
        """Give the compilation unit that covers `address`."""
        if not self._aranges or not self._aranges.entries:
            return None
        offset = self._aranges.cu_offset_at_addr(address)
        if offset is None:
            return None
        if offset not in self._units:
            self._units[offset] = _read_unit(self._dwarf, offset)
        return self._units[offset]


def _read_unit(dwarf: Any, offset: int) -> _Unit:
    """Read the line table of the unit at `offset` of .debug_info."""
    unit = dwarf.get_CU_at(offset)
    top = unit.get_top_DIE().attributes
    compiled_in = _attribute(top, "DW_AT_comp_dir")
    program = dwarf.line_program_for_CU(unit)
    sequences = sorted(_sequences(program, compiled_in)) if program else []
    rows = [row for sequence in sequences for row in sequence]
    return _Unit(
        addresses=tuple(address for address, _, _ in rows),
        rows=tuple((file, line) if line else None for _, file, line in rows),
        source=_join(compiled_in, _attribute(top, "DW_AT_name")),
        compiled_in=compiled_in,
    )


def _sequences(program: Any, compiled_in: str) -> Iterator[list[tuple[int, str, int]]]:
    """Give the rows (address, file, line) of each sequence; line 0 where it ends."""
    files: dict[int, str] = {}
    rows: list[tuple[int, str, int]] = []
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if state.end_sequence:
            yield [*rows, (state.address, "", 0)]
            rows = []
            continue
        if state.file not in files:
            files[state.file] = _file_name(program.header, state.file, compiled_in)
        rows.append((state.address, files[state.file], state.line))


def _file_name(header: Any, number: int, compiled_in: str) -> str:
    """Give the path of a file of the line table.

    Before DWARF 5 files and folders count from 1, and folder 0 is the one the compiler ran in.
    """
    first = 0 if header.version >= 5 else 1
    file = header.file_entry[number - first]
    if header.version < 5 and file.dir_index == 0:
        folder = ""
    else:
        folder = header.include_directory[file.dir_index - first].decode("utf-8", "replace")
    return _join(_join(compiled_in, folder), file.name.decode("utf-8", "replace"))


def _attribute(attributes: Any, name: str) -> str:
    value = attributes[name].value if name in attributes else b""
    return str(value.decode("utf-8", "replace"))


def _join(folder: str, name: str) -> str:
    return posixpath.normpath(posixpath.join(folder, name))


def entries(vmlinux: Path, names: Collection[str]) -> dict[str, int]:
    """Return the addresses of those of the functions that stand at one place in a kernel.

    One that is inlined stands at none. `name.constprop.0` counts as `name`: it begins where that
    does. Raises HarnessError for a damaged file.
    """
    with reading(vmlinux):
        symbols = code_symbols(open_elf(vmlinux))
    found: dict[str, list[int]] = {}
    for symbol, places in symbols.items():
        name, _, clone = symbol.partition(".")
        if name in names and clone.partition(".")[0] in _WHOLE:
            found.setdefault(name, []).extend(address for address, _ in places)
    return {name: addresses[0] for name, addresses in found.items() if len(addresses) == 1}


class Symbols(Closing):
    """Places in the source for a vmlinux and the modules (name -> .ko) loaded into its kernel.

    Files are read when first needed; use it as a context manager, or `close` it, to free them.
    One that cannot be read raises HarnessError; what has no line information has no location.
    """

    def __init__(self, vmlinux: Path, modules: Mapping[str, Path]) -> None:
        self._vmlinux = vmlinux
        # The kernel writes "_" in a module's name where the file may have "-".
        self._modules = {name.replace("-", "_"): path for name, path in modules.items()}
        self._images: dict[Path, _Image] = {}

    def close(self) -> None:
        """Let go of what was read; a later look-up reads it again."""
        self._images.clear()

    def locate(
        self,
        symbol: str,
        offset: int,
        module: str | None,
        *,
        size: int | None = None,
        returns: bool = False,
    ) -> Location | None:
        """Find the source line `offset` bytes into `symbol`; None if it is not known.

        `size`, as the kernel prints it, tells static functions of one name apart; without it two
        of them have no location. With `returns`, the offset is that of a return address and the
        line is that of the call before it.
        """
        path = self._vmlinux if module is None else self._modules.get(module.replace("-", "_"))
        if path is None:
            return None
        with reading(path):
            return self._locate(path, _Place(symbol, offset, size, module, returns))

    def symbolise(self, text: str) -> str:
        """Append " (file:line)" to each place in `text`; what has no location stays as it is."""

        def located(match: re.Match[str]) -> str:
            location = self._of(_Place.of(match))
            return f"{match[0]} ({location})" if location else match[0]

        return _PLACE.sub(located, text)

    def name(self, address: int) -> str:
        """Return an address of the kernel's code as a report has it, of others its digits."""
        with reading(self._vmlinux):
            return self._image(self._vmlinux).name(address) or f"{address:#x}"

    def headline(self, fault: Fault) -> str:
        """Tell a fault in one line: what the kernel said, and the function it happened in."""
        said = f"CRASH: {fault.headline}"
        place = _culprit(fault)
        if place is None:
            return said
        location = self._of(place)
        where = f"{place.symbol} ({location})" if location else f"{place.symbol}+{place.offset:#x}"
        return f"{said}: in {where}" + (f" of {place.module}.ko" if place.module else "")

    def _of(self, place: _Place) -> Location | None:
        return self.locate(
            place.symbol, place.offset, place.module, size=place.size, returns=place.returns
        )

    def _locate(self, path: Path, place: _Place) -> Location | None:
        image = self._image(path)
        address = image.address(place.symbol, place.offset, place.size)
        if address is None:
            return None
        # "f+0x0" and, in Thumb, "f+0x1" is no return address but a function named as such, or
        # the start of an entry from user space (ret_fast_syscall+0x1).
        if place.returns and place.offset > 1:
            address -= 1
        unit = image.unit(address)
        row = unit.at(address) if unit else None
        if unit is None or row is None:
            return None
        file, line = row
        return Location(place.symbol, self._relative(file, unit, path), line)

    def _image(self, path: Path) -> _Image:
        if path not in self._images:
            self._images[path] = _Image(path)
        return self._images[path]

    def _relative(self, file: str, unit: _Unit, path: Path) -> str:
        """Take the prefix of this build off a file name."""
        folders = [self._source_tree(), unit.compiled_in]
        if path != self._vmlinux:
            folders.insert(1, posixpath.dirname(unit.source))
        for folder in folders:
            if folder not in ("", "/", ".") and file.startswith(f"{folder}/"):
                return file[len(folder) + 1 :]
        return file

    def _source_tree(self) -> str:
        """Give the kernel's source: the folder over init/main.c, which has start_kernel()."""
        image = self._image(self._vmlinux)
        address = image.address("start_kernel", 0, None)
        unit = image.unit(address) if address is not None else None
        return unit.source.removesuffix("init/main.c").rstrip("/") if unit else ""


def _culprit(fault: Fault) -> _Place | None:
    """Pick the place a fault is about.

    That is the program counter's, else that of the WARNING line, else the first one in a module
    (the code under test), else the first that neither reports nor waits.
    """
    pc = re.search(r"^PC is at .*", fault.text, re.MULTILINE)
    for line in (pc[0] if pc else "", fault.headline):
        match = _PLACE.search(line)
        if match:
            return _Place.of(match)
    places = [_Place.of(match) for match in _PLACE.finditer(fault.text)]
    own = (place for place in places if place.module)
    rest = (place for place in places if not _REPORTING.match(place.symbol))
    return next(own, None) or next(rest, None)
