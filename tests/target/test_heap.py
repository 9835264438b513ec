"""The dma-buf heap of the default area: drivers/dma-buf/heaps/cma_heap.c, for user space.

Through 6.12 the default area alone has a heap, called like the area (add_default_cma_heap()), so
whether its buffers are cleared through the linear map or page by page through kmap follows from
the layout: its default area is in low or in high memory. Each case is one process in the guest
(images/guest/heap-ctl.c), which reads the area's bitmap between its operations.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rig import Rig, require_dirt_to_stay, rig_of
from state import AreaState, Run, read_state
from taking import need_room

from harness.cell import Prepared
from harness.cma.areas import PAGE
from harness.cma.heap import Answer
from harness.cma.pagetables import PATH, PageTables, changes, parse
from harness.config import MIB
from harness.guest.guest import Guest
from harness.layout.cmdline import default_area

SYNC_RW, SYNC_END = 3, 4  # DMA_BUF_SYNC_*
KILLS = 5


@pytest.fixture
def rig(guest: Guest, cell: Prepared) -> Rig:
    """The heap of the default area."""
    name = default_area(cell.cell.layout)
    if name is None:
        pytest.skip(f"layout {cell.cell.layout.name!r} has no default area")
    need_room(cell.cell.layout, name)
    return rig_of(guest.console, cell, name)


@pytest.fixture
def now(guest: Guest, rig: Rig) -> Callable[[], AreaState]:
    """Read the area when the process is gone."""
    return lambda: read_state(guest.console).areas[rig.name]


# Where buffers lie.


@pytest.mark.parametrize("pages", [1, 2, 3, 5, 64, 100, 1024, 1500])
def test_a_buffer_is_contiguous_aligned_and_the_first_that_fits(rig: Rig, pages: int) -> None:
    _outcomes, (during,) = rig.run(f"alloc {pages * PAGE}", None)
    assert during.taken_since(rig.before) == (rig.aligned_fit(pages),)
    assert during.used - rig.before.used == pages


def test_alignment_ends_at_cma_alignment(rig: Rig) -> None:
    """A buffer of more pages than the largest alignment has only that one."""
    pages = rig.natural + 1
    if not rig.has_room(pages):
        pytest.skip(f"the area has no {pages} pages that begin at a multiple of {rig.natural}")
    _outcomes, (during,) = rig.run(f"alloc {pages * PAGE}", None)
    assert during.taken_since(rig.before) == (rig.aligned_fit(pages),)


@pytest.mark.parametrize("size", [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE - 5])
def test_the_size_is_rounded_up_to_pages(rig: Rig, size: int) -> None:
    (_buffer, told), (during,) = rig.run(f"alloc {size}", "size 0", None)
    assert told == -(-size // PAGE) * PAGE
    assert during.used - rig.before.used == -(-size // PAGE)


def test_buffers_have_pages_of_their_own(rig: Rig) -> None:
    """Three neighbours, each with a pattern: no page is in two of them."""
    sizes = [3 * PAGE, PAGE, 6 * PAGE]
    outcomes, (during,) = rig.run(
        *(f"alloc {size}" for size in sizes),
        *(f"map {index} 0 {size}" for index, size in enumerate(sizes)),
        *(f"fill {index} {index + 1}" for index in range(3)),
        *(f"count {index} {index + 1}" for index in range(3)),
        None,
    )
    assert outcomes[-3:] == [0, 0, 0]
    assert during.used - rig.before.used == 10


def test_every_allocation_is_refused_when_the_area_is_full(
    rig: Rig, now: Callable[[], AreaState]
) -> None:
    """Buffers of 1 MiB until none fits: all free ones of that alignment, then ENOMEM."""
    (count, refused), (full,) = rig.run(f"fill-heap {MIB}", f"alloc {MIB}", None)
    pages = MIB // PAGE
    room = sum(
        (rig.before.base_pfn + run.end) // pages - -(-(rig.before.base_pfn + run.first) // pages)
        for run in rig.before.runs("0")
    )
    assert (count, refused) == (room, "ENOMEM")
    assert full.used - rig.before.used == room * pages
    assert now().bits == rig.before.bits


# What is in them.


@pytest.mark.parametrize("size", [PAGE, 3 * PAGE - 7, 4 * MIB])
def test_a_buffer_is_zeroed_after_its_pages_were_dirtied(
    guest: Guest, rig: Rig, cell: Prepared, size: int
) -> None:
    require_dirt_to_stay(guest.console, cell)
    assert rig.bytes_left(size) == 0


def test_an_offset_maps_the_page_at_that_offset(rig: Rig) -> None:
    """Each page has its number in it; a mapping from page 2 on begins with that."""
    stamps = [f"poke 0 {page * PAGE + 9} {page + 1}" for page in range(5)]
    outcomes, _areas = rig.run(
        f"alloc {5 * PAGE}", f"map 0 0 {5 * PAGE}", *stamps,
        f"map 0 {2 * PAGE} {2 * PAGE}", "peek 1 9", f"peek 1 {PAGE + 9}",
        f"map 0 {4 * PAGE} {PAGE}", "peek 2 9",
    )  # fmt: skip
    assert outcomes[7:] == [1, 3, 4, 2, 5]


def test_two_mappings_show_the_same_memory(rig: Rig) -> None:
    outcomes, _areas = rig.run(
        f"alloc {2 * PAGE}", f"map 0 0 {2 * PAGE}", f"map 0 {PAGE} {PAGE}",
        f"poke 0 {PAGE + 5} 7", "peek 1 5", "poke 1 6 8", f"peek 0 {PAGE + 6}",
    )  # fmt: skip
    assert outcomes[3:] == [7, 7, 8, 8]


def test_a_forked_child_writes_to_the_same_memory(rig: Rig) -> None:
    outcomes, _areas = rig.run(f"alloc {PAGE}", f"map 0 0 {PAGE}", "poke 0 3 1", "child 0 3 9")
    assert outcomes[2:] == [1, 9]


# Its bounds.


def test_every_page_up_to_the_last_can_be_reached(rig: Rig) -> None:
    end = 3 * PAGE - 1
    outcomes, _areas = rig.run(f"alloc {3 * PAGE}", f"map 0 0 {3 * PAGE}", f"poke 0 {end} 5")
    assert outcomes[2] == 5


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 4), (1, 3), (2, 2), (3, 1), (1 << 18, 1)], ids=str
)
def test_nothing_beyond_the_end_can_be_mapped(rig: Rig, offset: int, length: int) -> None:
    """dma_buf_mmap_internal() refuses; were it not to, the page behind the end must be SIGBUS."""
    past = max(0, 3 - offset) * PAGE
    operations = [f"alloc {3 * PAGE}", f"map 0 {offset * PAGE} {length * PAGE}"]
    outcome = rig.run(*operations)[0][1]
    if outcome == 0:
        outcome = rig.run(*operations, f"peek 0 {past}")[0][2]
    assert outcome in ("EINVAL", "SIGBUS")


def test_a_mapping_cannot_be_grown_past_the_end(rig: Rig) -> None:
    """VM_DONTEXPAND, of cma_heap_mmap(); where mremap() may grow it, cma_heap_vm_fault() must
    see that the page is none of the buffer's."""
    operations = [f"alloc {2 * PAGE}", f"map 0 0 {2 * PAGE}", "poke 0 0 1", f"grow 0 {4 * PAGE}"]
    outcome = rig.run(*operations)[0][3]
    if outcome == 4 * PAGE:
        outcome = rig.run(*operations, f"peek 0 {2 * PAGE}")[0][4]
    assert outcome in ("EFAULT", "SIGBUS")


