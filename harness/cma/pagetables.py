"""What the kernel's page tables map, and how: /sys/kernel/debug/kernel_page_tables of ARM.

arch/arm/mm/dump.c prints a line for each range of equal attributes, in the order of its virtual
addresses. It names no physical address: where physical memory shows in the linear map follows from
`LinearMap`, and a mapping elsewhere is found by comparing a dump before with a dump after. The
file is there with CONFIG_ARM_PTDUMP_DEBUGFS. All but `read` is pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from harness.cma.areas import PAGE
from harness.cma.counters import Snapshot
from harness.cma.shell import Shell
from harness.errors import GuestError

PATH = "/sys/kernel/debug/kernel_page_tables"
LINEAR = "Kernel Mapping"
VMALLOC = "vmalloc() Area"
# Memory types of dump.c's pte_bits, in the kernel's words.
WRITE_COMBINE = "MEM/BUFFERABLE/WC"
_CACHED = "MEM/CACHED/"
_UNITS = {unit: 1 << 10 * power for power, unit in enumerate("KMGTPE", 1)}
_REGION = re.compile(r"---\[ (.+) \]---$")
_LINE = re.compile(
    r"0x([0-9a-f]+)-0x([0-9a-f]+) +(\d+)([KMGTPE]) (?:(PTE|PMD|PGD)|(?=KERNEL|USER|IO|VECTORS))"
    r"((?: *\S+)*)\s*$"
)
_DOMAINS = ("KERNEL", "USER", "IO", "VECTORS", "unknown")


@dataclass(frozen=True, slots=True)
class Attributes:
    """How a range is mapped. `memory` is empty for a section: dump.c does not decode its type."""

    level: str
    domain: str
    user: bool
    writable: bool
    executable: bool
    shared: bool
    memory: str

    @property
    def cached(self) -> bool:
        """Whether the CPU may keep it in its caches, as far as the line tells."""
        return self.memory.startswith(_CACHED)


@dataclass(frozen=True, slots=True)
class Mapping:
    """A line of the dump: the virtual addresses from `start` up to `end`, in bytes."""

    start: int
    end: int
    region: str
    attributes: Attributes

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Change:
    """A range of addresses that two dumps map differently; None where one maps nothing."""

    start: int
    end: int
    before: Attributes | None
    after: Attributes | None


@dataclass(frozen=True, slots=True)
class PageTables:
    """A whole dump, in the order of its addresses."""

    mappings: tuple[Mapping, ...]

    def region(self, name: str) -> PageTables:
        """Return what stands under that marker of the dump."""
        return PageTables(tuple(one for one in self.mappings if one.region == name))

    def within(self, start: int, end: int) -> tuple[Mapping, ...]:
        """Return what is mapped from `start` up to `end`, cut to that."""
        return tuple(
            Mapping(max(one.start, start), min(one.end, end), one.region, one.attributes)
            for one in self.mappings
            if one.start < end and start < one.end
        )

    def by_pages(self) -> PageTables:
        """Return what is mapped by page tables, not by sections: there single pages can change."""
        return PageTables(tuple(one for one in self.mappings if one.attributes.level == "PTE"))

    def stretches(self) -> tuple[range, ...]:
        """Return the addresses that are mapped; ranges that touch are one."""
        return joined(range(one.start, one.end) for one in self.mappings)

    def uncached(self) -> PageTables:
        """Return the pages that the CPU may not cache: devices, and live coherent buffers.

        What is cached changes with every process: kernel stacks come from vmalloc.
        """
        pages = self.by_pages().mappings
        return PageTables(tuple(one for one in pages if not one.attributes.cached))


def joined(ranges: Iterable[range]) -> tuple[range, ...]:
    """Return ranges, which are in the order of their addresses, with those that touch as one."""
    found: list[range] = []
    for one in ranges:
        if found and found[-1].stop == one.start:
            found[-1] = range(found[-1].start, one.stop)
        else:
            found.append(one)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class LinearMap:
    """Where low memory lies, from `base` up to `end`, and at which virtual address it is mapped."""

    base: int
    end: int
    virtual_base: int

    def virtual(self, physical: int) -> int:
        """Return the linear map's address of a physical one."""
        return physical - self.base + self.virtual_base

    def has(self, start: int, end: int) -> bool:
        """Whether that physical range is low memory, all of it."""
        return self.base <= start and end <= self.end


