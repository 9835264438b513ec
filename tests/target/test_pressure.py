"""Areas when memory is short: who may use them, who may not, and what an allocation meets there."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable

import pytest
from taking import MIB, RANGE, Own

from harness.cma.areas import PAGE
from harness.cma.churn import churn
from harness.cma.counters import Pages, take
from harness.cma.occupy import ANYWHERE, occupied
from harness.guest.guest import Guest

# Filling an area makes memory short elsewhere; of high memory the heap has none in 5.10.
pytestmark = pytest.mark.since(
    "5.11", "the system dma-buf heap, which makes memory short, has high memory too"
)

SHORT = 12 * MIB  # what is free outside of CMA when memory is short
KERNEL = 4 * MIB  # of page tables, pipes, stacks and files
ROOM = 20 * MIB  # outside of CMA: enough for those, and less than what is free in CMA
Metric = Callable[[str, float, str], None]


def free_outside(guest: Guest) -> int:
    """Bytes of free memory that is not CMA's."""
    system = take(guest.console).system
    return (system.mem_free - system.cma_free) << 10


def counters(guest: Guest, *names: str) -> list[int]:
    """Counters of /proc/vmstat."""
    text = guest.console.run("cat /proc/vmstat", 30).output
    return [int(re.findall(rf"^{name} (\d+)$", text, re.M)[0]) for name in names]


def not_allocated(guest: Guest) -> dict[str, Pages]:
    """What the pages are, by area, that CMA has not handed out."""
    return {area.name: area.open for area in take(guest.console, pages=True).areas if area.open}


@pytest.mark.parametrize("pieces", [16 * MIB, 48 * MIB], ids=["16M", "48M"])
def test_low_memory_stays_free_when_high_memory_is_in_pieces(
    guest: Guest, own: Own, pieces: int
) -> None:
    """What all cases here rely on: the kernel has what it needs for itself while memory is short.
    Else it is not the allocation of an area that fails, but any, and the OOM killer comes."""
    with (
        occupied(guest.console, "scattered", ANYWHERE, pieces, name="2"),
        occupied(guest.console, "anon", own.area.name, 8 * MIB, keep_short=True),
    ):
        zones = [
            zone for zone in take(guest.console).zones if zone.name not in ("HighMem", "Movable")
        ]
        pages = sum(zone.nr_free_pages - zone.nr_free_cma + zone.per_cpu for zone in zones)
        assert pages * PAGE >= SHORT - MIB, zones  # of which it has used some


def test_movable_memory_fills_the_area_when_there_is_no_other(guest: Guest, own: Own) -> None:
    """Else the area's memory would be idle, which is what CMA is there to avoid: whatever was free
    outside, the rest has to lie in the area."""
    size = own.area.size * 7 // 8
    with occupied(guest.console, "anon", own.area.name, size, margin=SHORT) as occupant:
        held = occupant.held
        assert (held.pages - held.inside) * PAGE <= SHORT + MIB
        assert not_allocated(guest)[own.area.name].movable >= held.inside
        assert occupant.check().intact
    own.take_all()


def test_movable_memory_uses_the_area_before_the_rest_ends(guest: Guest, own: Own) -> None:
    """While over half of a zone's free memory is CMA's, movable pages are taken from there: since
    16867664936e ("mm,page_alloc,cma: conditionally prefer cma pageblocks for movable allocations",
    5.8). A kernel that takes CMA last has used up what is outside by then."""
    with occupied(guest.console, "anon", own.area.name, 2 * MIB, keep_short=True) as occupant:
        assert occupant.held.inside >= occupant.held.pages * 3 // 4
        assert free_outside(guest) >= 6 * MIB


@pytest.mark.parametrize(
    "filled", [False, pytest.param(True, marks=pytest.mark.long)], ids=["empty", "filled"]
)
def test_memory_that_cannot_move_never_lands_in_an_area(
    guest: Guest, own: Own, filled: bool
) -> None:
    """Page tables, pipes, stacks and slab, when there is hardly any memory outside the area.

    They stay while the whole area is allocated, which could not be if one were in it.
    """
    size = own.area.size // 2 if filled else 64 * PAGE
    kinds = ("nr_page_table_pages", "nr_kernel_stack", "nr_slab_unreclaimable", "nr_free_pages")
    short = {"keep_short": True, "margin": ROOM}
    with occupied(guest.console, "anon", own.area.name, size, **short) as occupant:
        before = counters(guest, *kinds)
        with occupied(guest.console, "kernel", own.area.name, KERNEL, name="2", **short) as load:
            after = counters(guest, *kinds)
            grown = [now - then for now, then in zip(after, before, strict=True)]
            assert min(grown[:3]) >= KERNEL // PAGE // 16, dict(zip(kinds, grown, strict=True))
            left = not_allocated(guest)
            assert own.area.name in left
            assert {name: found for name, found in left.items() if found.unmovable} == {}
            load.relax()
            occupant.relax()
            own.take_all()
        assert occupant.check().intact


@pytest.mark.long
@pytest.mark.parametrize("background", ["--fork", "--anon", "--cache"])
def test_allocations_succeed_while_memory_is_churned(
    guest: Guest, own: Own, disk_file: str, background: str, metric: Metric
) -> None:
    """In a device's own area, with room to spare and nothing pinned for good."""
    option = f"--cache={disk_file}" if background == "--cache" else background
    with occupied(
        guest.console, "anon", own.area.name, 4 * MIB, keep_short=True, margin=ROOM
    ) as occupant:
        found = churn(guest.console, [own.device], rounds=60, background=[option])
        metric("buffers", found.buffers, "")
        metric("failed", found.failed, "")
        metric("alloc_median", found.median_ns, "ns")
        metric("alloc_max", found.max_ns, "ns")
        assert found.forks + found.maps + found.drops > 0, "nothing was churned"
        assert (found.not_zero, found.corrupt) == (0, 0)
        assert found.failed == 0
        assert occupant.check().intact
    assert own.used() == 0


@pytest.mark.long
def test_the_latency_of_an_allocation_is_recorded(guest: Guest, own: Own, metric: Metric) -> None:
    """Of ranges that are empty, and of such whose pages have to move; the guest's clock."""
    took: dict[str, list[int]] = {}
    for state, size in (("empty", 16 * PAGE), ("full", own.area.size * 3 // 4)):
        with occupied(guest.console, "anon", own.area.name, size) as occupant:
            ranges = (own.area.size // RANGE) - 1  # the atomic pool may be in one of them
            took[state] = [own.helper.alloc(RANGE).took_ns for _ in range(ranges)]
            assert occupant.check().intact
        own.give_back()
        metric(f"alloc_{state}_median", statistics.median(took[state]), "ns")
        metric(f"alloc_{state}_max", max(took[state]), "ns")
    metric("range", RANGE, "bytes")
    assert own.used() == 0
