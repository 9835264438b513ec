"""What the kernel's log says of an allocation that failed: __cma_alloc(), cma_debug_show_areas().

Two lines: that it failed, with the area's name, pages and errno; and the free runs
as PAGES@FIRST, joined by "+", with their sum. The first is rate-limited to ten in five seconds
(pr_err_ratelimited()), the second is not.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest
from debugfs import Debugfs, opened
from kernel_log import marked
from state import AreaState, no_room, read_state

from harness.cell import Prepared
from harness.cma.answers import ProgramError
from harness.cma.areas import LiveArea
from harness.cma.helper import Helper
from harness.config import numbers
from harness.guest.guest import Guest

pytestmark = pytest.mark.usefixtures("some_area")

FAILED = re.compile(r"cma: (?:__)?cma_alloc(?:_frozen)?: (?:.+: )?alloc failed, req-size: ")
TELLS_WHAT_IS_FREE = pytest.mark.since("6.12", "6.1 tells it with CONFIG_CMA_DEBUG only")
FREE = "cma: number of available pages: "
# DEFAULT_RATELIMIT_INTERVAL of include/linux/ratelimit_types.h, and a jiffy.
INTERVAL = 5.1


@pytest.fixture(params=["first", "last"])
def directory(request: pytest.FixtureRequest, guest: Guest) -> Generator[Debugfs, None, None]:
    """The area at the lowest address, and the one at the highest."""
    areas = sorted(read_state(guest.console).areas.values(), key=lambda area: area.base_pfn)
    if len(areas) == 1 and request.param == "last":
        pytest.skip("the layout has one area")
    with opened(guest, areas[0 if request.param == "first" else -1]) as found:
        yield found


class Log:
    """CMA's messages of a stretch of time."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self.lines: tuple[str, ...] = ()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Keep the messages that come within the block."""
        since = marked(self._guest)
        yield
        self.lines = tuple(line for line in since() if line.startswith("cma: "))


@pytest.fixture
def log(guest: Guest) -> Log:
    return Log(guest)


def free_runs(area: AreaState, version: str) -> tuple[str, ...]:
    """The lines about what is free that belong to an area's bitmap."""
    runs = area.runs("0")
    listed = "+".join(f"{run.pages}@{run.first}" for run in runs)
    if numbers(version) < (6, 12):
        return ()
    if numbers(version) < (6, 15):
        free = sum(run.pages for run in runs)
        return (f"{FREE}{listed}=> {free} free of {area.count} total pages",)
    # With ranges, of which an area of the device tree has one; the first + is there unless page 0
    # is free, and the sum comes without a prefix (cma_debug_show_areas(), 7.3).
    plus = "+" if runs and runs[0].first else ""
    return (FREE, f"cma: range 0: {plus}{listed}", "cma: ")


def but_the_failure(log: Log) -> tuple[str, ...]:
    """What else was told: the failure itself is not, when ten others failed just now."""
    return tuple(line for line in log.lines if not FAILED.match(line))


@TELLS_WHAT_IS_FREE
def test_the_free_runs_are_those_of_the_bitmap(
    directory: Debugfs, log: Log, cell: Prepared
) -> None:
    """Holes of 3, 11 and all that is left: freed parts are the fronts of allocations."""
    steps = [("alloc", 8), ("free", 3), ("alloc", 20), ("free", 11), ("alloc", 64)]
    now = directory.states(*steps)[-1]
    assert len(now.runs("0")) > len(directory.before.runs("0"))
    with log.taken():
        directory.write(("alloc", now.count))
    assert but_the_failure(log) == free_runs(now, cell.kernel.version)


@TELLS_WHAT_IS_FREE
def test_a_full_area_has_no_free_runs(guest: Guest, log: Log, cell: Prepared) -> None:
    smallest = min(read_state(guest.console).areas.values(), key=lambda area: area.count)
    with opened(guest, smallest) as directory:
        for run in smallest.runs("0"):
            (full,) = directory.states(("alloc", run.pages))
        with log.taken():
            directory.write(("alloc", 1))
    assert full.used == full.count
    assert but_the_failure(log) == free_runs(full, cell.kernel.version)


@pytest.mark.since("6.1", "5.10 does not say which area it was")
def test_a_failure_is_told_with_area_pages_and_errno(
    directory: Debugfs, log: Log, cell: Prepared
) -> None:
    directory.states(("alloc", 1))
    asked = directory.before.longest
    with log.taken():
        directory.write(("alloc", asked))
    if not any(FAILED.match(line) for line in log.lines):
        # Ten others failed within these five seconds; the next interval must tell of this one.
        with log.taken():
            directory.guest.console.run(f"sleep {INTERVAL}", timeout=30)
            directory.write(("alloc", asked))
    told = [line for line in log.lines if FAILED.match(line)]
    assert len(told) == 1
    function, _, rest = told[0].removeprefix("cma: ").partition(": ")
    # The second since cma_alloc_folio(), 6.12; the third in 7.3.
    assert function in ("cma_alloc", "__cma_alloc", "__cma_alloc_frozen")
    why = no_room(cell.kernel.version)
    assert rest == f"{directory.name}: alloc failed, req-size: {asked} pages, ret: {why}"
    behind = log.lines[log.lines.index(told[0]) + 1 :]
    assert behind == free_runs(directory.now(), cell.kernel.version)


def test_an_allocation_that_succeeds_is_not_told(directory: Debugfs, log: Log) -> None:
    with log.taken():
        directory.states(("alloc", 100), ("free", 100))
    assert log.lines == ()


def test_no_warn_keeps_both_lines_back(helper: Helper, area: LiveArea, log: Log) -> None:
    helper.alloc(1)
    with log.taken(), pytest.raises(ProgramError, match=r"answered ENOSPC$"):
        helper.alloc(area.size, attrs=("no-warn",))
    assert log.lines == ()
