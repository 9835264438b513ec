"""What must hold between the counters of CMA at any moment, and what a case must leave. Pure.

An invariant is a relation between numbers that the kernel keeps in different places. When one
breaks, the kernel has lost or invented pages, or counts them wrongly. `audit` judges a case by
the snapshots from before and after it: a case answers for what it broke, not for what was broken
before, and leaves every bitmap as it found it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from harness.cma.counters import CMA, ISOLATE, Area, Pages, Run, Snapshot, Zone

# Pages of users that no list of a zone counts: each CPU gathers up to 31 folios on their way to
# each of a few LRU lists (PAGEVEC_SIZE, include/linux/pagevec.h, 6.12).
_ON_THEIR_WAY = 64
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Breach:
    """An invariant that does not hold: its name, the area or zone, and the numbers that differ."""

    invariant: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


def audit(before: Snapshot | None, after: Snapshot) -> tuple[str, ...]:
    """Return what broke between two snapshots, a line each; without a `before`, what is broken."""
    known = {(old.invariant, old.subject) for old in breaches(before)} if before else set()
    new = [b for b in breaches(after) if (b.invariant, b.subject) not in known]
    left = changes(before, after) if before else ()
    return tuple(str(breach) for breach in chain(left, new))


def breaches(snapshot: Snapshot) -> tuple[Breach, ...]:
    """Return the invariants that do not hold."""
    return tuple(
        Breach(name, subject, text)
        for name, rule in INVARIANTS.items()
        for subject, text in rule(snapshot) or ()
    )


def audited(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the names of the invariants that can be judged by what this kernel shows."""
    return tuple(name for name, rule in INVARIANTS.items() if rule(snapshot) is not None)


def changes(before: Snapshot, after: Snapshot) -> Iterator[Breach]:
    """Yield what a case changed that it was to leave alone: the areas, and what is allocated."""
    old = {area.name: area for area in before.areas}
    new = {area.name: area for area in after.areas}
    for name in old.keys() ^ new.keys():
        what = "is gone" if name in old else "has appeared"
        yield Breach("areas stay", name, f"area {name!r} {what}")
    for name in old.keys() & new.keys():
        yield from _changed(old[name], new[name])


def _changed(old: Area, new: Area) -> Iterator[Breach]:
    name = new.name
    if (old.base_pfn, old.count) != (new.base_pfn, new.count):
        yield Breach(
            "areas stay",
            name,
            f"area {name!r} was {old.count} pages at pfn {old.base_pfn:#x}, "
            f"is {new.count} at {new.base_pfn:#x}",
        )
        return
    was, now = _mask(old.set), _mask(new.set)
    for bits, what in ((now & ~was, "still allocated"), (was & ~now, "no longer allocated")):
        if bits:
            pages = bits.bit_count() << new.order_per_bit
            yield Breach(
                "a case leaves the bitmap as it found it",
                name,
                f"area {name!r}: {pages} pages are {what} after the case "
                f"(bits {_told(bits)} of its debugfs bitmap)",
            )


def _mask(runs: tuple[Run, ...]) -> int:
    mask = 0
    for first, length in runs:
        mask |= ((1 << length) - 1) << first
    return mask


def _told(bits: int, most: int = 4) -> str:
    """Return the set bits as ranges, the first few."""
    ranges: list[str] = []
    at = 0
    while bits >> at:
        at += ((bits >> at) & -(bits >> at)).bit_length() - 1
        length = (~(bits >> at) & ((bits >> at) + 1)).bit_length() - 1
        if len(ranges) == most:
            return ", ".join([*ranges, "…"])
        ranges.append(f"{at}-{at + length - 1}" if length > 1 else f"{at}")
        at += length
    return ", ".join(ranges)


# A rule yields (area or zone, what differs) and is None where a kernel does not show the numbers.
Found = Iterator[tuple[str, str]]
Rule = Callable[[Snapshot], Found | None]


def _still(snapshot: Snapshot) -> Found:
    system = snapshot.system
    if not system.settled:
        yield (
            "",
            f"free pages or an area's `used` changed in each of {system.readings} readings: "
            "something still allocates, or frees",
        )


def _total(snapshot: Snapshot) -> Found:
    pages = sum(area.count for area in snapshot.areas)
    total = snapshot.system.cma_total * _KIB // snapshot.system.page_size
    if pages != total:
        yield "", f"the areas' `count` (debugfs) add up to {pages} pages, CmaTotal is {total}"


def _used(snapshot: Snapshot) -> Found:
    for area in snapshot.areas:
        bits = sum(length for _first, length in area.set) << area.order_per_bit
        if bits != area.used:
            yield (
                area.name,
                f"area {area.name!r}: {bits} pages in the bitmap, `used` is {area.used} (debugfs)",
            )


