"""Several threads, several devices, memory pressure, forks and kills, all at once."""

from __future__ import annotations

import pytest
from taking import MIB, Own

from harness.cell import Prepared
from harness.cma.areas import survey
from harness.cma.churn import Churned, churn
from harness.cma.helper import DEFAULT_DEVICE, Helper
from harness.cma.occupy import ALL_AREAS, occupied
from harness.cma.tracing import traced
from harness.guest.guest import Guest
from harness.layout.cmdline import default_area

SECONDS = 60.0
ROOM = 40 * MIB  # outside of CMA: for what moves out while buffers fill the areas

# Filling an area makes memory short elsewhere; of high memory the heap has none in 5.10.
HIGH_HEAP = pytest.mark.since("5.11", "the system dma-buf heap has high memory too")


@pytest.fixture
def devices(cell: Prepared, helper: Helper) -> list[str]:
    """The devices of all areas."""
    layout = cell.cell.layout
    own = [f"{DEFAULT_DEVICE}-{area.node}" for area in layout.area if area.device]
    found = [DEFAULT_DEVICE] * bool(default_area(layout)) + own
    if not found:
        pytest.skip(f"layout {layout.name!r} has no area that a device can use")
    return found


def sound(found: Churned) -> None:
    """Assert that no page was handed out twice, and none with somebody's content."""
    assert found.buffers > 0
    assert (found.corrupt, found.not_zero) == (0, 0), found


@pytest.mark.long
def test_devices_at_once_get_pages_of_their_own(guest: Guest, devices: list[str]) -> None:
    before = survey(guest.console).areas
    sound(churn(guest.console, devices, rounds=40, workers=2, background=["--fork", "--anon"]))
    assert survey(guest.console).areas == before


@HIGH_HEAP
def test_devices_at_once_get_pages_of_their_own_when_memory_is_short(
    guest: Guest, devices: list[str]
) -> None:
    """What others have in the areas moves from one to another meanwhile, and stays whole."""
    before = survey(guest.console).areas
    with occupied(
        guest.console, "anon", ALL_AREAS, 8 * MIB, keep_short=True, margin=ROOM
    ) as occupant:
        sound(churn(guest.console, devices, rounds=16, workers=2, background=["--fork", "--anon"]))
        assert occupant.check().intact
    assert survey(guest.console).areas == before


@pytest.mark.long
def test_many_workers_of_one_area_find_no_lost_page(guest: Guest, own: Own) -> None:
    """More than there is room for: some fail, none of the pages is lost or had by two."""
    found = churn(guest.console, [own.device], rounds=40, workers=8, largest=4 * MIB)
    sound(found)
    assert own.used() == 0
    own.take_all()


@pytest.mark.since("6.2", "cma_alloc_finish tells the errno (9b2d38b4f0cc)")
@pytest.mark.parametrize(
    ("event", "count"),
    [
        pytest.param("cma/cma_alloc_start", 1, id="before", marks=pytest.mark.long),
        pytest.param("migrate/mm_migrate_pages", 3, id="between"),
    ],
)
def test_a_killed_allocation_takes_nothing(guest: Guest, own: Own, event: str, count: int) -> None:
    """A fatal signal ends it with EINTR, before the first page moves or between two batches of
    pages (fatal_signal_pending() in __alloc_contig_migrate_range()); range and pages are kept."""
    with occupied(guest.console, "anon", own.area.name, own.area.size * 3 // 4) as occupant:
        with traced(guest.console, "cma:cma_alloc_finish") as trace:
            command = f"cma-kill {event} {count} {own.device} {own.area.size // 2}"
            assert guest.console.run(command, SECONDS).status == 128 + 9
            ends = [finish.number("errorno") for finish in trace.events()]
        assert ends == [-4]
        assert (own.helper.list(), own.used()) == ((), 0)
        cut = occupant.check()
        assert cut.intact, cut
        assert 0 < cut.inside <= occupant.held.inside
        own.take_all()
        assert occupant.check().intact
