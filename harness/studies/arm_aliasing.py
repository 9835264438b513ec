"""ARM: no two mappings of a page, of which one is cached and the other is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from pydantic import JsonValue

from harness.cma import counters
from harness.cma.areas import PAGE
from harness.cma.helper import DEFAULT_DEVICE, Buffer, Helper
from harness.cma.pagetables import (
    LINEAR,
    WRITE_COMBINE,
    Change,
    LinearMap,
    Mapping,
    PageTables,
    changes,
    linear_map,
    read,
)
from harness.config import MIB
from harness.guest.guest import Guest
from harness.results.study import Check, Claim, Map, Row, Strip
from harness.studies.device import loaded
from harness.studies.lab import Lab
from harness.studies.study import Finding, Study

_LOW, _HIGH = "default", "highmem"
_AREA = "linux,cma"
_HIGH_AREA = "high"
# One page, an odd number, more than a pageblock; the second is freed first.
_SIZES = (PAGE, 5 * PAGE, 5 * MIB)
_CACHED, _UNCACHED, _SECTION = "cached pages", "uncached pages", "pages in cached sections"


@dataclass(frozen=True, slots=True)
class Moment:
    """The page tables at a moment, and the buffers that were alive then: (address, bytes)."""

    name: str
    tables: PageTables
    live: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Watched:
    """An area that was watched before, while and after a device had buffers in it."""

    area: str
    start: int
    end: int
    linear: LinearMap
    moments: tuple[Moment, ...]

    @cached_property
    def idle(self) -> PageTables:
        """The page tables before any buffer."""
        return self.moments[0].tables

    @property
    def low(self) -> bool:
        """Whether the area is in the linear map at all."""
        return self.linear.has(self.start, self.end)

    def linear_pages(self, moment: Moment) -> dict[str, int]:
        """Return how many of the live buffers' pages the linear map has, by how they are mapped."""
        found = {_CACHED: 0, _UNCACHED: 0, _SECTION: 0}
        for address, size in moment.live if self.low else ():
            start = self.linear.virtual(address)
            for one in moment.tables.within(start, start + size):
                found[kind_of(one)] += one.size // PAGE
        return found

    def elsewhere(self, moment: Moment) -> int:
        """Return how many uncached pages are mapped outside the linear map that were not before."""
        made = changes(_outside(self.idle), _outside(moment.tables))
        return sum(_pages(change) for change in made)

    def conflicts(self, moment: Moment) -> int:
        """Return how many pages of live buffers are cached in one mapping and not in another.

        The dump names no physical address. What is uncached outside the linear map and was not
        there before belongs to the buffers; its pages conflict if the linear map has them cached.
        """
        cached = self.linear_pages(moment)
        return min(cached[_CACHED] + cached[_SECTION], self.elsewhere(moment))


def kind_of(mapping: Mapping) -> str:
    """Return how the CPU may keep a mapping.

    The dump does not tell the type of a section. Those of low memory are MT_MEMORY_RW, which has
    the cache policy of all normal memory (build_mem_type_table(), arch/arm/mm/mmu.c).
    """
    if mapping.attributes.level != "PTE":
        return _SECTION
    return _CACHED if mapping.attributes.cached else _UNCACHED


def _outside(tables: PageTables) -> PageTables:
    """Return what is memory and not cached, but for the linear map."""
    return PageTables(
        tuple(
            one
            for one in tables.uncached().mappings
            if one.region != LINEAR and one.attributes.memory == WRITE_COMBINE
        )
    )


def _pages(change: Change) -> int:
    size = (change.end - change.start) // PAGE
    return size if change.before is None else -size