def _bounds(snapshot: Snapshot) -> Found:
    for area in snapshot.areas:
        end = max((first + length for first, length in area.set), default=0)
        if end > area.bits:
            yield area.name, f"area {area.name!r}: bit {end - 1} is set, there are {area.bits}"


def _maxchunk(snapshot: Snapshot) -> Found | None:
    if any(area.maxchunk is None for area in snapshot.areas):
        return None
    return (
        (
            area.name,
            f"area {area.name!r}: the longest run of zero bits has {longest} pages, `maxchunk` "
            f"is {area.maxchunk} (debugfs)",
        )
        for area in snapshot.areas
        for longest in [
            max((length for _first, length in area.zero_runs()), default=0) << area.order_per_bit
        ]
        if longest != area.maxchunk
    )


def _sysfs(snapshot: Snapshot) -> Found | None:
    if any(area.release_pages_success is None for area in snapshot.areas):
        return None  # release_pages_success: since 6.9 (00ea70196a3b)
    return (
        (
            area.name,
            f"area {area.name!r}: alloc_pages_success {area.alloc_pages_success} - "
            f"release_pages_success {area.release_pages_success} (sysfs) is not `used` "
            f"{area.used} (debugfs)",
        )
        for area in snapshot.areas
        if (area.alloc_pages_success or 0) - (area.release_pages_success or 0) != area.used
    )


def _events(snapshot: Snapshot) -> Found | None:
    """Every allocation that vmstat counts has a page or more in sysfs, and none is in one alone."""
    system = snapshot.system
    pairs = [
        ("success", system.cma_alloc_success, [a.alloc_pages_success for a in snapshot.areas]),
        ("fail", system.cma_alloc_fail, [a.alloc_pages_fail for a in snapshot.areas]),
    ]
    if any(events is None or None in pages for _what, events, pages in pairs):
        return None
    return (
        (
            what,
            f"cma_alloc_{what} (vmstat) counts {events} allocations, the areas' "
            f"alloc_pages_{what} (sysfs) {total} pages",
        )
        for what, events, pages in pairs
        for total in [sum(number or 0 for number in pages)]
        if events is not None and (total < events or bool(total) != bool(events))
    )


def _zone_cma(snapshot: Snapshot) -> Found | None:
    if any(zone.cma is None for zone in snapshot.zones):
        return None
    return (
        (
            zone.name,
            f"zone {zone.name}: `cma` is {zone.cma} pages (zoneinfo), the areas in it have {pages}",
        )
        for zone in snapshot.zones
        for pages in [sum(area.count for area in snapshot.areas_in(zone))]
        if zone.cma != pages
    )


def _blocks(snapshot: Snapshot) -> Found:
    """A block that is not CMA any more attracts unmovable pages; one that is Isolate serves none.

    undo_isolate_page_range() gives the blocks of an allocation their type back (6.12).
    """
    for zone in snapshot.zones:
        areas = sum(area.count for area in snapshot.areas_in(zone))
        blocks = zone.blocks.get(CMA, 0) * snapshot.system.block_pages
        if blocks != areas:
            yield (
                zone.name,
                f"zone {zone.name}: {blocks} pages in pageblocks of type CMA (pagetypeinfo), "
                f"the areas in it have {areas}",
            )
        isolated = zone.blocks.get(ISOLATE, 0)
        if isolated:
            yield (
                f"{zone.name} {ISOLATE}",
                f"zone {zone.name}: {isolated} pageblocks are still isolated (pagetypeinfo)",
            )


def _free_lists(snapshot: Snapshot) -> Found | None:
    """The counters of a zone are moved with its lists, under one lock (account_freepages, 6.12)."""
    if any(zone.free is None for zone in snapshot.zones):
        return None
    return _uncounted(snapshot) if snapshot.system.settled else iter(())


def _uncounted(snapshot: Snapshot) -> Found:
    for zone in snapshot.zones:
        free = zone.free or {}
        isolated = free.get(ISOLATE, 0)
        listed = sum(free.values()) - isolated
        for what, counter, pages in (
            ("nr_free_cma", zone.nr_free_cma, free.get(CMA, 0)),
            ("nr_free_pages", zone.nr_free_pages, listed),
            ("nothing", 0, isolated),
        ):
            if counter != pages:
                where = {"nr_free_cma": f"{CMA} ", "nothing": f"{ISOLATE} "}.get(what, "")
                yield (
                    f"{zone.name} {what}",
                    f"zone {zone.name}: {pages} pages on the {where}free lists (pagetypeinfo), "
                    f"{what} counts {counter} (zoneinfo)",
                )


def _sums(snapshot: Snapshot) -> Found:
    system = snapshot.system
    if not system.settled:
        return
    size = system.page_size // _KIB
    for what, zones, vmstat, meminfo in (
        ("nr_free_cma", [z.nr_free_cma for z in snapshot.zones], system.nr_free_cma, "CmaFree"),
        ("nr_free_pages", [z.nr_free_pages for z in snapshot.zones], system.nr_free_pages, ""),
    ):
        if sum(zones) != vmstat:
            yield what, f"{what} is {vmstat} (vmstat), the zones have {sum(zones)} (zoneinfo)"
        if meminfo and system.cma_free != vmstat * size:
            yield meminfo, f"{meminfo} is {system.cma_free} kB, {what} {vmstat} pages (vmstat)"


