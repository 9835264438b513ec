"""Opening 32-bit ARM ELF files: vmlinux, and modules, whose sections are laid out first.

All sections of a relocatable file (.ko, .o) start at 0, and its symbols hold offsets into them.
Here each section that takes memory gets an address of its own, as a linker would give it; after
that pyelftools' relocation of the debug sections (it knows ARM's R_ARM_ABS32) and `Memory` below
yield addresses that say which section they mean.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, cast

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from harness.errors import HarnessError

_SYMBOL = struct.Struct("<IIIBBH")  # Elf32_Sym: name, value, size, info, other, shndx
_NOTYPE, _FUNC = 0, 2  # types of symbols that are code: a label in assembly, a function
_ABS32 = 2  # R_ARM_ABS32: the symbol's address plus what stands at the place
_DAMAGED = (
    ELFError,
    DWARFError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)
_MOST_ZEROES = 1 << 20
_LOWEST = 0x1000  # where the first section of a .ko is put; 0 stays "no address"


def open_elf(path: Path) -> Any:
    """Open a 32-bit little-endian ARM ELF file as an `ELFFile` over mapped or private memory.

    A relocatable one (.ko, .o) is laid out first: each section that takes memory gets an address
    of its own in `sh_addr`, and the value of each symbol is moved there. HarnessError for any
    other sort of file.
    """
    with reading(path):
        with path.open("rb") as file:
            # A vmlinux with debug information is 150 MB: mapped, only what is looked at is read.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        elf = ELFFile(cast("BytesIO", data))
        if (elf["e_machine"], elf.elfclass, elf.little_endian) != ("EM_ARM", 32, True):
            raise ELFError("it is built for another machine")
        if elf["e_type"] == "ET_REL":
            return ELFFile(BytesIO(_lay_out(elf, data)))
        return elf


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a damaged file makes pyelftools raise into a HarnessError that names `path`.

    Besides its own errors those are Python's, because it trusts the offsets and the numbers that
    it reads.
    """
    try:
        yield
    except HarnessError:
        raise
    except OSError as error:
        why = error.strerror or str(error)
        raise HarnessError(f"cannot be read: {why}", where=str(path)) from error
    except _DAMAGED as error:
        raise HarnessError(
            f"is damaged, or no 32-bit ARM ELF file: {error}",
            where=str(path),
            next_step="build it again (in the cache, remove its folder): a file cut short is a "
            "full disk or an interrupted copy",
        ) from error


