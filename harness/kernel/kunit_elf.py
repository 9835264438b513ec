"""The KUnit suites and cases of a module, read from its .ko before any boot.

kunit_test_suites() puts pointers into the section .kunit_test_suites (and, since 6.8,
kunit_test_init_section_suites() into .kunit_init_test_suites). Since 6.0 (e5857d396f35, "kunit:
flatten kunit_suite*** to kunit_suite**") they are pointers to struct kunit_suite; before, each
pointed to an array of such pointers that ends with NULL. The structures differ between versions
(kunit_case got generate_params in 5.11 and attributes in 6.6), so their layout comes from
the module's own DWARF.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.kernel.elf import Memory, open_elf, reading, symbols_named

_SECTIONS = (".kunit_test_suites", ".kunit_init_test_suites")
_STRUCTS = ("kunit_suite", "kunit_case")
_WORD = 4  # bytes of a pointer
_FILTER = "__param_filter_glob"  # a struct kernel_param; kunit.filter_glob in lib/kunit/executor.c
_PERMISSIONS = struct.Struct("<12xH")  # behind its name, its module and its operations
_WRITABLE = 0o200
_MOST = 10_000  # cases of a suite, suites of an array: more is a damaged file


class NoDebugInformation(HarnessError):
    """A module has suites whose cases cannot be known before they run."""


@dataclass(frozen=True, slots=True)
class CaseSpec:
    """A case as the module declares it; a parameterised one reports a result per parameter."""

    name: str
    parameterised: bool


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite and its cases, in the order in which KUnit runs them."""

    name: str
    cases: tuple[CaseSpec, ...]


def read_suites(ko: Path) -> tuple[Suite, ...]:
    """Read the suites of a module, in link order; () if it has none.

    HarnessError if the file is no ARM module or is damaged; `NoDebugInformation` if it has suites,
    but nothing that tells how to read them.
    """
    with reading(ko):
        elf = open_elf(ko)
        sections = [elf.get_section_by_name(name) for name in _SECTIONS]
        found = [section for section in sections if section and section["sh_size"]]
        if not found:
            return ()
        reader = _Reader(Memory.of(elf), _layouts(elf, ko))
        return tuple(
            reader.suite(at)
            for section in found
            for at in reader.suites(section["sh_addr"], section["sh_size"])
        )


def chooses_cases(vmlinux: Path) -> bool:
    """Whether the kernel's KUnit can be told, while it runs, which cases of a module to run.

    Modules heed its parameter filter_glob where that can be written to: 6.12 and 7.3 let it, 5.10
    has none, and that of 6.1 is for what is built in.
    """
    with reading(vmlinux):
        elf = open_elf(vmlinux)
        found = symbols_named(elf, frozenset({_FILTER}))
        if not found:
            return False
        address, _ = found[_FILTER]
        (offset,) = elf.address_offsets(address, _PERMISSIONS.size)
        elf.stream.seek(offset)
        (permissions,) = _PERMISSIONS.unpack(elf.stream.read(_PERMISSIONS.size))
        return bool(permissions & _WRITABLE)


@dataclass(frozen=True, slots=True)
class _Layout:
    """A structure: its size and the offsets of its members in bytes, and which are arrays."""

    size: int
    offsets: Mapping[str, int]
    arrays: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the structures out of a module's memory."""

    memory: Memory
    layouts: Mapping[str, _Layout]

    def suites(self, start: int, size: int) -> Iterator[int]:
        """Give the address of each struct kunit_suite that a section names."""
        for place in range(start, start + size, _WORD):
            target = self.memory.word(place)
            if self._is_array(target):
                yield from self._array(target)
            elif target:
                yield target

    def suite(self, at: int) -> Suite:
        layout = self.layouts["kunit_suite"]
        cases = self.memory.word(at + layout.offsets["test_cases"])
        return Suite(self._name(layout, at), tuple(self._cases(cases)))

    def _is_array(self, target: int) -> bool:
        """Whether a section's pointer leads to an array of pointers, as before 6.0.

        A suite begins with its name, which has been an array of characters in all versions since
        5.5; the array of suites begins with a pointer.
        """
        layout = self.layouts["kunit_suite"]
        begins_with_text = layout.offsets["name"] == 0 and "name" in layout.arrays
        return begins_with_text and target in self.memory.pointers

    def _array(self, start: int) -> Iterator[int]:
        for place in range(start, start + _MOST * _WORD, _WORD):
            if not self._points(place):
                return
            yield self.memory.word(place)

    def _cases(self, start: int) -> Iterator[CaseSpec]:
        """Read cases up to the one without a function, as kunit_suite_for_each_test_case() does."""
        layout = self.layouts["kunit_case"]
        generate = layout.offsets.get("generate_params")
        for at in range(start, start + _MOST * layout.size, layout.size):
            if not self._points(at + layout.offsets["run_case"]):
                return
            parameterised = generate is not None and self._points(at + generate)
            yield CaseSpec(self._name(layout, at), parameterised)

    def _name(self, layout: _Layout, at: int) -> str:
        place = at + layout.offsets["name"]
        return self.memory.text(place if "name" in layout.arrays else self.memory.word(place))

    def _points(self, place: int) -> bool:
        """Whether the word at `place` is a pointer, if only to what another module exports."""
        return place in self.memory.pointers or self.memory.word(place) != 0


def _layouts(elf: Any, ko: Path) -> dict[str, _Layout]:
    """Read the layouts of KUnit's structures from the module's DWARF.

    It is read as it stands in the file. A relocation would add the address of a section, which is 0
    in a .ko, to what ARM has in its place already; pyelftools takes seconds for 50 000 of them.
    """
    found: dict[str, _Layout] = {}
    dwarf = elf.get_dwarf_info(relocate_dwarf_sections=False) if elf.has_dwarf_info() else None
    for unit in dwarf.iter_CUs() if dwarf else ():
        for die in unit.get_top_DIE().iter_children():
            if _is_wanted(die):
                found[die.attributes["DW_AT_name"].value.decode()] = _layout(die)
        if all(name in found for name in _STRUCTS):
            return found
    raise NoDebugInformation(
        "has KUnit suites, but no debug information that tells how struct "
        "kunit_suite and struct kunit_case are laid out",
        where=str(ko),
        next_step="build it against a kernel with CONFIG_DEBUG_INFO_DWARF4=y, and do not strip it",
    )


def _is_wanted(die: Any) -> bool:
    """Whether a DIE is the definition, not only a declaration, of one of KUnit's structures."""
    attributes = die.attributes
    return (
        die.tag == "DW_TAG_structure_type"
        and "DW_AT_byte_size" in attributes
        and "DW_AT_name" in attributes
        and attributes["DW_AT_name"].value.decode() in _STRUCTS
    )


def _layout(die: Any) -> _Layout:
    offsets: dict[str, int] = {}
    arrays: set[str] = set()
    for member in die.iter_children():
        if member.tag == "DW_TAG_member" and "DW_AT_name" in member.attributes:
            name = member.attributes["DW_AT_name"].value.decode()
            offsets[name] = int(member.attributes["DW_AT_data_member_location"].value)
            if _is_array(member.get_DIE_from_attribute("DW_AT_type")):
                arrays.add(name)
    return _Layout(die.attributes["DW_AT_byte_size"].value, offsets, frozenset(arrays))


def _is_array(die: Any) -> bool:
    """Whether a type is an array, under its qualifiers and typedefs."""
    while die.tag in ("DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_typedef"):
        if "DW_AT_type" not in die.attributes:
            return False
        die = die.get_DIE_from_attribute("DW_AT_type")
    return bool(die.tag == "DW_TAG_array_type")