def test_a_private_mapping_is_refused(rig: Rig) -> None:
    outcomes, _areas = rig.run(f"alloc {PAGE}", f"map-private 0 0 {PAGE}")
    assert outcomes == [0, "EINVAL"]


# How long they live.


def test_closing_gives_exactly_the_buffer_s_pages_back(rig: Rig) -> None:
    """In another order than they were made."""
    _outcomes, areas = rig.run(
        f"alloc {3 * PAGE}", None, f"alloc {7 * PAGE}", None, f"alloc {PAGE}", None,
        "close 1", None, "close 0", None, "close 2", None,
    )  # fmt: skip
    first, second, third, no_second, only_third, none = areas
    (gone,) = second.taken_since(first)
    assert no_second.bits == _without(third.bits, gone)
    (gone,) = first.taken_since(rig.before)
    assert only_third.bits == _without(no_second.bits, gone)
    assert none.bits == rig.before.bits
    assert none.released - rig.before.released == 11


def _without(bits: str, run: Run) -> str:
    return bits[: run.first] + "0" * run.pages + bits[run.end :]


def test_a_mapping_keeps_the_buffer(rig: Rig) -> None:
    outcomes, (closed, unmapped) = rig.run(
        f"alloc {3 * PAGE}", f"map 0 0 {3 * PAGE}", "poke 0 4096 6", "close 0", None,
        "peek 0 4096", "unmap 0", None,
    )  # fmt: skip
    assert outcomes[4] == 6
    assert closed.used - rig.before.used == 3
    assert unmapped.bits == rig.before.bits