def measure(lab: Lab) -> Finding:
    """Dump the page tables around each buffer's life, in low memory and in high memory."""
    offset = int(lab.option("CONFIG_PAGE_OFFSET"), 0)
    with lab.boot() as guest, loaded(guest) as helper:
        low = _watch(guest, helper, _AREA, offset)
    with lab.boot(_HIGH) as guest, loaded(guest):
        device = Helper(guest, device=f"{DEFAULT_DEVICE}-{_HIGH_AREA}")
        high = _watch(guest, device, _HIGH_AREA, offset)
    return Finding(
        checks=tuple(checks(low, high)),
        rows=tuple(_rows(low, high)),
        reason=(
            "paging_init() maps low memory by sections of 1 MiB, whose attributes cannot change "
            "for single pages. dma_contiguous_remap() replaces them by page tables where an area "
            "is, and __dma_remap() then changes the pages of a buffer in place, there and back. A "
            "page of high memory is not in the linear map, so that a new mapping can be uncached."
        ),
        drawings=(_map(low),),
        raw={
            watched.area: {
                moment.name: {
                    "live": [list[JsonValue](each) for each in moment.live],
                    "elsewhere": watched.elsewhere(moment),
                    "conflicts": watched.conflicts(moment),
                    **watched.linear_pages(moment),
                }
                for moment in watched.moments
            }
            for watched in (low, high)
        },
    )


def _watch(guest: Guest, helper: Helper, name: str, offset: int) -> Watched:
    """Allocate the buffers one after the other, free them from the middle out; dump each time."""
    snapshot = counters.take(guest)
    area = snapshot.area(name)
    live: list[Buffer] = []
    moments = [_moment(guest, "before", live)]
    for size in _SIZES:
        live.append(helper.alloc(size))
        moments.append(_moment(guest, f"{size >> 10} KiB allocated", live))
    for index in (1, 0, 0):
        gone = live.pop(index)
        helper.free(gone.handle)
        moments.append(_moment(guest, f"{gone.size >> 10} KiB freed", live))
    start = area.base_pfn * PAGE
    return Watched(
        name, start, start + area.count * PAGE, linear_map(snapshot, offset), tuple(moments)
    )


def _moment(guest: Guest, name: str, live: Sequence[Buffer]) -> Moment:
    return Moment(name, read(guest), tuple((each.dma_address, each.size) for each in live))


def checks(low: Watched, high: Watched) -> Iterator[Check]:
    """Yield what must be so of an area in low memory and of one in high memory."""
    whole = range(low.linear.virtual(low.start), low.linear.virtual(low.end))
    paged = low.idle.region(LINEAR).by_pages().stretches()
    yield Check(
        what="low memory is mapped by sections, but for the area, which is mapped by pages",
        seen=", ".join(f"{one.start:#x}-{one.stop:#x}" for one in paged) or "no page but sections",
        held=paged == (whole,),
    )
    during = [moment for moment in low.moments if moment.live]
    yield Check(
        what="each page of a live buffer is uncached in the linear map",
        seen="; ".join(_counts(low.linear_pages(moment)) for moment in during),
        held=all(low.linear_pages(m) == _all_uncached(m) for m in during),
    )
    yield Check(
        what="and nothing else in it changes",
        seen=f"{sum(_strangers(low, moment) for moment in low.moments)} other pages",
        held=not any(_strangers(low, moment) for moment in low.moments),
    )
    yield Check(
        what="a buffer in low memory has no second mapping",
        seen=f"{max(low.elsewhere(moment) for moment in low.moments)} pages elsewhere",
        held=not any(low.elsewhere(moment) for moment in low.moments),
    )
    yield Check(
        what="no page has two mappings of different cacheability, before, during or after",
        seen=f"{max(low.conflicts(m) for m in low.moments)} pages in low memory, "
        f"{max(high.conflicts(m) for m in high.moments)} in high memory",
        held=not any(each.conflicts(m) for each in (low, high) for m in each.moments),
    )
    yield Check(
        what="freed, all is mapped as before",
        seen=f"{_difference(low)} pages differ",
        held=not _difference(low) and not high.elsewhere(high.moments[-1]),
    )
    made = [high.elsewhere(moment) for moment in high.moments]
    yield Check(
        what="a buffer in high memory, which the linear map has not, has one mapping, uncached",
        seen=", ".join(map(str, made)) + " pages",
        held=not high.low and made == [_live_pages(moment) for moment in high.moments],
    )


def _all_uncached(moment: Moment) -> dict[str, int]:
    return {_CACHED: 0, _UNCACHED: _live_pages(moment), _SECTION: 0}


def _live_pages(moment: Moment) -> int:
    return sum(size for _, size in moment.live) // PAGE