def read(shell: Shell, timeout: float = 30) -> PageTables:
    """Read the dump; raise `GuestError` when the kernel has none."""
    done = shell.run(f"cat {PATH}", timeout)
    if done.status:
        raise GuestError(
            done.output.strip(), where=PATH, next_step="set CONFIG_ARM_PTDUMP_DEBUGFS=y"
        )
    return parse(done.output)


def parse(text: str) -> PageTables:
    """Return the mappings of a dump; raise `GuestError` at a line that is none of dump.c's."""
    region, found = "", []
    for line in text.splitlines():
        marker = _REGION.match(line)
        if marker:
            region = marker[1]
        else:
            found.append(_mapping(line, region))
    return PageTables(tuple(found))


def _mapping(line: str, region: str) -> Mapping:
    match = _LINE.match(line)
    if not match:
        raise GuestError(f"not a line of a page-table dump: {line!r}", where=PATH)
    start, end = int(match[1], 16), int(match[2], 16)
    if end == 0:  # the end of the address space: dump.c's addresses have 32 bits
        end = 1 << 32
    if end - start != int(match[3]) * _UNITS[match[4]]:
        raise GuestError(f"the size is not that of the range: {line!r}", where=PATH)
    words = match[6].split()
    domain = words.pop(0) if words and words[0] in _DOMAINS else ""
    memory = next((word for word in words if "/" in word), "")
    return Mapping(
        start,
        end,
        region,
        Attributes(
            # 5.10 does not tell the level; a page always has a type of memory, a section none.
            level=match[5] or ("PTE" if memory else "PGD"),
            domain=domain,
            user="USR" in words,
            writable="RW" in words,
            executable="x" in words,
            shared="SHD" in words,
            memory=memory,
        ),
    )


def changes(before: PageTables, after: PageTables) -> tuple[Change, ...]:
    """Return where the two differ, as long ranges, in the order of their addresses.

    That a dump splits a range in two lines is no difference.
    """
    found: list[Change] = []
    for change in _changes(before, after):
        last = found[-1] if found else None
        if last and last.end == change.start and _kinds(last) == _kinds(change):
            found[-1] = Change(last.start, change.end, *_kinds(last))
        else:
            found.append(change)
    return tuple(found)


def _kinds(change: Change) -> tuple[Attributes | None, Attributes | None]:
    return change.before, change.after


def _changes(before: PageTables, after: PageTables) -> Iterator[Change]:
    """Yield the differing ranges between any two neighbouring ends of mappings."""
    edges = sorted({edge for one in (*before.mappings, *after.mappings) for edge in _edges(one)})
    for start, end in pairwise(edges):
        old, new = _at(before, start), _at(after, start)
        if old != new:
            yield Change(start, end, old, new)


def _edges(mapping: Mapping) -> tuple[int, int]:
    return mapping.start, mapping.end


def _at(tables: PageTables, address: int) -> Attributes | None:
    return next((one.attributes for one in tables.mappings if one.start <= address < one.end), None)


def linear_map(snapshot: Snapshot, page_offset: int) -> LinearMap:
    """Return where low memory lies; `page_offset` is the kernel's CONFIG_PAGE_OFFSET.

    It goes from the first zone on to zone HighMem, or to the end of all zones without that one.
    """
    zones = snapshot.zones
    high = [zone.start_pfn for zone in zones if zone.name == "HighMem"]
    end = min(high, default=max(zone.start_pfn + zone.spanned for zone in zones))
    return LinearMap(min(zone.start_pfn for zone in zones) * PAGE, end * PAGE, page_offset)