def test_a_process_that_was_sent_the_descriptor_keeps_the_buffer(rig: Rig) -> None:
    """And sees its contents: one buffer, whoever holds it."""
    outcomes, (passed, dropped) = rig.run(
        f"alloc {2 * PAGE}", f"map 0 0 {PAGE}", "poke 0 0 33", "pass 0", "unmap 0", "close 0", None,
        "drop", None,
    )  # fmt: skip
    assert outcomes[3] == 33
    assert passed.used - rig.before.used == 2
    assert (outcomes[-1], dropped.bits) == (0, rig.before.bits)


def test_a_process_that_ends_leaves_nothing_behind(rig: Rig, now: Callable[[], AreaState]) -> None:
    _outcomes, (during,) = rig.run(
        f"alloc {5 * PAGE}", f"alloc {MIB}", f"map 0 0 {PAGE}", f"map 1 0 {MIB}", "fill 1 1", None
    )
    assert during.used > rig.before.used
    assert now().bits == rig.before.bits


def test_a_killed_allocation_leaves_nothing_behind(rig: Rig) -> None:
    """SIGKILL once pages were taken. Where the pages are in high memory, clearing them looks for
    it after each page and gives up (free_cma); a migration that is killed gives up too (EINTR)."""
    size = rig.before.longest * PAGE // (16 * MIB) * 16 * MIB or 8 * MIB
    kill = f"kill-alloc {size} {rig.before.folder}/used"
    outcomes, areas = rig.run(*([kill, None] * KILLS))
    assert [area.bits for area in areas] == [rig.before.bits] * KILLS
    if "SIGKILL" not in outcomes:
        pytest.skip(f"{KILLS} allocations were all done before the signal came")


# What is refused.


@pytest.mark.parametrize(
    ("operation", "errno"),
    [
        ("alloc 0", "EINVAL"),
        ("alloc 0xfffffffffffff001", "EINVAL"),  # rounded up to pages it wraps to nothing
        (f"alloc {PAGE} 0x10000000", "EINVAL"),  # unknown flags of the descriptor
        (f"alloc {PAGE} 2 1", "EINVAL"),  # flags of the heap: there are none
    ],
)
def test_a_wrong_request_is_einval_and_takes_nothing(rig: Rig, operation: str, errno: str) -> None:
    outcomes, (after,) = rig.run(operation, None)
    assert outcomes == [errno]
    assert after == rig.before


@pytest.mark.parametrize("more", [0, PAGE])
def test_more_than_the_area_has_is_enomem_and_takes_nothing(rig: Rig, more: int) -> None:
    """All of an area of which a page is in use, and more than the area."""
    outcomes, (held, after) = rig.run(
        f"alloc {PAGE}", None, f"alloc {rig.before.count * PAGE + more}", None
    )
    assert outcomes[1] == "ENOMEM"
    assert (after.bits, after.succeeded) == (held.bits, held.succeeded)


def test_a_length_beyond_four_gib_is_refused(rig: Rig) -> None:
    """include/uapi/linux/dma-heap.h has 64 bits for it, a size_t of ARM has 32."""
    (outcome,), (after,) = rig.run(f"alloc {(1 << 32) + PAGE}", None)
    assert outcome in ("EINVAL", "ENOMEM")
    assert after.used == rig.before.used


def test_sync_takes_its_flags_and_no_others(rig: Rig) -> None:
    outcomes, _areas = rig.run(
        f"alloc {PAGE}", f"sync 0 {SYNC_RW}", f"sync 0 {SYNC_RW | SYNC_END}", "sync 0 0", "sync 0 8"
    )
    assert outcomes[1:] == [0, 0, "EINVAL", "EINVAL"]


# Its mappings by the kernel.


def test_a_heap_buffer_changes_no_mapping_of_the_kernel(
    guest: Guest, cell: Prepared, rig: Rig
) -> None:
    """Its user mappings are cached, as the linear map is: the caller syncs."""
    if cell.kernel.option("CONFIG_ARM_PTDUMP_DEBUGFS") != "y":
        pytest.skip("kernel_page_tables needs CONFIG_ARM_PTDUMP_DEBUGFS")
    answers = rig.heap.run(
        f"cat {PATH}", f"alloc {3 * MIB}", f"map 0 0 {3 * MIB}", "fill 0 1", f"cat {PATH}"
    )
    before, during = _uncached(answers[0]), _uncached(answers[-1])
    assert changes(before, during) == ()


def _uncached(answer: Answer) -> PageTables:
    return parse(answer.text).uncached()