def _strangers(low: Watched, moment: Moment) -> int:
    """Return how many pages of the linear map changed that are no live buffer's."""
    spans = [(low.linear.virtual(at), low.linear.virtual(at) + size) for at, size in moment.live]
    found = 0
    for change in changes(low.idle.region(LINEAR), moment.tables.region(LINEAR)):
        inside = sum(max(0, min(change.end, b) - max(change.start, a)) for a, b in spans)
        found += (change.end - change.start - inside) // PAGE
    return found


def _difference(low: Watched) -> int:
    last = low.moments[-1].tables
    found = changes(low.idle.region(LINEAR), last.region(LINEAR))
    return sum(change.end - change.start for change in found) // PAGE


def _counts(kinds: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)


def _rows(low: Watched, high: Watched) -> Iterator[Row]:
    full = max(low.moments, key=_live_pages)
    yield Row(
        what="the linear map of an idle area",
        then="2-level page tables",
        now="2-level page tables" if low.idle.region(LINEAR).by_pages().mappings else "sections",
    )
    yield Row(
        what="a live buffer's pages in the linear map",
        then="updated to match the requested type",
        now=_counts(low.linear_pages(full)),
    )
    yield Row(
        what="its pages mapped elsewhere, by the kernel", then="", now=str(low.elsewhere(full))
    )
    yield Row(
        what="the same of a buffer in high memory",
        then="",
        now=str(high.elsewhere(max(high.moments, key=_live_pages))),
    )


def _map(low: Watched) -> Map:
    """Draw the linear map around the area, and what is uncached elsewhere, at each moment."""
    margin = 4 * MIB
    first = max(low.start - margin, low.linear.base)
    begin, end = (low.linear.virtual(at) for at in (first, min(low.end + margin, low.linear.end)))
    strips = []
    for moment in low.moments:
        runs = [
            ((one.start - begin) // PAGE, one.size // PAGE, kind_of(one))
            for one in moment.tables.within(begin, end)
        ]
        strips.append(Strip(label=moment.name, pages=(end - begin) // PAGE, runs=tuple(runs)))
        elsewhere = low.elsewhere(moment)
        if elsewhere:
            label = "the same pages, in vmalloc"
            live = _live_runs(low, moment, begin)
            strips.append(Strip(label=label, pages=(end - begin) // PAGE, runs=live))
    title = f"How {begin:#x}-{end:#x} is mapped: the area, and sections around it"
    return Map(title=title, strips=tuple(strips))


def _live_runs(low: Watched, moment: Moment, begin: int) -> tuple[tuple[int, int, str], ...]:
    return tuple(
        ((low.linear.virtual(address) - begin) // PAGE, size // PAGE, _UNCACHED)
        for address, size in moment.live
    )


STUDY = Study(
    name="arm-aliasing",
    title="On ARM no page of a coherent buffer keeps a cached mapping",
    claim=Claim(
        text="Contiguous memory areas reserved for DMA are remapped with 2-level page tables on "
        "boot. Once a buffer is requested, a low memory kernel mapping is updated to match "
        "requested memory access type. (So were answered the technical concerns about aliasing "
        "of cache attributes: ARMv6 and later do not allow a page to be mapped twice with "
        "different attributes.)",
        source="Marek Szyprowski, c79095092834 (ARM: integrate CMA with DMA-mapping subsystem, "
        "3.5); Russell King on the patches, linux-arm-kernel, 5 July 2011; Jonathan Corbet, CMA "
        "and ARM, LWN, July 2011",
        figure="",
    ),
    setup="Buffers of 4 KiB, 20 KiB and 5 MiB are allocated in an area in low memory, and freed "
    "from the middle out; then the same in high memory. Before, between and after, "
    "/sys/kernel/debug/kernel_page_tables tells how each page of the linear map is mapped, and "
    "what else is mapped uncached. QEMU models no caches: only the tables can show a conflict.",
    today="Still done as it was merged, on every kernel: by sections around the areas, by pages in "
    "them. Two gaps are left by design. Memory that is not CMA's (__alloc_remap_buffer()) gets an "
    "uncached mapping beside the cached one of the linear map; and with "
    "DMA_ATTR_NO_KERNEL_MAPPING the linear map's stays cached, and the caller must not use it.",
    measure=measure,
    without="arm-aliasing.toml",
    layout=_LOW,
)
