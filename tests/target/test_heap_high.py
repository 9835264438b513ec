"""The dma-buf heap of an area in high memory: what cma_heap_allocate() does otherwise there (6.12).

Pages without a permanent mapping are cleared one by one through kmap_atomic(), and a task that is
killed meanwhile gives up. The area is the default one of a second guest. Its base, 0x58400000, is
less aligned than its largest buffers, so that one that were aligned beyond CONFIG_CMA_ALIGNMENT
would show: 16 MiB have their first place at 0x59000000, 32 MiB theirs at 0x5a000000.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from booted import RAM, Scenario, ram
from rig import Rig, require_dirt_to_stay, rig_of

from harness.boots import Boots
from harness.cell import Prepared
from harness.cma.areas import PAGE, SYSFS
from harness.config import MIB
from harness.guest.guest import Guest

HIGH = Scenario("high-heap", "cma=100M@0x58400000 vmalloc=640M")
NAME = "reserved"  # of an area that the command line makes
KILLS = 3
LONG = 80 * MIB  # takes long enough to clear to be killed meanwhile


@pytest.fixture(scope="module")
def high(boots: Boots, cell: Prepared) -> Iterator[Guest]:
    """A guest whose default area lies in high memory."""
    if ram(cell.tree.blob.read_bytes()) != RAM:
        pytest.skip(f"the area's address is for memory at {RAM.start:#x}-{RAM.stop:#x}")
    with boots.boot(HIGH.layout, HIGH.append) as guest:
        yield guest


@pytest.fixture
def rig(high: Guest, boots: Boots, cell: Prepared) -> Rig:
    """The heap of that guest."""
    boots.cite(boots.log_of(high))
    found = rig_of(high.console, cell, NAME)
    assert found.before.base == 0x58400000
    return found


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_alignment_ends_at_cma_alignment(rig: Rig, more: int) -> None:
    pages = rig.natural + more
    _outcomes, (during,) = rig.run(f"alloc {pages * PAGE}", None)
    assert during.taken_since(rig.before) == (rig.aligned_fit(pages),)


@pytest.mark.parametrize("size", [PAGE, 3 * PAGE - 7, 4 * MIB])
def test_a_buffer_is_zeroed_on_every_page(high: Guest, rig: Rig, cell: Prepared, size: int) -> None:
    require_dirt_to_stay(high.console, cell)
    assert rig.bytes_left(size) == 0


@pytest.mark.since("5.13", "sysfs has areas (43ca106fa8ec)")
def test_an_allocation_that_is_killed_while_it_clears_leaves_nothing_behind(rig: Rig) -> None:
    """SIGKILL once the pages are counted as given, which is before they are cleared."""
    kill = f"kill-alloc {LONG} {SYSFS}/{NAME}/alloc_pages_success"
    outcomes, areas = rig.run(*([kill, None] * KILLS))
    assert [area.succeeded - rig.before.succeeded for area in areas] == [
        LONG // PAGE * (number + 1) for number in range(KILLS)
    ]
    assert [area.bits for area in areas] == [rig.before.bits] * KILLS
    if "SIGKILL" not in outcomes:
        pytest.skip(f"{KILLS} allocations were all done before the signal came")


def test_every_page_is_mapped_at_its_place(rig: Rig) -> None:
    """Each page has its number in it; a second mapping begins with page 2."""
    stamps = [f"poke 0 {page * PAGE + 9} {page + 1}" for page in range(5)]
    outcomes, _areas = rig.run(
        f"alloc {5 * PAGE}", f"map 0 0 {5 * PAGE}", *stamps,
        f"map 0 {2 * PAGE} {3 * PAGE}", "peek 1 9", f"peek 1 {2 * PAGE + 9}",
    )  # fmt: skip
    assert outcomes[-2:] == [3, 5]


def test_the_last_reference_gives_the_pages_back(rig: Rig) -> None:
    outcomes, (closed, unmapped) = rig.run(
        f"alloc {3 * PAGE}", f"map 0 0 {3 * PAGE}", f"poke 0 {PAGE} 6", "close 0", None,
        f"peek 0 {PAGE}", "unmap 0", None,
    )  # fmt: skip
    assert outcomes[4] == 6
    assert closed.used - rig.before.used == 3
    assert unmapped.bits == rig.before.bits
    assert unmapped.released - rig.before.released == 3
