"""Areas that belong to a device: nobody else allocates there, and it allocates nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from placement import outside, overlapping

from harness.cell import Prepared
from harness.cma.answers import ProgramError
from harness.cma.areas import PAGE, LiveArea, survey
from harness.cma.helper import DEFAULT_DEVICE, Helper
from harness.guest.guest import Guest

KIB = 1 << 10
SIZES = (1, 5000, 64 * KIB, 1024 * KIB)


@dataclass(frozen=True, slots=True)
class Side:
    """A device, and its area as it was before the test."""

    helper: Helper
    device: str
    area: LiveArea


@pytest.fixture
def private(guest: Guest, cell: Prepared, helper: Helper) -> Side:
    """The first device area of the layout."""
    layout = cell.cell.layout
    name = next((area.node for area in layout.area if area.device), None)
    if name is None:
        pytest.skip(f"layout {layout.name!r} gives no area to a device")
    device = f"{DEFAULT_DEVICE}-{name}"
    return Side(Helper(guest.console, device=device), device, survey(guest.console).area(name))


@pytest.fixture
def shared(helper: Helper, area: LiveArea) -> Side:
    """The default area."""
    return Side(helper, DEFAULT_DEVICE, area)


@pytest.fixture(params=["private", "shared"])
def sides(request: pytest.FixtureRequest, private: Side, shared: Side) -> tuple[Side, Side]:
    """The two, in either order: the one that acts, and the one that is left alone."""
    return (private, shared) if request.param == "private" else (shared, private)


def test_a_device_allocates_only_in_its_own_area(private: Side, shared: Side) -> None:
    for side in (private, shared):
        for size in SIZES:
            side.helper.alloc(size)
    mine, theirs = private.helper.list(), shared.helper.list()
    assert (len(mine), len(theirs)) == (len(SIZES), len(SIZES))
    assert outside(mine, private.area) == []
    assert outside(theirs, shared.area) == []
    assert overlapping(mine + theirs) == []


def test_used_of_the_acting_area_moves_alone(guest: Guest, sides: tuple[Side, Side]) -> None:
    acting, other = sides
    acting.helper.alloc(64 * KIB)
    now = survey(guest.console)
    assert now.area(acting.area.name).used - acting.area.used == 64 * KIB // PAGE
    assert now.area(other.area.name).used == other.area.used
    acting.helper.read_oldest()
    assert survey(guest.console).area(acting.area.name).used == acting.area.used


def test_exhausting_one_area_leaves_the_other(guest: Guest, sides: tuple[Side, Side]) -> None:
    acting, other = sides
    kib = acting.area.size // 8 // KIB
    guest.run(f"while echo {kib} >{acting.device}; do :; done 2>/dev/null")
    with pytest.raises(ProgramError, match=r"answered ENOSPC$"):
        acting.helper.write_kib(kib)
    assert outside(acting.helper.list(), acting.area) == []
    other.helper.alloc(1024 * KIB)
    assert outside(other.helper.list(), other.area) == []


def test_each_device_has_a_queue_of_its_own(private: Side, shared: Side) -> None:
    shared.helper.write_kib(4)
    private.helper.write_kib(8)
    private.helper.read_oldest()
    with pytest.raises(ProgramError, match=r"answered EIDRM$"):
        private.helper.read_oldest()
    assert [buffer.size for buffer in shared.helper.list()] == [4 * KIB]


def test_unloading_empties_both(guest: Guest, private: Side, shared: Side) -> None:
    for side in (private, shared):
        side.helper.alloc(1024 * KIB)
    guest.run("rmmod cma_test").checked("unloading with live buffers")
    now = survey(guest.console)
    guest.run("insmod /lib/cma/cma_test.ko").checked("loading again, as `helper` left it")
    assert [now.area(side.area.name).used for side in (private, shared)] == [
        private.area.used,
        shared.area.used,
    ]
