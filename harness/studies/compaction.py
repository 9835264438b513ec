"""Memory compaction: a scanner goes up from the bottom, another comes down, until they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.cma import counters, extfrag, tracing, vmstat
from harness.cma.occupy import ANYWHERE, Place, occupied
from harness.cma.occupy import Check as Contents
from harness.cma.tracing import Event
from harness.config import MIB
from harness.guest.guest import Guest
from harness.results.study import Chart, Check, Claim, Curve, Row
from harness.studies.lab import Lab
from harness.studies.study import Finding, Study

_LAYOUTS = ("none", "default")
_MEMORY = 256 * MIB
_MARGIN = 32 * MIB  # of free memory is left alone
_BEGIN, _END = "mm_compaction_begin", "mm_compaction_end"
_MIGRATE, _FREE = "mm_compaction_isolate_migratepages", "mm_compaction_isolate_freepages"
_TRACED = tuple(f"compaction:{name}" for name in (_BEGIN, _END, _MIGRATE, _FREE))
_BUFFER_KB = 2048
_SECONDS = 120.0
_BACKGROUND = "kcompactd"
_LEAST = 0.25  # by which the index of the highest order has to fall


@dataclass(frozen=True, slots=True)
class Run:
    """A compaction of a zone: the blocks that the scanners were in, in order, as first page frames.

    `met` is whether the block that the migration scanner was in at the end is not below the free
    scanner's.
    """

    start: int
    end: int
    migrate: tuple[int, ...]
    free: tuple[int, ...]
    order: tuple[str, ...]  # which of them was next: "migrate" or "free"
    met: bool


@dataclass(frozen=True, slots=True)
class _Look:
    """Memory before and after compaction with a layout; the indexes are by order."""

    layout: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    run: Run | None
    held: Place
    found: Contents
    migrated: int
    scanned: tuple[int, int]  # pages, for what to migrate and for where to

    @property
    def fell(self) -> float:
        """By how much the index of the highest order fell."""
        return self.before[-1] - self.after[-1]


def measure(lab: Lab) -> Finding:
    """Scatter memory, compact it, and follow both scanners; without an area and with one."""
    small = lab.with_memory(_MEMORY)
    looks = tuple(_look(small, layout) for layout in _LAYOUTS)
    _, area = looks
    return Finding(
        checks=(
            *(check for look in looks for check in _checks(look)),
            Check(
                what="with an area: its free pages are targets like any others",
                seen=f"{area.held.in_cma} pages in CMA before, {area.found.in_cma} after",
                held=area.found.in_cma > area.held.in_cma,
            ),
        ),
        rows=tuple(row for look in looks for row in _rows(look)),
        reason=(
            "compact_zone() takes pages in use from the block where the migration scanner is "
            "(isolate_migratepages()), up from the zone's start, and frees for them from where "
            "the free scanner is (isolate_freepages()), down from its end, and ends when they "
            "meet (compact_scanners_met()). Blocks of CMA are movable, so that they are taken "
            "from and moved to; an area at the end of memory is filled first."
        ),
        drawings=tuple(drawing for look in looks for drawing in (*_scanners(look), _index(look))),
        raw={
            look.layout: {
                "before": list(look.before),
                "after": list(look.after),
                "migrate": list(look.run.migrate) if look.run else [],
                "free": list(look.run.free) if look.run else [],
                "held": look.held.model_dump(),
                "found": look.found.model_dump(),
                "migrated": look.migrated,
                "scanned": list(look.scanned),
            }
            for look in looks
        },
    )


def _look(lab: Lab, layout: str) -> _Look:
    with lab.boot(layout) as guest:
        size = counters.take(guest).system.mem_free * 1024 - _MARGIN
        with occupied(guest.console, "scattered", ANYWHERE, size, timeout=_SECONDS) as occupant:
            before = vmstat.read(guest)
            fragmented = _worst(guest)
            with tracing.traced(guest, *_TRACED, buffer_kb=_BUFFER_KB) as trace:
                guest.run("echo 1 >/proc/sys/vm/compact_memory", _SECONDS).checked("compacting")
                traced = trace.events()
            compacted = _worst(guest)
            grown = vmstat.growth(before, vmstat.read(guest))
            block = counters.take(guest).system.block_pages
            return _Look(
                layout,
                fragmented,
                compacted,
                longest(runs(traced, block)),
                occupant.held,
                occupant.check(),
                grown["pgmigrate_success"],
                (grown["compact_migrate_scanned"], grown["compact_free_scanned"]),
            )


def _worst(guest: Guest) -> tuple[float, ...]:
    """Return the index by order of the zone where it is highest."""
    return max(extfrag.unusable(guest).values())


def runs(events: Sequence[Event], block: int) -> tuple[Run, ...]:
    """Return the compactions that a process asked for; a block has `block` pages.

    Positions are blocks: inside one the free scanner goes up.
    """
    found = []
    for pid in dict.fromkeys(event.pid for event in events):
        mine = [event for event in events if event.pid == pid]
        if mine[0].task.startswith(_BACKGROUND):
            continue
        begins = [at for at, event in enumerate(mine) if event.name == _BEGIN]
        for begin, behind in pairwise((*begins, len(mine))):
            end = next((e for e in mine[begin:behind] if e.name == _END), None)
            if end is not None:
                found.append(_run(mine[begin:behind], end, block))
    return tuple(found)


def _run(events: Sequence[Event], end: Event, block: int) -> Run:
    scans = [event for event in events if event.name in (_MIGRATE, _FREE)]
    position = {name: end.number(name) // block for name in ("migrate_pfn", "free_pfn")}
    return Run(
        start=end.number("zone_start"),
        end=end.number("zone_end"),
        migrate=tuple(_block(each, block) for each in scans if each.name == _MIGRATE),
        free=tuple(_block(each, block) for each in scans if each.name == _FREE),
        order=tuple("migrate" if each.name == _MIGRATE else "free" for each in scans),
        met=position["migrate_pfn"] >= position["free_pfn"],
    )


def _block(event: Event, block: int) -> int:
    return event.number("range") // block * block


def longest(found: Sequence[Run]) -> Run | None:
    """Return the run with the most scans, None when there was none."""
    return max(found, key=lambda run: len(run.order), default=None)


def _checks(look: _Look) -> tuple[Check, ...]:
    name = f"layout {look.layout}"
    run = look.run
    migrate, free = (run.migrate, run.free) if run else ((), ())
    return (
        Check(
            what=f"{name}: the migration scanner never goes down",
            seen=f"{len(migrate)} scans",
            held=len(migrate) > 1 and all(one <= next_ for one, next_ in pairwise(migrate)),
        ),
        Check(
            what=f"{name}: the free scanner never goes up",
            seen=f"{len(free)} scans",
            held=len(free) > 1 and all(one >= next_ for one, next_ in pairwise(free)),
        ),
        Check(
            what=f"{name}: they start at the ends and meet",
            seen=_meeting(run),
            held=run is not None and run.met and bool(free) and max(migrate) <= min(free),
        ),
        Check(
            what=f"{name}: pages are moved, and keep their contents",
            seen=f"{look.found.moved} of {look.found.pages - look.found.absent}, "
            f"{look.found.bad} bad",
            held=look.found.moved > 0
            and not look.found.bad
            and look.found.zero == look.held.absent,
        ),
        Check(
            what=f"{name}: the unusable free space index of the highest order falls",
            seen=f"{look.before[-1]:.3f} to {look.after[-1]:.3f}",
            held=look.fell >= _LEAST,
        ),
    )


def _meeting(run: Run | None) -> str:
    if run is None or not run.free or not run.migrate:
        return "nothing was taken"
    at = [max(run.migrate) - run.start, min(run.free) - run.start]
    return f"at page {at[0]} and {at[1]} of {run.end - run.start}"


def _rows(look: _Look) -> tuple[Row, ...]:
    name = f"layout {look.layout}"
    return (
        Row(
            what=f"{name}: unusable free space index, order {len(look.before) - 1}",
            then="falls",
            now=f"{look.before[-1]:.3f} to {look.after[-1]:.3f}",
        ),
        Row(what=f"{name}: pages migrated", then="", now=str(look.migrated)),
        Row(
            what=f"{name}: pages scanned to migrate, to be free",
            then="",
            now=f"{look.scanned[0]}, {look.scanned[1]}",
        ),
        Row(
            what=f"{name}: pages in CMA before and after",
            then="",
            now=f"{look.held.in_cma}, {look.found.in_cma}",
        ),
    )


def _scanners(look: _Look) -> tuple[Chart, ...]:
    if look.run is None:
        return ()
    run = look.run
    steps = list(enumerate(run.order))
    return (
        Chart(
            kind="points",
            title=f"Where the scanners are: layout {look.layout}",
            x="scans, in order",
            y="page of the zone",
            curves=tuple(
                Curve(
                    label=label,
                    x=tuple(float(at) for at, which in steps if which == scanner),
                    y=tuple(float(pfn - run.start) for pfn in pfns),
                )
                for label, scanner, pfns in (
                    ("migration scanner", "migrate", run.migrate),
                    ("free scanner", "free", run.free),
                )
            ),
        ),
    )


def _index(look: _Look) -> Chart:
    orders = tuple(float(order) for order in range(len(look.before)))
    return Chart(
        kind="lines",
        title=f"Free memory that an order cannot use: layout {look.layout}",
        x="order",
        y="unusable free space index",
        curves=(
            Curve(label="scattered", x=orders, y=look.before),
            Curve(label="compacted", x=orders, y=look.after),
        ),
    )


STUDY = Study(
    name="compaction",
    title="Compaction moves used pages to where a scanner from the end finds free ones",
    claim=Claim(
        text="Fragmented memory is made whole by two scanners: one goes up from the bottom of a "
        "zone and finds pages that can be moved, the other comes down from its top and finds free "
        "pages. When they meet, what is in use is at the top and the bottom is free.",
        source='J. Corbet, "Memory compaction", LWN 368869, January 2010; Mel Gorman, "mm: '
        'compaction: memory compaction core" (748446bb6b5a, 2.6.35)',
        figure="",
    ),
    setup="All but 32 MiB of the free memory of a machine of 256 MiB are filled, and half of the "
    "pages given back, here and there. /sys/kernel/debug/extfrag/unusable_index is read before "
    "and after `echo 1 >/proc/sys/vm/compact_memory`, with the tracepoints compaction:* on. Once "
    "without an area, once with 64 MiB of CMA.",
    today="Still so when all of memory is asked for. A request of an order has had a shortcut "
    "since 5.1 (5a811889de10: free targets are looked for on the free lists first), and kcompactd "
    "does it in the background. The free scanner samples since 5.1 (4fca9730c51d): when a block "
    "has nothing it looks at every second, fourth, ... page, so that memory of which exactly every "
    "other page is used is hardly compacted at all. Compaction treats CMA as movable memory.",
    measure=measure,
    without="compaction.toml",
)
