"""Pages that live in an area while nobody has allocated it move away and keep every byte.

It is the first thing CMA promises: "when a subsystem requests for contiguous area, the allocated
pages are migrated away to serve the contiguous request" (CONFIG_CMA in mm/Kconfig). cma-occupy
brings pages of a kind into the area, all of the area is allocated over them, and then each byte is
compared and each page looked up.
"""

from __future__ import annotations

import pytest
from taking import MIB, Own

from harness.cma.counters import take
from harness.cma.occupy import Occupant, occupied
from harness.guest.guest import Guest

# Filling an area makes memory short elsewhere; of high memory the heap has none in 5.10.
pytestmark = pytest.mark.since(
    "5.11", "the system dma-buf heap, which makes memory short, has high memory too"
)

SIZE = 8 * MIB
LONG = pytest.mark.long
LEAST = 1024  # pages inside the area, or there was nothing to see


def lives_there(occupant: Occupant) -> None:
    """Assert that enough of the pages lie in the area to say something of it."""
    assert occupant.held.inside >= LEAST, f"memory did not go to the area: {occupant.held}"


@pytest.mark.parametrize(
    "kind",
    ["anon", "mlock", "memfd", *(pytest.param(kind, marks=LONG) for kind in ("shared", "mixed"))],
)
def test_memory_of_a_process_moves_away_whole(guest: Guest, own: Own, kind: str) -> None:
    """Also what is locked, since e46a28790e59 ("CMA: migrate mlocked pages", 3.7)."""
    with occupied(guest.console, kind, own.area.name, SIZE) as occupant:
        assert occupant.held.inside >= (LEAST // 2 if kind == "mixed" else LEAST)
        own.take_all()
        after = occupant.check()
    assert (after.inside, after.absent) == (0, 0)
    assert after.moved >= occupant.held.inside
    assert after.intact, after


def test_pages_shared_by_a_fork_stay_shared(guest: Guest, own: Own) -> None:
    """Migration replaces the page in every page table, it does not copy on write."""
    with occupied(guest.console, "fork", own.area.name, SIZE) as occupant:
        lives_there(occupant)
        own.take_all()
        after = occupant.check()
    assert (after.inside, after.absent) == (0, 0)
    assert after.intact, after
    assert after.shared == after.pages


@pytest.mark.usefixtures("swap_space")
def test_pages_in_the_swap_cache_move_and_stay_in_it(guest: Guest, own: Own) -> None:
    with occupied(guest.console, "swapcache", own.area.name, SIZE) as occupant:
        lives_there(occupant)
        assert occupant.held.swapcache >= LEAST
        own.take_all()
        after = occupant.check()
    assert (after.inside, after.absent) == (0, 0)
    assert after.swapcache == occupant.held.swapcache
    assert after.intact, after


@pytest.mark.long
@pytest.mark.usefixtures("swap_space")
def test_zram_s_own_pages_move_with_what_they_store(guest: Guest, own: Own) -> None:
    """They are on no LRU list: zsmalloc moves them itself, since 48b4800a1c6a (4.8)."""
    with occupied(guest.console, "swapped", own.area.name, SIZE) as occupant:
        assert occupant.held.absent >= LEAST
        # One allocation empties the CPUs' lists of free pages, which no flag tells apart.
        own.helper.free(own.helper.alloc(1).handle)
        pages = take(guest.console, pages=True).area(own.area.name).open
        assert pages is not None
        # Which they are counted as: 7.3 knows them as movable, 6.12 by no flag at all.
        assert pages.unnamed + pages.movable >= LEAST
        own.take_all()
        after = occupant.check()
    assert after.intact, after


@pytest.mark.parametrize("kind", ["dirty", pytest.param("mapped", marks=LONG)])
def test_dirty_pages_of_a_file_move_and_reach_the_disk(
    guest: Guest, own: Own, disk_file: str, kind: str
) -> None:
    """Only what was written back may be dropped; the disk has older contents at first."""
    with occupied(guest.console, kind, own.area.name, SIZE, file=disk_file) as occupant:
        lives_there(occupant)
        assert occupant.held.dirty >= LEAST
        own.take_all()
        after = occupant.check()
        assert after.inside == 0
        assert after.moved >= LEAST // 2
        assert after.intact, after
        own.give_back()
        drop = "sync; echo 1 >/proc/sys/vm/drop_caches"
        guest.console.run(drop, timeout=30).checked("dropping the page cache")
        reread = occupant.check()
    # A page that only its buffers know to be dirty is neither written back nor dropped.
    assert reread.absent == reread.pages or kind == "mapped", "not all was read from the disk again"
    assert reread.intact, reread


def test_clean_pages_of_a_file_are_dropped_and_read_back(
    guest: Guest, own: Own, disk_file: str
) -> None:
    """Dropped, not moved, since 02c6de8d757c ("mm: cma: discard clean pages during contiguous
    allocation instead of migration", 3.7)."""
    with occupied(guest.console, "clean", own.area.name, SIZE, file=disk_file) as occupant:
        lives_there(occupant)
        own.take_all()
        after = occupant.check()
    assert after.inside == 0
    assert after.moved == 0
    assert after.absent >= occupant.held.inside
    assert after.intact, after


def test_pages_after_madv_free_are_whole_or_zero(guest: Guest, own: Own) -> None:
    """madvise(2): after MADV_FREE a page may be freed at any time, and then reads as zeroes."""
    with occupied(guest.console, "lazyfree", own.area.name, SIZE) as occupant:
        lives_there(occupant)
        own.take_all()
        after = occupant.check()
    assert after.inside == 0
    assert after.bad == 0, after
    assert after.zero >= after.absent >= occupant.held.inside


@pytest.mark.parametrize("kind", ["anon", pytest.param("memfd", marks=LONG)])
def test_a_buffer_shows_nothing_of_what_was_there(guest: Guest, own: Own, kind: str) -> None:
    """518a2f1925c3 ("dma-mapping: zero memory returned from dma_alloc_*", 5.0)."""
    with occupied(guest.console, kind, own.area.name, SIZE) as occupant:
        lives_there(occupant)
        found = [own.helper.check(buffer.handle, 0) for buffer in own.take_all()]
    assert [one for one in found if not one.good] == []


@pytest.mark.long
def test_an_area_is_empty_and_whole_when_all_is_freed(guest: Guest, own: Own) -> None:
    """Freed pages are CMA's again, so that they can be used and allocated a second time."""
    for _ in range(2):
        with occupied(guest.console, "anon", own.area.name, SIZE) as occupant:
            lives_there(occupant)
            own.take_all()
            own.give_back()
            assert own.used() == 0
            assert occupant.check().intact


# A byte of page 5, and page 7 in the place of page 3, in the holder's own memory file.
TAMPER = """pid=$(pidof cma-occupy)
for fd in /proc/$pid/fd/*; do case $(readlink $fd) in *memfd:cma-occupy*) file=$fd;; esac; done
printf x | dd of=$file bs=1 seek=20490 conv=notrunc
dd if=$file of=$file bs=4096 skip=7 seek=3 count=1 conv=notrunc"""


@pytest.mark.long
def test_a_changed_byte_and_a_page_of_somebody_else_are_seen(guest: Guest, own: Own) -> None:
    """What all cases here rely on: that the check would say so."""
    with occupied(guest.console, "memfd", own.area.name, 64 * 1024) as occupant:
        assert occupant.check().intact
        guest.console.run(TAMPER, timeout=30).checked("changing two pages")
        found = occupant.check()
    assert not found.intact
    assert (found.bad, found.zero, found.first, found.holds) == (2, 0, 3, 7)
