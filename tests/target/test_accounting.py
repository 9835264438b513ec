"""sysfs, debugfs, vmstat, tracepoints and the zones' counters tell the same story of CMA.

What must hold at any moment is audited after every case (harness/cma/audit.py). Here is what an
operation must change in each place, and nowhere else, and what the boot's numbers must be.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from state import no_room, read_state

from harness import config
from harness.cell import Prepared
from harness.cma.answers import ProgramError
from harness.cma.areas import PAGE
from harness.cma.audit import audit
from harness.cma.counters import Area, Run, Snapshot, take
from harness.cma.helper import DEFAULT_DEVICE, Helper
from harness.cma.tracing import Event, Trace, traced
from harness.config import numbers
from harness.guest.guest import Guest

KPF_RESERVED = 1 << 32  # include/linux/kernel-page-flags.h, 6.12
SECONDS = 30.0


AREAS = [
    pytest.param(0, id="first-area"),
    pytest.param(1, id="second-area", marks=pytest.mark.long),
    pytest.param(2, id="third-area"),
]


@pytest.fixture(params=AREAS)
def wanted(request: pytest.FixtureRequest, cell: Prepared) -> config.Area:
    """Each area of the layout."""
    layout = cell.cell.layout
    if request.param >= len(layout.area):
        pytest.skip(f"layout {layout.name!r} has {len(layout.area)} areas")
    return layout.area[request.param]


@dataclass(frozen=True, slots=True)
class Maker:
    """A way to allocate from one area: the helper's device, or the area's debugfs files.

    `alloc` and `free` take pages and return the status; `align` is the order of alignment that
    the kernel is asked for when it is asked for so many pages.
    """

    area: str
    alloc: Callable[[int], bool]
    free: Callable[[int], None]
    align: Callable[[int], int]


@pytest.fixture
def by_debugfs(guest: Guest, wanted: config.Area) -> Maker:
    """The debugfs files of an area; cma_debug.c asks for no alignment."""
    folder = read_state(guest.console).areas[wanted.node].folder

    def write(file: str, pages: int) -> bool:
        command = f"echo {pages} >'{folder}/{file}'"
        return guest.console.run(command, SECONDS).status == 0

    def free(pages: int) -> None:
        assert write("free", pages)

    return Maker(wanted.node, lambda pages: write("alloc", pages), free, lambda _pages: 0)


@pytest.fixture
def by_helper(guest: Guest, wanted: config.Area, helper: Helper) -> Maker:
    """The helper's device of an area; the DMA API asks for the buffer's order, capped."""
    if not wanted.default and not wanted.device:
        pytest.skip(f"no device of this layout uses area {wanted.node!r}")
    device = Helper(
        guest.console,
        device=DEFAULT_DEVICE if wanted.default else f"{DEFAULT_DEVICE}-{wanted.node}",
    )
    cap = (device.info().natural_align // PAGE).bit_length() - 1

    def alloc(pages: int) -> bool:
        try:
            device.alloc(pages * PAGE)
        except ProgramError as error:
            if error.errno_name != "ENOSPC":
                raise
            return False
        return True

    def free(_pages: int) -> None:
        device.read_oldest()

    return Maker(wanted.node, alloc, free, lambda pages: min((pages - 1).bit_length(), cap))


@pytest.fixture(params=["helper", "debugfs"])
def maker(request: pytest.FixtureRequest, by_helper: Maker, by_debugfs: Maker) -> Maker:
    """Both ways, on each area of the layout."""
    return by_helper if request.param == "helper" else by_debugfs


@dataclass(frozen=True, slots=True)
class Change:
    """What an operation changed of one area, and what was traced meanwhile."""

    pfn: int | None  # of the first page whose bit changed
    used: int
    success: int | None
    fail: int | None
    release: int | None
    vm_success: int
    vm_fail: int
    events: tuple[Event, ...]

    @property
    def counts(self) -> tuple[int, int | None, int | None, int | None, int, int]:
        """Pages: used, success, fail, release; allocations: success, fail."""
        return (
            self.used,
            self.success,
            self.fail,
            self.release,
            self.vm_success,
            self.vm_fail,
        )


class Observer:
    """Looks at one area before and after operations, with the tracepoints on."""

    def __init__(self, guest: Guest, area: str, trace: Trace) -> None:
        self._guest = guest
        self._area = area
        self._trace = trace
        self._before = take(guest.console)

    @property
    def area(self) -> Area:
        """The area as it was when it was last looked at."""
        return self._before.area(self._area)

    def change(self) -> Change:
        """Return what happened since the last look; nothing may have happened to other areas."""
        old, new = self._before, take(self._guest.console)
        events = self._trace.events()
        self._trace.clear()
        self._before = new
        for other in new.areas:
            assert other.name == self._area or other == old.area(other.name)
        was, now = old.area(self._area), new.area(self._area)
        moved = pages_of(was.set) ^ pages_of(now.set)
        return Change(
            pfn=now.base_pfn + min(moved) if moved else None,
            used=now.used - was.used,
            success=_less(now.alloc_pages_success, was.alloc_pages_success),
            fail=_less(now.alloc_pages_fail, was.alloc_pages_fail),
            release=_less(now.release_pages_success, was.release_pages_success),
            vm_success=(new.system.cma_alloc_success or 0) - (old.system.cma_alloc_success or 0),
            vm_fail=(new.system.cma_alloc_fail or 0) - (old.system.cma_alloc_fail or 0),
            events=events,
        )


def _less(new: int | None, old: int | None) -> int | None:
    return None if new is None or old is None else new - old


def pages_of(runs: tuple[Run, ...]) -> set[int]:
    """Return the bits of the runs."""
    return {bit for first, length in runs for bit in range(first, first + length)}


@contextmanager
def observed(guest: Guest, area: str) -> Iterator[Observer]:
    """Observe an area; skip where the kernel traces or counts less (before 6.9)."""
    with traced(guest.console, "cma:*") as trace:
        finish = trace.formats.get("cma_alloc_finish")
        if finish is None or "errorno" not in finish.conversions:
            pytest.skip("cma_alloc_finish tells no errorno (since 6.2, 9b2d38b4f0cc)")
        observer = Observer(guest, area, trace)
        if observer.area.release_pages_success is None:
            pytest.skip("sysfs has no release_pages_success (since 6.9, 00ea70196a3b)")
        yield observer


# `page` is a hashed address; the others came with 6.18, and with them another name for `count`.
NOT_TOLD = {"page", "available_count", "total_count"}
NAMES = {"request_count": "count"}


def told(events: tuple[Event, ...]) -> list[tuple[str, dict[str, int | str]]]:
    """Return the names and fields of events, as 6.12 has them."""
    return [
        (
            event.name,
            {
                NAMES.get(key, key): value
                for key, value in event.fields.items()
                if key not in NOT_TOLD
            },
        )
        for event in events
    ]


def test_an_allocation_and_its_release_are_told_alike_everywhere(
    guest: Guest, maker: Maker
) -> None:
    pages = 5
    with observed(guest, maker.area) as observer:
        assert maker.alloc(pages)
        made = observer.change()
        maker.free(pages)
        gone = observer.change()
    about = {"name": maker.area, "count": pages}
    asked = {**about, "align": maker.align(pages)}
    assert made.counts == (pages, pages, 0, 0, 1, 0)
    assert told(made.events) == [
        ("cma_alloc_start", asked),
        ("cma_alloc_finish", {**asked, "pfn": made.pfn, "errorno": 0}),
    ]
    assert gone.counts == (-pages, 0, 0, pages, 0, 0)
    assert told(gone.events) == [("cma_release", {**about, "pfn": made.pfn})]
    assert gone.pfn == made.pfn
    assert gone.events[0].fields["page"] == made.events[1].fields["page"]


def test_a_failure_for_want_of_room_is_told_alike_everywhere(
    guest: Guest, maker: Maker, cell: Prepared
) -> None:
    with observed(guest, maker.area) as observer:
        pages = observer.area.count
        assert maker.alloc(1)
        observer.change()
        assert not maker.alloc(pages)
        failed = observer.change()
    maker.free(1)
    asked = {"name": maker.area, "count": pages, "align": maker.align(pages)}
    # __cma_alloc() starts with pfn -1; since areas have ranges, no page is told as 0.
    nowhere = 0 if numbers(cell.kernel.version) >= (6, 15) else (1 << 32) - 1
    assert failed.counts == (0, 0, pages, 0, 0, 1)
    assert told(failed.events) == [
        ("cma_alloc_start", asked),
        ("cma_alloc_finish", {**asked, "pfn": nowhere, "errorno": no_room(cell.kernel.version)}),
    ]


def test_an_over_size_request_is_counted_in_all_places_or_in_none(
    guest: Guest, maker: Maker
) -> None:
    """6.12 returns before it counts, traces the end or prints (__cma_alloc(), mm/cma.c)."""
    with observed(guest, maker.area) as observer:
        pages = observer.area.count + 1
        assert not maker.alloc(pages)
        failed = observer.change()
    assert failed.counts in [(0, 0, 0, 0, 0, 0), (0, 0, pages, 0, 0, 1)]
    first, *rest = told(failed.events)
    asked = {"name": maker.area, "count": pages, "align": maker.align(pages)}
    assert first == ("cma_alloc_start", asked)
    assert len(rest) <= failed.vm_fail
    assert all(name == "cma_alloc_finish" and fields["errorno"] for name, fields in rest)


def test_pages_that_were_not_had_are_counted_beyond_32_bits(
    guest: Guest, by_debugfs: Maker
) -> None:
    """The counters of sysfs are 64 bits wide on a machine of 32, too (struct cma, mm/cma.h)."""
    most = (1 << 31) - 1  # cma_alloc_write() in mm/cma_debug.c makes an int of it
    with observed(guest, by_debugfs.area) as observer:
        assert [by_debugfs.alloc(most) for _ in range(3)] == [False] * 3
        failed = observer.change()
    assert failed.counts in [(0, 0, 0, 0, 0, 0), (0, 0, 3 * most, 0, 0, 3)]


def test_a_request_for_no_page_is_refused_and_counted_nowhere(
    guest: Guest, by_debugfs: Maker, cell: Prepared
) -> None:
    with observed(guest, by_debugfs.area) as observer:
        assert not by_debugfs.alloc(0)
        refused = observer.change()
    assert refused.counts == (0, 0, 0, 0, 0, 0)
    # 7.3 has seen that there is nothing to do before it begins.
    traced_first = numbers(cell.kernel.version) < (6, 15)
    assert [event.name for event in refused.events] == ["cma_alloc_start"] * traced_first


@pytest.mark.since("6.18", "the start of an allocation tells what the area has")
def test_a_start_tells_what_is_free_and_what_there_is(guest: Guest, by_debugfs: Maker) -> None:
    with observed(guest, by_debugfs.area) as observer:
        free = observer.area.count - observer.area.used
        assert by_debugfs.alloc(3)
        (start, _finish) = observer.change().events
        by_debugfs.free(3)
    assert start.fields["available_count"] == free
    assert start.fields["total_count"] == observer.area.count


def test_a_buffer_of_debugfs_is_freed_in_parts_from_its_start(
    guest: Guest, by_debugfs: Maker
) -> None:
    with observed(guest, by_debugfs.area) as observer:
        assert by_debugfs.alloc(7)
        made = observer.change()
        assert made.pfn is not None
        by_debugfs.free(3)
        first = observer.change()
        by_debugfs.free(4)
        rest = observer.change()
    about = {"name": by_debugfs.area}
    assert told(first.events) == [("cma_release", {**about, "pfn": made.pfn, "count": 3})]
    assert told(rest.events) == [("cma_release", {**about, "pfn": made.pfn + 3, "count": 4})]
    assert (first.used, first.release, rest.used, rest.release) == (-3, 3, -4, 4)


def test_freeing_more_than_debugfs_holds_frees_that_only(guest: Guest, by_debugfs: Maker) -> None:
    with observed(guest, by_debugfs.area) as observer:
        assert by_debugfs.alloc(2)
        assert by_debugfs.alloc(3)
        observer.change()
        by_debugfs.free(100)
        gone = observer.change()
    assert gone.counts == (-5, 0, 0, 5, 0, 0)
    # It keeps a list, newest first.
    assert [event.fields["count"] for event in gone.events] == [3, 2]


def test_the_accounting_holds_while_an_area_is_allocated_to_its_last_page(
    guest: Guest, by_debugfs: Maker
) -> None:
    """And when all of it is back: every page is free, a user's, or on a per-CPU list."""
    before = take(guest.console, pages=True)
    largest = before.area(by_debugfs.area).maxchunk
    assert largest
    assert by_debugfs.alloc(largest)
    during = take(guest.console, pages=True)
    by_debugfs.free(largest)
    after = take(guest.console, pages=True)
    area = during.area(by_debugfs.area)
    assert (area.used, area.maxchunk) == (area.count, 0)
    assert area.taken is not None
    assert area.taken.unnamed == area.count
    assert audit(None, during) == ()
    assert audit(before, after) == ()


