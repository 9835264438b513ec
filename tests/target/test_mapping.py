"""How the kernel maps an area, and the buffers in it: before, during and after.

ARM does not allow two mappings of memory of which one is cached and the other is not
(Architecture Reference Manual, ARMv7-A, "Mismatched memory attributes"), so a coherent buffer's
page of the linear map must not stay cached. dma_contiguous_remap() therefore maps the areas of
low memory by pages and not by sections, and __dma_remap() changes those of a buffer, there and
back; a buffer in high memory, which has no linear map, gets a mapping of its own in the vmalloc
range (arch/arm/mm/dma-mapping.c).

The oracle is kernel_page_tables: TCG models no caches, so nothing else here would notice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from state import AreaState, read_state

from harness.cell import Prepared
from harness.cma.answers import ProgramError
from harness.cma.areas import PAGE, LiveArea, survey
from harness.cma.counters import take
from harness.cma.helper import DEFAULT_DEVICE, Buffer, Helper
from harness.cma.pagetables import (
    LINEAR,
    VMALLOC,
    WRITE_COMBINE,
    Attributes,
    Change,
    LinearMap,
    PageTables,
    changes,
    joined,
    linear_map,
    read,
)
from harness.config import MIB
from harness.guest.guest import Guest

# Both are the same memory type on ARM since v6 (CONFIG_ARM_DMA_MEM_BUFFERABLE).
UNCACHED_KINDS = pytest.mark.parametrize(
    "attrs", [(), ("write-combine",)], ids=["coherent", "write-combine"]
)
# One page, an odd number, one that crosses the 2 MiB of a page table and the 4 MiB of a pageblock.
SIZES = (PAGE, 5 * PAGE, 3 * MIB - PAGE, 5 * MIB)


@dataclass(frozen=True, slots=True)
class Place:
    """An area, the device that allocates there, and where that memory is mapped."""

    area: LiveArea
    helper: Helper
    linear: LinearMap

    @property
    def low(self) -> bool:
        return self.linear.has(self.area.base, self.area.end)

    def span(self, buffer: Buffer) -> tuple[int, int]:
        """The linear map's addresses of a buffer in low memory."""
        start = self.linear.virtual(buffer.dma_address)
        return start, start + -(-buffer.size // PAGE) * PAGE


@pytest.fixture
def linear(guest: Guest, cell: Prepared) -> LinearMap:
    """Where low memory lies."""
    return linear_map(take(guest.console), int(cell.kernel.option("CONFIG_PAGE_OFFSET"), 0))


@pytest.fixture
def tables(guest: Guest, cell: Prepared) -> Callable[[], PageTables]:
    """Read the page tables, now."""
    if cell.kernel.option("CONFIG_ARM_PTDUMP_DEBUGFS") != "y":
        pytest.skip("kernel_page_tables needs CONFIG_ARM_PTDUMP_DEBUGFS")
    return lambda: read(guest.console)


@pytest.fixture
def places(guest: Guest, cell: Prepared, helper: Helper, linear: LinearMap) -> tuple[Place, ...]:
    """Every area that somebody can allocate from: the default one, and those of devices."""
    now = survey(guest.console)
    found = []
    for area in cell.cell.layout.area:
        device = DEFAULT_DEVICE if area.default else f"{DEFAULT_DEVICE}-{area.node}"
        if area.default or area.device:
            found.append(Place(now.area(area.node), Helper(guest.console, device=device), linear))
    return tuple(found)


def _place(places: tuple[Place, ...], cell: Prepared, low: bool) -> Place:
    found = next((place for place in places if place.low is low), None)
    if found is None:
        pytest.skip(
            f"layout {cell.cell.layout.name!r} has no area in {'low' if low else 'high'} memory"
        )
    return found


@pytest.fixture
def low(places: tuple[Place, ...], cell: Prepared) -> Place:
    """The first area in low memory."""
    return _place(places, cell, True)


@pytest.fixture
def high(places: tuple[Place, ...], cell: Prepared) -> Place:
    """The first area in high memory."""
    return _place(places, cell, False)


def normal(tables: PageTables) -> Attributes:
    """How the kernel maps memory for data by pages: as it maps a kernel stack."""
    kinds = {one.attributes for one in tables.region(VMALLOC).mappings if one.attributes.cached}
    (kind,) = {kind for kind in kinds if kind.writable and not kind.executable}
    return kind


def uncached(kind: Attributes) -> Attributes:
    """The same, as memory that the CPU does not cache."""
    return Attributes(
        level="PTE",
        domain=kind.domain,
        user=False,
        writable=True,
        executable=False,
        shared=kind.shared,
        memory=WRITE_COMBINE,
    )


def spans(found: tuple[Change, ...]) -> list[tuple[int, int]]:
    return [(change.start, change.end) for change in found]


def linear_changes(before: PageTables, after: PageTables) -> tuple[Change, ...]:
    return changes(before.region(LINEAR), after.region(LINEAR))


def in_use(area: AreaState, linear: LinearMap) -> list[tuple[int, int]]:
    """The linear map's addresses of the pages that the bitmap has as used."""
    base = linear.virtual(area.base)
    return [(base + run.first * PAGE, base + run.end * PAGE) for run in area.runs("1")]


# Before.


def test_low_memory_is_mapped_without_a_hole(
    linear: LinearMap, tables: Callable[[], PageTables]
) -> None:
    """All of it, and nothing behind it: with dma_contiguous_remap()'s new mapping dropped, the
    area whose sections it cleared is missing here."""
    whole = range(linear.virtual(linear.base), linear.virtual(linear.end))
    assert tables().region(LINEAR).stretches() == (whole,)


def test_areas_of_low_memory_and_nothing_else_are_mapped_by_pages(
    guest: Guest, linear: LinearMap, tables: Callable[[], PageTables]
) -> None:
    areas = survey(guest.console).areas
    low = [area for area in areas if linear.has(area.base, area.end)]
    if not low:
        pytest.skip("the layout has no area in low memory")
    wanted = (range(linear.virtual(area.base), linear.virtual(area.end)) for area in low)
    assert tables().region(LINEAR).by_pages().stretches() == joined(wanted)


def test_free_pages_of_an_area_are_cached_data_and_used_ones_are_not(
    guest: Guest, linear: LinearMap, tables: Callable[[], PageTables]
) -> None:
    """Writable, not executable, of the kernel's normal memory type; what is in use without any
    device's buffer is the atomic pool, which is coherent memory."""
    now, kind = tables(), normal(tables())
    areas = [
        area for area in read_state(guest.console).areas.values() if linear.has(area.base, area.end)
    ]
    for area in areas:
        mapped = now.within(linear.virtual(area.base), linear.virtual(area.end))
        used = [(one.start, one.end) for one in mapped if one.attributes == uncached(kind)]
        assert used == in_use(area, linear)
        assert {one.attributes for one in mapped} <= {kind, uncached(kind)}
    if not areas:
        pytest.skip("the layout has no area in low memory")


def test_high_memory_is_not_in_the_linear_map(
    high: Place, tables: Callable[[], PageTables], linear: LinearMap
) -> None:
    assert high.area.base >= linear.end
    assert all(one.end <= linear.virtual(linear.end) for one in tables().region(LINEAR).mappings)


# During and after, in low memory.


@UNCACHED_KINDS
def test_a_buffer_s_pages_and_no_others_lose_their_cached_mapping(
    low: Place, tables: Callable[[], PageTables], attrs: tuple[str, ...]
) -> None:
    before = tables()
    kind = normal(before)
    for size in SIZES:
        buffer = low.helper.alloc(size, attrs=attrs)
        during = tables()
        assert linear_changes(before, during) == (
            Change(*low.span(buffer), before=kind, after=uncached(kind)),
        )
        low.helper.free(buffer.handle)
        assert linear_changes(before, tables()) == ()


@UNCACHED_KINDS
def test_a_buffer_in_low_memory_has_no_second_mapping(
    low: Place, tables: Callable[[], PageTables], attrs: tuple[str, ...]
) -> None:
    """Its address for the kernel is that of the linear map."""
    before = tables().uncached()
    buffer = low.helper.alloc(3 * MIB, attrs=attrs)
    assert spans(changes(before, tables().uncached())) == [low.span(buffer)]


def test_buffers_come_and_go_without_touching_each_other(
    low: Place, tables: Callable[[], PageTables]
) -> None:
    """Freed from the middle out: each free changes the mapping of its own pages back."""
    empty = tables()
    made = [low.helper.alloc(size) for size in (PAGE, 3 * PAGE, MIB, 2 * PAGE, 4 * MIB, 7 * PAGE)]
    before = tables()
    for index in (2, 0, 5, 3, 1, 4):
        low.helper.free(made[index].handle)
        after = tables()
        assert spans(linear_changes(before, after)) == [low.span(made[index])]
        before = after
    assert linear_changes(empty, before) == ()


def test_a_failed_allocation_maps_nothing(
    places: tuple[Place, ...], tables: Callable[[], PageTables]
) -> None:
    for place in places:
        place.helper.alloc(1)
        before = tables()
        with pytest.raises(ProgramError, match=r"answered ENOSPC$"):
            place.helper.alloc(place.area.size, attrs=("no-warn",))
        after = tables()
        assert linear_changes(before, after) == ()
        assert changes(before.uncached(), after.uncached()) == ()


# During and after, in high memory.


@UNCACHED_KINDS
def test_a_buffer_in_high_memory_gets_one_mapping_and_that_is_uncached(
    high: Place, tables: Callable[[], PageTables], attrs: tuple[str, ...]
) -> None:
    before = tables()
    kind = normal(before)
    for size in SIZES:
        buffer = high.helper.alloc(size, attrs=attrs)
        during = tables()
        (made,) = changes(before.uncached(), during.uncached())
        assert (made.end - made.start, made.before, made.after) == (size, None, uncached(kind))
        assert during.region(VMALLOC).within(made.start, made.end)
        assert linear_changes(before, during) == ()
        high.helper.free(buffer.handle)
        after = tables()
        assert changes(before.uncached(), after.uncached()) == ()
        assert linear_changes(before, after) == ()


def test_buffers_of_several_areas_have_their_own_mappings(
    places: tuple[Place, ...], tables: Callable[[], PageTables]
) -> None:
    if len(places) < 2:
        pytest.skip("the layout has one area")
    before = tables().uncached()
    made = [(place, place.helper.alloc(3 * PAGE)) for place in places]
    during = changes(before, tables().uncached())
    assert sum(change.end - change.start for change in during) == 3 * PAGE * len(places)
    lows = [place.span(buffer) for place, buffer in made if place.low]
    assert set(lows) <= set(spans(during))
    for place, buffer in made:
        place.helper.free(buffer.handle)
    assert changes(before, tables().uncached()) == ()


# Without a mapping by the kernel.


def test_no_kernel_mapping_changes_no_mapping(
    places: tuple[Place, ...], tables: Callable[[], PageTables]
) -> None:
    """dma_direct_alloc_no_mapping() leaves the tables alone. In low memory the linear map's
    cached alias stays (6.12): the caller must not touch it while the device does."""
    before = tables()
    for place in places:
        buffer = place.helper.alloc(5 * PAGE, attrs=("no-kernel-mapping",))
        during = tables()
        assert place.area.base <= buffer.dma_address < place.area.end
        assert linear_changes(before, during) == ()
        assert changes(before.uncached(), during.uncached()) == ()
        place.helper.free(buffer.handle)
        after = tables()
        assert linear_changes(before, after) == ()
        assert changes(before.uncached(), after.uncached()) == ()


# What the mappings show.


@pytest.mark.parametrize(
    "attrs",
    [(), ("write-combine",), ("no-kernel-mapping",)],
    ids=["coherent", "write-combine", "no-kernel-mapping"],
)
def test_user_mappings_of_neighbours_show_each_its_own_pages(
    places: tuple[Place, ...], attrs: tuple[str, ...]
) -> None:
    for place in places:
        made = [place.helper.alloc(size, attrs=attrs) for size in (3 * PAGE, 2 * PAGE, 5 * PAGE)]
        for pattern, buffer in enumerate(made, 1):
            place.helper.fill(buffer.handle, pattern)
        for pattern, buffer in enumerate(made, 1):
            checked = place.helper.check(buffer.handle, pattern)
            assert (checked.bad, checked.size) == (0, buffer.size)


def test_a_user_mapping_changes_no_mapping_of_the_kernel(
    places: tuple[Place, ...], tables: Callable[[], PageTables]
) -> None:
    for place in places:
        buffer = place.helper.alloc(5 * PAGE)
        before = tables()
        place.helper.fill(buffer.handle, 0x5A)
        after = tables()
        assert linear_changes(before, after) == ()
        assert changes(before.uncached(), after.uncached()) == ()
