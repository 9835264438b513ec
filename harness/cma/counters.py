"""What a running kernel shows of its CMA at one moment: every counter, list and bitmap of it.

The guest program cma-snapshot (images/guest/cma-snapshot.c) reads them all between two equal
readings of the counters, and prints a JSON object per line. Numbers are pages where nothing else
is said; None is a number that this kernel does not show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field

from harness.cma.answers import Answer, ProgramError, ask, objects
from harness.cma.shell import Shell
from harness.errors import GuestError

PROGRAM = "cma-snapshot"
CMA, ISOLATE = "CMA", "Isolate"  # migratetypes, as /proc/pagetypeinfo names them
Run = tuple[int, int]  # the first of some set bits, and how many


class System(Answer):
    """Counters of the whole machine; those of /proc/meminfo, in capitals, are kB.

    `settled` is whether the counters held still while all was read, `readings` how often it was.
    """

    settled: bool
    readings: int
    page_size: int
    block_pages: int
    mem_total: int = Field(alias="MemTotal")
    mem_free: int = Field(alias="MemFree")
    cma_total: int = Field(alias="CmaTotal")
    cma_free: int = Field(alias="CmaFree")
    nr_free_pages: int
    nr_free_cma: int
    cma_alloc_success: int | None = None  # allocations, not pages
    cma_alloc_fail: int | None = None
    zones: int
    areas: int


class Zone(Answer):
    """A populated zone, by /proc/zoneinfo and /proc/pagetypeinfo.

    `per_cpu` are free pages on the lists of its `cpus`, `user` the pages on LRU lists. `free`
    (pages on the free lists) and `blocks` (pageblocks) are by migratetype; `free` is None when a
    list was too long for the kernel to count.
    """

    node: int
    name: str
    start_pfn: int
    spanned: int
    present: int
    managed: int
    cma: int | None = None
    nr_free_pages: int
    nr_free_cma: int
    nr_zspages: int = 0
    per_cpu: int
    cpus: int
    user: int
    free: Mapping[str, int] | None = None
    blocks: Mapping[str, int]

    def holds(self, area: Area) -> bool:
        """Whether the area lies in this zone."""
        return self.start_pfn <= area.base_pfn < self.start_pfn + self.spanned


class Pages(Answer):
    """How many pages are, by their flags, free in the buddy allocator, a user's, the kernel's own.

    Of an unnamed page no flag tells: allocated from CMA, on a per-CPU list, or lost.
    """

    free: int
    movable: int
    unmovable: int
    unnamed: int


class Area(Answer):
    """An area by debugfs and sysfs; the pages whose bit is set (`taken`) and is not (`open`).

    `odd` are a few of the pages that should not be where they are: pfn and /proc/kpageflags.
    """

    name: str
    base_pfn: int
    count: int
    order_per_bit: int
    used: int
    maxchunk: int | None = None
    alloc_pages_success: int | None = None
    alloc_pages_fail: int | None = None
    release_pages_success: int | None = None
    set: tuple[Run, ...]
    taken: Pages | None = None
    open: Pages | None = None
    odd: tuple[Run, ...] = ()

    @property
    def bits(self) -> int:
        """How many bits the bitmap has."""
        return self.count >> self.order_per_bit

    def zero_runs(self) -> Iterator[Run]:
        """Yield the runs of zero bits, the first and how many."""
        at = 0
        for first, length in (*self.set, (self.bits, 0)):
            if first > at:
                yield at, first - at
            at = first + length


class SnapshotLine(Answer):
    """A line of cma-snapshot: one thing, under the name of its kind."""

    system: System | None = None
    zone: Zone | None = None
    area: Area | None = None


class Snapshot(Answer):
    """All of it, of one moment."""

    system: System
    zones: tuple[Zone, ...]
    areas: tuple[Area, ...]

    def area(self, name: str) -> Area:
        """Return the area of that name; raise `GuestError` when there is none."""
        for area in self.areas:
            if area.name == name:
                return area
        raise GuestError(f"the kernel has no area {name!r}", where=PROGRAM)

    def zone_of(self, area: Area) -> Zone:
        """Return the zone that the area lies in; raise `GuestError` when none does."""
        for zone in self.zones:
            if zone.holds(area):
                return zone
        raise GuestError(f"no zone holds area {area.name!r}", where="/proc/zoneinfo")

    def areas_in(self, zone: Zone) -> tuple[Area, ...]:
        """Return the areas that lie in the zone."""
        return tuple(area for area in self.areas if zone.holds(area))


def take(shell: Shell, *, pages: bool = False, timeout: float = 60) -> Snapshot:
    """Ask the guest for a snapshot; `pages`: look at each page of the areas too (0.1 s and more).

    Raises `ProgramError` when the program fails or says what this module does not understand.
    """
    argv = [PROGRAM, "--pages"] if pages else [PROGRAM]
    return _snapshot(ask(shell, argv, SnapshotLine, timeout))


def take_at_once(shell: Shell, *, timeout: float = 60) -> Snapshot:
    """Ask cma-case for a snapshot of one reading, which it takes before anything else can run.

    One that is not of one moment is broken: its counters and lists differ. Raises as `take` does.
    """
    return _snapshot(ask(shell, [PROGRAM, "--at-once"], SnapshotLine, timeout))


def parse(text: str) -> Snapshot:
    """Return the snapshot that cma-snapshot printed."""
    return _snapshot(objects(text, SnapshotLine, PROGRAM))


def _snapshot(lines: tuple[SnapshotLine, ...]) -> Snapshot:
    """Put the lines together; areas are in the order of their addresses."""
    systems = [line.system for line in lines if line.system]
    areas = sorted((line.area for line in lines if line.area), key=lambda area: area.base_pfn)
    if len(systems) != 1 or len(areas) != systems[0].areas:
        raise ProgramError(
            f"not a snapshot: {len(systems)} systems, {len(areas)} areas",
            where=PROGRAM,
            next_step="use the programs of this checkout in the guest's image",
        )
    zones = tuple(line.zone for line in lines if line.zone)
    return Snapshot(system=systems[0], zones=zones, areas=tuple(areas))