def test_the_zones_manage_the_areas_pages_and_make_up_memtotal(
    guest: Guest, tmp_path: Path
) -> None:
    """What is not reserved is managed, in CMA or not (init_cma_reserved_pageblock(), 6.12)."""
    snapshot = take(guest.console)
    managed = {zone.name: zone.managed for zone in snapshot.zones}
    assert managed == {
        zone.name: zone.present - reserved(guest, tmp_path, zone.start_pfn, zone.spanned)
        for zone in snapshot.zones
    }
    assert sum(managed.values()) * PAGE == snapshot.system.mem_total << 10


def reserved(guest: Guest, tmp_path: Path, start_pfn: int, pages: int) -> int:
    """Count the pages, from `start_pfn` on, that /proc/kpageflags says are reserved."""
    some = 1024
    assert start_pfn % some == pages % some == 0
    copied = "/tmp/kpageflags"
    guest.console.run(
        f"dd if=/proc/kpageflags of={copied} bs={some * 8} skip={start_pfn // some} "
        f"count={pages // some} 2>/dev/null",
        SECONDS,
    ).checked("reading the pages' flags")
    local = tmp_path / "kpageflags"
    guest.get(copied, local)
    guest.console.run(f"rm {copied}", SECONDS).checked("removing the copy")
    flags = array("Q", local.read_bytes())
    assert len(flags) == pages
    return sum(bool(each & KPF_RESERVED) for each in flags)


def test_snapshots_of_an_idle_guest_are_alike(guest: Guest) -> None:
    """So that a change seen by the cases above is the operation's."""
    first, second = take(guest.console), take(guest.console)

    def counted(snapshot: Snapshot) -> tuple[object, ...]:
        system = snapshot.system
        return (snapshot.areas, system.cma_alloc_success, system.cma_alloc_fail, system.cma_total)

    assert counted(first) == counted(second)