def _lay_out(elf: ELFFile, data: mmap.mmap) -> bytes:
    """Give each section of a .ko that takes memory its own `sh_addr`, and move its symbols."""
    image = bytearray(data)
    bases: dict[int, int] = {}
    free = _LOWEST
    for index, section in enumerate(elf.iter_sections()):
        if section["sh_flags"] & SH_FLAGS.SHF_ALLOC:
            align = max(section["sh_addralign"], 1)
            bases[index] = free = -(-free // align) * align
            header = elf["e_shoff"] + index * elf["e_shentsize"]
            struct.pack_into("<I", image, header + 12, free)
            free += section["sh_size"]
    symtab = elf.get_section_by_name(".symtab")
    if symtab is None:
        return bytes(image)
    first, size = symtab["sh_offset"], symtab["sh_size"]
    for offset in range(first, first + size, _SYMBOL.size):
        _, value, _, _, _, shndx = _SYMBOL.unpack_from(image, offset)
        if shndx in bases:
            struct.pack_into("<I", image, offset + 4, bases[shndx] + value)
    return bytes(image)


def code_symbols(elf: Any) -> dict[str, list[tuple[int, int]]]:
    """Map each name of code to its (address, size)s; a name can stand for several functions.

    Read with struct: pyelftools takes 2.4 s for the 99 000 symbols of a vmlinux, this 0.2 s.
    """
    symtab = elf.get_section_by_name(".symtab")
    found: dict[str, list[tuple[int, int]]] = {}
    if symtab is None:
        return found
    code = {
        index
        for index, section in enumerate(elf.iter_sections())
        if section["sh_flags"] & SH_FLAGS.SHF_EXECINSTR
    }
    names = elf.get_section(symtab["sh_link"]).data()
    for name, value, size, info, _, shndx in _SYMBOL.iter_unpack(symtab.data()):
        if shndx in code and info & 0xF in (_NOTYPE, _FUNC):
            text = names[name : names.index(b"\0", name)]
            if text[:1] not in (b"$", b""):  # $a, $t, $d: where code and data change
                found.setdefault(text.decode("utf-8", "replace"), []).append((value & ~1, size))
    return found


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a laid-out file, with its pointers filled in.

    `sections` are (address, bytes); `pointers` the addresses of words that hold the address of a
    symbol, which is 0 if another file defines it.
    """

    sections: tuple[tuple[int, bytes], ...]
    pointers: frozenset[int]

    @classmethod
    def of(cls, elf: Any) -> Memory:
        """Read the sections that take memory, and apply their R_ARM_ABS32 relocations."""
        parts = {
            index: (section["sh_addr"], _contents(section))
            for index, section in enumerate(elf.iter_sections())
            if section["sh_flags"] & SH_FLAGS.SHF_ALLOC
        }
        pointers: set[int] = set()
        for table in elf.iter_sections("SHT_REL"):
            if table["sh_info"] in parts:
                start, image = parts[table["sh_info"]]
                symbols = elf.get_section(table["sh_link"])
                for place in _relocate(image, table, symbols):
                    pointers.add(start + place)
        sections = tuple((start, bytes(image)) for start, image in parts.values())
        return cls(sections, frozenset(pointers))

    def word(self, address: int) -> int:
        """Give the 32-bit word at `address`; IndexError outside of all sections."""
        return int(struct.unpack("<I", self._at(address)[:4])[0])

    def text(self, address: int) -> str:
        """Give the string at `address`, up to its NUL."""
        return self._at(address).partition(b"\0")[0].decode("utf-8", "replace")

    def _at(self, address: int) -> bytes:
        for start, image in self.sections:
            if start <= address < start + len(image):
                return image[address - start :]
        raise IndexError(f"a pointer leads to {address:#x}, where nothing is")


def _contents(section: Any) -> bytearray:
    """Give a section's bytes.

    Of .bss, where an array of no cases is, only the first MiB: a damaged file can claim any size.
    """
    if section["sh_type"] == "SHT_NOBITS":
        return bytearray(min(section["sh_size"], _MOST_ZEROES))
    return bytearray(section.data())


def _relocate(image: bytearray, table: Any, symbols: Any) -> Iterator[int]:
    """Fill in the pointers of one section, and give their offsets in it."""
    for entry in table.iter_relocations():
        if entry["r_info_type"] == _ABS32:
            place = entry["r_offset"]
            value = symbols.get_symbol(entry["r_info_sym"])["st_value"]
            (addend,) = struct.unpack_from("<I", image, place)
            struct.pack_into("<I", image, place, (value + addend) & 0xFFFFFFFF)
            yield place


def symbols_named(elf: Any, names: frozenset[str]) -> dict[str, tuple[int, int]]:
    """Map those of the names that the file defines to their (value, size), data or code.

    Read with struct, as `code_symbols` is. The names are looked for in the table of strings, where
    one may be the end of another: of a kernel's 90,000 symbols none but these is decoded.
    """
    symtab = elf.get_section_by_name(".symtab")
    found: dict[str, tuple[int, int]] = {}
    if symtab is None:
        return found
    strings = elf.get_section(symtab["sh_link"]).data()
    places = {
        match.start(): name
        for name in names
        for match in re.finditer(re.escape(name.encode()) + rb"\0", strings)
    }
    for place, value, size, _, _, shndx in _SYMBOL.iter_unpack(symtab.data()):
        if shndx and place in places:
            found[places[place]] = (value, size)
    return found
