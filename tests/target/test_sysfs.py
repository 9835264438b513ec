"""The counters of an area in sysfs, and of all areas in /proc/vmstat: mm/cma_sysfs.c, mm/cma.c.

Documentation/ABI/testing/sysfs-kernel-mm-cma: sysfs counts pages, of one area. /proc/vmstat's
cma_alloc_success and cma_alloc_fail count calls, of all areas.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping

import pytest
from debugfs import Debugfs, opened
from state import AreaState, State, read_state

from harness.cell import Prepared
from harness.cma.answers import ProgramError
from harness.cma.areas import PAGE, SYSFS, LiveArea
from harness.cma.helper import Helper
from harness.guest.guest import Guest
from harness.layout.cmdline import areas_of

pytestmark = pytest.mark.usefixtures("some_area")

FILES = ("alloc_pages_fail", "alloc_pages_success", "release_pages_success")


@pytest.fixture
def state(guest: Guest) -> Callable[[], State]:
    """Read the files of all areas, now."""
    return lambda: read_state(guest.console)


@pytest.fixture
def before(state: Callable[[], State]) -> State:
    """How the case found all areas."""
    return state()


@pytest.fixture
def areas(guest: Guest, before: State) -> Generator[tuple[Debugfs, ...], None, None]:
    """The debugfs directories of all areas."""
    directories = tuple(Debugfs(guest, area) for area in before.areas.values())
    yield directories
    for directory in directories:
        with opened(guest, directory.before):
            pass


def pages_since(now: State, before: State) -> dict[str, tuple[int, int, int]]:
    """The pages each area succeeded and failed to allocate, and released."""
    return {
        name: (
            now.areas[name].succeeded - area.succeeded,
            now.areas[name].failed - area.failed,
            now.areas[name].released - area.released,
        )
        for name, area in before.areas.items()
    }


def calls_since(now: State, before: State) -> tuple[int, int]:
    """The calls that succeeded and failed, in all areas together."""
    return now.success - before.success, now.fail - before.fail


def none_but(name: str, state: State, pages: tuple[int, int, int]) -> Mapping[str, object]:
    return dict.fromkeys(state.areas, (0, 0, 0)) | {name: pages}


def unbalanced(state: State) -> list[AreaState]:
    """The areas whose counters do not tell how many pages are in use."""
    return [area for area in state.areas.values() if area.succeeded - area.released != area.used]


def test_every_area_has_its_counters_and_they_are_read_only(guest: Guest, cell: Prepared) -> None:
    listed = guest.console.run(f"cd {SYSFS} && stat -c '%n %a' */*", timeout=30).output
    present = set(listed.splitlines())
    names = areas_of(cell.cell.layout)
    if f"{names[0]}/release_pages_success 444" not in present:
        pytest.skip("release_pages_success came with 6.9")
    assert {f"{name}/{file} 444" for name in names for file in FILES} <= present
    assert {line.split("/")[0] for line in present} == set(names)
    assert {line.split()[-1] for line in present} == {"444"}


@pytest.mark.since("5.13", "sysfs has areas (43ca106fa8ec)")
def test_counters_cannot_be_written(
    guest: Guest, before: State, state: Callable[[], State]
) -> None:
    for name, area in before.areas.items():
        assert area.counters
        for file in area.counters:
            done = guest.console.run(f"echo 0 >'{SYSFS}/{name}/{file}'", timeout=30)
            assert done.output.strip().endswith(": Permission denied")
    assert state() == before


def test_allocated_pages_count_in_their_area_alone(
    areas: tuple[Debugfs, ...], before: State, state: Callable[[], State]
) -> None:
    for directory in areas:
        start = state()
        directory.states(("alloc", 37))
        assert pages_since(state(), start) == none_but(directory.name, before, (37, 0, 0))


def test_released_pages_count_in_their_area_alone(
    areas: tuple[Debugfs, ...], before: State, state: Callable[[], State]
) -> None:
    for directory in areas:
        directory.states(("alloc", 37))
        start = state()
        directory.states(("free", 12))
        assert pages_since(state(), start) == none_but(directory.name, before, (0, 0, 12))


def test_pages_that_could_not_be_allocated_count_as_failed(
    areas: tuple[Debugfs, ...], before: State, state: Callable[[], State]
) -> None:
    """A request of the whole area, of which one page is in use."""
    for directory in areas:
        directory.states(("alloc", 1))
        start = state()
        count = directory.before.count
        (step,) = directory.write(("alloc", count))
        assert step.error == "Cannot allocate memory"
        assert pages_since(state(), start) == none_but(directory.name, before, (0, count, 0))


def test_vmstat_counts_calls_whatever_their_size(
    areas: tuple[Debugfs, ...], state: Callable[[], State]
) -> None:
    start = state()
    for directory in areas:
        directory.write(("alloc", 1), ("alloc", 250), ("alloc", directory.before.count))
    assert calls_since(state(), start) == (2 * len(areas), len(areas))


def test_releasing_is_no_call_that_vmstat_counts(
    areas: tuple[Debugfs, ...], state: Callable[[], State]
) -> None:
    areas[0].states(("alloc", 20))
    start = state()
    areas[0].states(("free", 5), ("free", 15))
    assert calls_since(state(), start) == (0, 0)


def test_sysfs_and_vmstat_agree_on_what_is_over_size(
    areas: tuple[Debugfs, ...], state: Callable[[], State]
) -> None:
    """6.1 counts more pages than the area has as a failure; 6.12 returns before it counts."""
    start = state()
    asked = areas[0].before.count + 1
    (step,) = areas[0].write(("alloc", asked))
    assert step.error == "Cannot allocate memory"
    now = state()
    succeeded, failed, released = pages_since(now, start)[areas[0].name]
    calls = calls_since(now, start)
    assert (succeeded, released, calls[0]) == (0, 0, 0)
    assert (failed, calls[1]) in ((0, 0), (asked, 1))


def test_counters_tell_how_many_pages_are_in_use(
    areas: tuple[Debugfs, ...], before: State, state: Callable[[], State]
) -> None:
    """success - release = used, from boot on and behind every step."""
    assert unbalanced(before) == []
    for directory in areas:
        full = directory.before.count
        steps = [("alloc", 3), ("alloc", full), ("alloc", 90), ("free", 50), ("free", 43)]
        for step in directory.write(*steps):
            assert step.area.succeeded - step.area.released == step.area.used
    assert unbalanced(state()) == []


def test_dma_buffers_count_too(helper: Helper, area: LiveArea, state: Callable[[], State]) -> None:
    """A success, a release and a failure, through dma_alloc_attrs()."""
    start = state()
    made = helper.alloc(5000)
    assert pages_since(state(), start)[area.name] == (2, 0, 0)
    helper.free(made.handle)
    assert pages_since(state(), start)[area.name] == (2, 0, 2)
    helper.alloc(1)
    with pytest.raises(ProgramError, match=r"answered ENOSPC$"):
        helper.alloc(area.size, attrs=("no-warn",))
    now = state()
    assert pages_since(now, start)[area.name] == (3, area.size // PAGE, 2)
    assert calls_since(now, start) == (2, 1)
