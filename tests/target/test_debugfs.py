"""debugfs' view of an area, and its alloc and free: mm/cma_debug.c.

Documentation/admin-guide/mm/cma_debugfs.rst says what the files are. `free` gives pages back in
the opposite order of the allocations, the last one first, and of one that it does not need whole
the first pages (cma_free_mem()).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import PurePath

import pytest
from debugfs import Debugfs, Step, opened
from state import WORD, AreaState, Run, State, read_state
from taking import need_room

from harness.cell import Prepared
from harness.cma.areas import DEBUGFS, PAGE
from harness.guest.guest import Guest
from harness.layout.cmdline import areas_of

pytestmark = pytest.mark.usefixtures("some_area")

MODES = {
    "alloc": "200",
    "free": "200",
    "base_pfn": "444",
    "bitmap": "444",
    "count": "444",
    "maxchunk": "444",
    "order_per_bit": "444",
    "used": "444",
}
READABLE = sorted(name for name, mode in MODES.items() if mode == "444")


@pytest.fixture
def state(guest: Guest) -> Callable[[], State]:
    """Read the files of all areas, now."""
    return lambda: read_state(guest.console)


@pytest.fixture(params=["default", "device"])
def debugfs(
    request: pytest.FixtureRequest, guest: Guest, cell: Prepared, state: Callable[[], State]
) -> Generator[Debugfs, None, None]:
    """The default area, and the first that belongs to a device."""
    wanted = (
        area for area in cell.cell.layout.area if bool(area.default) is (request.param == "default")
    )
    area = next(wanted, None)
    if area is None:
        pytest.skip(f"layout {cell.cell.layout.name!r} has no {request.param} area")
    need_room(cell.cell.layout, area.node)
    with opened(guest, state().areas[area.node]) as directory:
        yield directory


@pytest.fixture
def smallest(guest: Guest, state: Callable[[], State]) -> Generator[Debugfs, None, None]:
    """The smallest area, for cases that need all of it."""
    found = min(state().areas.values(), key=lambda area: area.count)
    with opened(guest, found) as directory:
        yield directory


def bits_of(area: AreaState, *runs: Run) -> str:
    """The bitmap of an area with those pages in use besides."""
    bits = list(area.bits)
    for run in runs:
        bits[run.first : run.end] = "1" * run.pages
    return "".join(bits)


def test_every_area_has_its_files(guest: Guest, cell: Prepared, state: Callable[[], State]) -> None:
    """Since 6.15 two of them are links to the first range's, of which a node's area has no more."""
    command = f"cd {DEBUGFS} && stat -L -c '%n %a' */*"
    listed = set(guest.console.run(command, timeout=30).output.splitlines())
    areas = state().areas
    assert areas.keys() == set(areas_of(cell.cell.layout))
    folders = [PurePath(area.folder).name for area in areas.values()]
    wanted = {f"{folder}/{file} {mode}" for folder in folders for file, mode in MODES.items()}
    assert listed - {f"{folder}/ranges 755" for folder in folders} == wanted


def test_the_numbers_describe_the_area(cell: Prepared, state: Callable[[], State]) -> None:
    now = state()
    for area in cell.cell.layout.area:
        live = now.areas[area.node]
        assert live.count * PAGE == area.size
        assert area.at is None or live.base == area.at
        # Device-tree areas have a bit for each page: rmem_cma_setup() passes 0.
        assert live.order_per_bit == 0


def test_the_bitmap_has_a_bit_for_each_page_and_no_more(state: Callable[[], State]) -> None:
    for area in state().areas.values():
        assert len(area.words) == -(-area.count // WORD)
        assert set(area.bits[area.count :]) <= {"0"}


@pytest.mark.parametrize("pages", [1, 3, 64, 1000])
def test_alloc_takes_so_many_pages_at_the_first_place_where_they_fit(
    debugfs: Debugfs, pages: int
) -> None:
    expected = debugfs.before.first_fit(pages)
    (after,) = debugfs.states(("alloc", pages))
    assert after.bits == bits_of(debugfs.before, expected)
    assert after.used - debugfs.before.used == pages
    (freed,) = debugfs.states(("free", pages))
    assert (freed.bits, freed.used) == (debugfs.before.bits, debugfs.before.used)


def test_alloc_takes_no_alignment_into_account(debugfs: Debugfs) -> None:
    """cma_alloc_mem() asks for order 0, so what follows one page stands right behind it."""
    one, more = debugfs.states(("alloc", 1), ("alloc", 16))
    (first,) = one.taken_since(debugfs.before)
    assert more.taken_since(one) == (Run(first.end, 16),)


def test_used_is_the_weight_of_the_bitmap(debugfs: Debugfs) -> None:
    for now in debugfs.states(("alloc", 5), ("alloc", 40), ("free", 7), ("free", 38)):
        assert now.used == now.bits.count("1")


def test_free_gives_the_last_allocation_back_first(debugfs: Debugfs) -> None:
    first, second, third, *freed = debugfs.states(
        ("alloc", 3), ("alloc", 5), ("alloc", 7), ("free", 7), ("free", 5), ("free", 3)
    )
    assert third.used - debugfs.before.used == 15
    assert [now.bits for now in freed] == [second.bits, first.bits, debugfs.before.bits]


def test_free_of_a_part_gives_the_first_pages_back(debugfs: Debugfs) -> None:
    whole, *freed = debugfs.states(("alloc", 10), ("free", 4), ("free", 1), ("free", 5))
    (taken,) = whole.taken_since(debugfs.before)
    kept = [Run(taken.first + gone, 10 - gone) for gone in (4, 5, 10)]
    assert [now.bits for now in freed] == [bits_of(debugfs.before, run) for run in kept]


def test_free_goes_on_into_the_allocation_before(debugfs: Debugfs) -> None:
    first, second, freed = debugfs.states(("alloc", 3), ("alloc", 5), ("free", 6))
    (older,) = first.taken_since(debugfs.before)
    assert second.used - debugfs.before.used == 8
    assert freed.bits == bits_of(debugfs.before, Run(older.first + 1, 2))


def test_free_of_more_than_was_allocated_frees_no_one_else_s_pages(debugfs: Debugfs) -> None:
    _taken, freed, again = debugfs.states(("alloc", 4), ("free", 100), ("free", 1))
    assert freed.bits == again.bits == debugfs.before.bits


def test_free_of_nothing_changes_nothing(debugfs: Debugfs) -> None:
    taken, freed = debugfs.states(("alloc", 4), ("free", 0))
    assert freed == taken


@pytest.mark.parametrize("more", [0, 1])
def test_an_alloc_that_does_not_fit_is_enomem_and_takes_nothing(
    debugfs: Debugfs, more: int
) -> None:
    """Two paths: no free range of that size, and more pages than the area has."""
    held, refused, freed = debugfs.write(
        ("alloc", 1), ("alloc", debugfs.before.count + more), ("free", 1)
    )
    assert refused.error == "Cannot allocate memory"
    assert (refused.area.bits, refused.area.used) == (held.area.bits, held.area.used)
    assert refused.area.succeeded == held.area.succeeded
    # A record that outlived its failure would be freed here, and not the page that is held.
    assert freed.area.bits == debugfs.before.bits


@pytest.mark.parametrize("pages", [0x7FFFFFFF, 0x80000000, 0xFFFFFFFF], ids=hex)
def test_an_alloc_of_more_pages_than_there_can_be_is_enomem(debugfs: Debugfs, pages: int) -> None:
    """cma_alloc_mem() has them as an int, __cma_alloc() as an unsigned long: compared with the
    area before anything is added to them, for a sum would wrap. Another allocation works then."""
    refused, *rest = debugfs.write(("alloc", pages), ("alloc", 1), ("free", 1))
    assert refused.error == "Cannot allocate memory"
    assert (refused.area.bits, refused.area.used) == (debugfs.before.bits, debugfs.before.used)
    assert [step.error for step in rest] == ["", ""]
    assert rest[-1].area.bits == debugfs.before.bits


def test_an_alloc_of_no_pages_is_enomem(debugfs: Debugfs) -> None:
    assert debugfs.write(("alloc", 0)) == [Step("Cannot allocate memory", debugfs.before)]


@pytest.mark.parametrize("file", ["alloc", "free"])
def test_what_is_no_number_is_einval(debugfs: Debugfs, file: str) -> None:
    steps = debugfs.write(*((file, text) for text in ("pages", "1x", "-1", "''")))
    assert steps == [Step("Invalid argument", debugfs.before)] * 4


def test_the_whole_area_can_be_taken(smallest: Debugfs) -> None:
    if smallest.before.used:
        pytest.skip(f"{smallest.name} holds the atomic pool")
    full, freed = smallest.states(("alloc", smallest.before.count), ("free", smallest.before.count))
    assert full.runs("1") == (Run(0, full.count),)
    assert (full.used, full.maxchunk) == (full.count, 0)
    assert (freed.bits, freed.maxchunk) == (smallest.before.bits, smallest.before.maxchunk)


def test_maxchunk_is_the_longest_free_run(smallest: Debugfs) -> None:
    """With the longest run first, in the middle, last, and none: a maximum, not the first or last.

    Each part that is freed is the front of the newest allocation, so a run can be opened
    anywhere; what fits best into no earlier run goes behind all.
    """
    longest = smallest.before.longest
    states = smallest.states(
        ("alloc", 100),
        ("alloc", 50),
        ("alloc", longest - 150),  # full
        ("free", 30),  # a run of 30 behind the first 150 pages
        ("alloc", 20),  # into it: 10 left
        ("free", 8),  # 8 of those 20: runs of 8 and 10
        ("alloc", 9),  # into the run of 10: 8 and 1
    )
    assert [now.maxchunk for now in states] == [now.longest for now in states]
    assert [now.longest for now in states[2:]] == [0, 30, 10, 10, 8]


def test_a_file_read_in_pieces_is_the_file_read_at_once(smallest: Debugfs) -> None:
    smallest.states(("alloc", 33))
    for file in READABLE:
        path = smallest.path(file)
        reads = smallest.run(f"cat {path}; for n in 1 7; do dd if={path} bs=$n 2>/dev/null; done")
        whole = reads.splitlines()[0] + "\n"
        assert reads == 3 * whole, file


def test_what_describes_the_area_cannot_be_written(smallest: Debugfs) -> None:
    """Root may open a file of mode 0444 for writing; these have nothing that takes it."""
    steps = smallest.write(*((file, 1) for file in READABLE))
    errors = {file: step.error for file, step in zip(READABLE, steps, strict=True)}
    # The array of words has no write() at all, the numbers have one that knows no set().
    assert errors == dict.fromkeys(READABLE, "Permission denied") | {"bitmap": "Invalid argument"}
    assert steps[-1].area == smallest.before


def test_what_changes_the_area_cannot_be_read(smallest: Debugfs) -> None:
    for file in ("alloc", "free"):
        assert smallest.run(f"cat {smallest.path(file)}").endswith(": Permission denied\n")
    assert smallest.now() == smallest.before
