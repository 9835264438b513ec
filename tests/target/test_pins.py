"""Pages that somebody holds a reference to cannot move: what an allocation does about them.

A short-term pin (FOLL_GET; here vmsplice(2) into a pipe) stays where it is, and the allocation that
needs its page fails or goes elsewhere. A long-term pin (FOLL_LONGTERM; here a buffer registered
with io_uring) may not stay in CMA: the pages move out before they are pinned, since 9a4e9f3b2d73
("mm: update get_user_pages_longterm to migrate pages allocated from CMA region", 5.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from debugfs import opened
from state import Run, read_state
from taking import MIB, RANGE, Own, ranges_with

from harness.cma.answers import ProgramError
from harness.cma.areas import PAGE
from harness.cma.occupy import Occupant, occupied
from harness.cma.tracing import traced
from harness.guest.guest import Guest

# Filling an area makes memory short elsewhere; of high memory the heap has none in 5.10.
pytestmark = pytest.mark.since(
    "5.11", "the system dma-buf heap, which makes memory short, has high memory too"
)

SIZE = 8 * MIB
LEAST = 1024
EVENTS = ("cma:cma_alloc_busy_retry", "cma:cma_alloc_finish")


@dataclass(frozen=True, slots=True)
class Pinned:
    """Pages in the area, the pinned ones among them, and how many ranges were free without those.

    A pinned page in a range that is never free, as that of the atomic pool, takes none away.
    """

    occupant: Occupant
    frames: tuple[int, ...]
    ranges: int


@pytest.fixture
def pinned(guest: Guest, own: Own) -> Iterator[Pinned]:
    """An area with one pinned page in each of its ranges that have pages of a process."""
    free = own.take_ranges()
    own.give_back()
    with occupied(guest.console, "anon", own.area.name, SIZE) as occupant:
        assert occupant.held.inside >= LEAST
        pinned = occupant.pin(every=RANGE)
        frames = tuple(frame for frame in pinned if ranges_with(free, frame))
        assert frames
        yield Pinned(occupant, frames, len(free))


def test_an_allocation_goes_round_pinned_pages(own: Own, pinned: Pinned) -> None:
    taken = own.take_ranges()
    assert len(taken) == pinned.ranges - len(pinned.frames)
    assert [ranges_with(taken, frame) for frame in pinned.frames] == [[]] * len(pinned.frames)
    assert pinned.occupant.check().intact


def test_an_allocation_that_needs_a_pinned_page_fails_cleanly(
    own: Own, pinned: Pinned, kernel_log: Callable[[], tuple[str, ...]]
) -> None:
    """EBUSY, told once and by name; nothing is taken, moved back or lost."""
    own.take_ranges()
    before = own.used()
    with pytest.raises(ProgramError) as failed:
        own.helper.alloc(RANGE)
    told = [line for line in kernel_log() if "alloc failed" in line]
    assert failed.value.errno_name == "ENOSPC"
    assert own.used() == before
    assert len(told) == 1
    assert f"req-size: {RANGE // 4096} pages, ret: -16" in told[0]
    assert pinned.occupant.check().intact


@pytest.mark.since("6.2", "cma_alloc_finish tells the errno (9b2d38b4f0cc)")
def test_each_range_is_tried_once(guest: Guest, own: Own, pinned: Pinned) -> None:
    """The search goes on behind a busy range (mm/cma.c, `start = bitmap_no + mask + 1`)."""
    own.take_ranges()
    with traced(guest.console, *EVENTS) as trace:
        with pytest.raises(ProgramError):
            own.helper.alloc(RANGE, attrs=("no-warn",))
        busy = [event.number("pfn") for event in trace.events("cma_alloc_busy_retry")]
        ends = [event.number("errorno") for event in trace.events("cma_alloc_finish")]
    assert busy == sorted({frame * 4096 // RANGE * RANGE // 4096 for frame in pinned.frames})
    assert ends == [-16]


def test_a_request_without_alignment_is_tried_at_the_very_next_page(guest: Guest, own: Own) -> None:
    """Also when it is longer than a page: debugfs asks for no alignment, so the search's `mask` is
    0. All that is free before the pinned page is taken first."""
    with occupied(guest.console, "anon", own.area.name, SIZE) as occupant:
        (frame,) = occupant.pin()
        page = frame - own.area.base // PAGE
        found = read_state(guest.console).areas[own.area.name]
        below = [min(run.end, page) - run.first for run in found.runs("0") if run.first < page]
        with opened(guest, found) as directory:
            *_, before, after = (
                found,
                *directory.states(*(("alloc", pages) for pages in (*below, 100))),
            )
            assert before.runs("0")[0].first == page
            assert after.taken_since(before) == (Run(page + 1, 100),)
        assert occupant.check().intact


def test_what_was_pinned_is_to_be_had_after_its_release(own: Own, pinned: Pinned) -> None:
    own.take_ranges()
    released = pinned.occupant.unpin()
    assert released.drained >= len(pinned.frames)
    assert released.bad == 0
    taken = own.take_ranges()
    assert len(taken) == pinned.ranges
    assert [len(ranges_with(taken, frame)) for frame in pinned.frames] == [1] * len(pinned.frames)
    after = pinned.occupant.check()
    assert after.intact, after


@pytest.mark.parametrize(
    "kind", ["anon", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("shared", "mixed"))]
)
def test_a_long_term_pin_moves_pages_out_first(guest: Guest, own: Own, kind: str) -> None:
    with occupied(guest.console, kind, own.area.name, SIZE) as occupant:
        assert occupant.held.inside >= LEAST // 2
        fixed = occupant.fix()
        assert fixed.in_cma == 0
        assert fixed.moved >= occupant.held.inside
        own.take_all()
        after = occupant.check()
        assert after.moved == fixed.moved, "a page moved while it was pinned"
        assert after.intact, after
        occupant.unpin()