def _not_taken(snapshot: Snapshot, zone: Zone) -> int:
    return sum(area.count - area.used for area in snapshot.areas_in(zone))


def _free_at_most(snapshot: Snapshot) -> Found:
    for zone in snapshot.zones if snapshot.system.settled else ():
        room = _not_taken(snapshot, zone)
        if zone.nr_free_cma > room:
            yield (
                zone.name,
                f"zone {zone.name}: nr_free_cma is {zone.nr_free_cma} (zoneinfo), the areas in it "
                f"have {room} pages that are not allocated (count - used, debugfs)",
            )


def _none_lost(snapshot: Snapshot) -> Found:
    """A page of an area is free, allocated, a user's, or on its way between these."""
    for zone in snapshot.zones if snapshot.system.settled else ():
        missing = _not_taken(snapshot, zone) - zone.nr_free_cma
        known = zone.user + zone.per_cpu + zone.nr_zspages + _ON_THEIR_WAY * zone.cpus
        if missing > known:
            yield (
                zone.name,
                f"zone {zone.name}: {missing} pages of its areas are neither allocated (debugfs) "
                f"nor free (nr_free_cma), but at most {known} are a user's or on per-CPU lists "
                "(zoneinfo)",
            )


def _pages(snapshot: Snapshot) -> Found | None:
    """By /proc/kpageflags: what is handed out is nobody else's, and what is not is movable."""
    if any(area.taken is None or area.open is None for area in snapshot.areas):
        return None
    return (
        (area.name, f"area {area.name!r}: {text} (kpageflags){_some(area)}")
        for area in snapshot.areas
        if area.taken and area.open
        for text in _misplaced(area.taken, area.open)
    )


def _misplaced(taken: Pages, left: Pages) -> Iterator[str]:
    if taken.free:
        yield f"{taken.free} pages are allocated in the bitmap and free in the buddy allocator"
    if taken.movable:
        yield f"{taken.movable} pages are allocated in the bitmap and still a user's"
    if taken.unmovable + left.unmovable:
        yield f"{taken.unmovable + left.unmovable} pages are slab, page tables or reserved"


def _some(area: Area) -> str:
    told = ", ".join(f"pfn {pfn:#x} flags {flags:#x}" for pfn, flags in area.odd)
    return f": {told}" if told else ""


def _none_unnamed(snapshot: Snapshot) -> Found | None:
    """The same by /proc/kpageflags, which tells a user's pages, so that few are left to explain."""
    if any(area.open is None for area in snapshot.areas):
        return None
    return (
        (
            zone.name,
            f"zone {zone.name}: {unnamed} pages of its areas are neither allocated (debugfs), nor "
            f"free or a user's (kpageflags), but at most {known} are on per-CPU lists (zoneinfo)",
        )
        for zone in (snapshot.zones if snapshot.system.settled else ())
        for unnamed in [sum(a.open.unnamed for a in snapshot.areas_in(zone) if a.open)]
        for known in [zone.per_cpu + zone.nr_zspages + _ON_THEIR_WAY * zone.cpus]
        if unnamed > known
    )


def _free_pages(snapshot: Snapshot) -> Found | None:
    if any(area.taken is None or area.open is None for area in snapshot.areas):
        return None
    return (
        (
            zone.name,
            f"zone {zone.name}: {free} pages of its areas are free in the buddy allocator "
            f"(kpageflags), nr_free_cma counts {zone.nr_free_cma} (zoneinfo)",
        )
        for zone in (snapshot.zones if snapshot.system.settled else ())
        for free in [
            sum(a.open.free + a.taken.free for a in snapshot.areas_in(zone) if a.open and a.taken)
        ]
        if free != zone.nr_free_cma
    )


INVARIANTS: dict[str, Rule] = {
    "the counters hold still": _still,
    "the areas make up CmaTotal": _total,
    "the bitmap has `used` pages": _used,
    "no bit is behind the area": _bounds,
    "maxchunk is the longest run of zero bits": _maxchunk,
    "pages allocated - released = used": _sysfs,
    "vmstat and sysfs count the same allocations": _events,
    "a zone's `cma` is its areas": _zone_cma,
    "the pageblocks of the areas are CMA": _blocks,
    "free pages are counted": _free_lists,
    "the zones make up the totals": _sums,
    "nr_free_cma <= count - used": _free_at_most,
    "no page of an area is lost": _none_lost,
    "pages of an area are movable, or allocated": _pages,
    "nr_free_cma is the areas' free pages": _free_pages,
    "no page of an area is without a place": _none_unnamed,
}
