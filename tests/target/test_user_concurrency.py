"""Several threads, several devices, memory pressure, forks and kills, all at once."""

from __future__ import annotations

import pytest
from taking import MIB, Own

from harness.cell import Prepared
from harness.cma.areas import survey
from harness.cma.churn import Churned, churn
from harness.cma.helper import DEFAULT_DEVICE, Helper
from harness.cma.occupy import ALL_AREAS, occupied
from harness.guest.guest import Guest

SECONDS = 60.0


@pytest.fixture
def devices(cell: Prepared, helper: Helper) -> list[str]:
    """The devices of all areas."""
    areas = cell.cell.layout.area
    own = [f"{DEFAULT_DEVICE}-{area.node}" for area in areas if area.device]
    return [DEFAULT_DEVICE] * any(area.default for area in areas) + own


def sound(found: Churned) -> None:
    """Assert that no page was handed out twice, and none with somebody's content."""
    assert found.buffers > 0
    assert (found.corrupt, found.not_zero) == (0, 0), found


def test_devices_at_once_get_pages_of_their_own(guest: Guest, devices: list[str]) -> None:
    before = survey(guest.console).areas
    sound(churn(guest.console, devices, rounds=40, workers=2, background=["--fork", "--anon"]))
    assert survey(guest.console).areas == before


def test_devices_at_once_get_pages_of_their_own_when_memory_is_short(
    guest: Guest, devices: list[str]
) -> None:
    """What others have in the areas moves from one to another meanwhile, and stays whole."""
    before = survey(guest.console).areas
    with occupied(guest.console, "anon", ALL_AREAS, 8 * MIB, keep_short=True) as occupant:
        sound(churn(guest.console, devices, rounds=40, workers=2, background=["--fork", "--anon"]))
        assert occupant.check().intact
    assert survey(guest.console).areas == before


@pytest.mark.long
def test_many_workers_of_one_area_find_no_lost_page(guest: Guest, own: Own) -> None:
    """More than there is room for: some fail, none of the pages is lost or had by two."""
    found = churn(guest.console, [own.device], rounds=40, workers=8, largest=4 * MIB)
    sound(found)
    assert own.used() == 0
    own.take_all()
