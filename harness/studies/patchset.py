"""What the patches of 3.5 promised: an idle area serves movable pages, and gives way on demand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from pydantic import JsonValue

from harness.cma import counters, vmstat
from harness.cma.answers import ProgramError
from harness.cma.areas import PAGE
from harness.cma.counters import CMA, Area, Snapshot
from harness.cma.helper import DEFAULT_DEVICE, Helper
from harness.cma.occupy import occupied
from harness.config import MIB
from harness.guest.guest import Guest
from harness.kernel.exports import Export, exports
from harness.results.study import Chart, Check, Claim, Map, Row, Strip
from harness.studies.device import loaded
from harness.studies.lab import Lab
from harness.studies.study import Finding, Study

_LAYOUT = "two-areas"
_DEFAULT, _PRIVATE = "linux,cma", "private"
_DEVICES = {_DEFAULT: DEFAULT_DEVICE, _PRIVATE: f"{DEFAULT_DEVICE}-{_PRIVATE}"}
_MOVABLE = ("anon", "mlock", "shared", "memfd", "fork")
_HELD = 8 * MIB
_LEAST = 512  # pages of a kind inside, or there was nothing to see
_KERNEL = 4 * MIB
_ROOM = 20 * MIB  # outside of CMA: enough for those, and less than what is free in CMA
_GROWN = ("nr_page_table_pages", "nr_kernel_stack", "nr_slab_unreclaimable", "oom_kill")


@dataclass(frozen=True, slots=True)
class _Lent:
    """Pages of a kind: how many the idle area had, and had `left` when it was allocated.

    `errno` is that of the allocation. `killed`: memory ended before all of them were there.
    """

    kind: str
    inside: int = 0
    errno: str = ""
    left: int = 0
    intact: bool = False
    killed: bool = False


@dataclass(frozen=True, slots=True)
class _Kernel:
    """Memory of the kernel: by how much it grew, and how much of it went into the area, in pages.

    `errno` is that of an allocation of the whole area while the kernel had it.
    """

    grown: int
    inside: int
    errno: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """All that was looked at, in that order."""

    idle: Snapshot
    buffers: dict[str, Snapshot]  # by the area whose device had a buffer
    lent: tuple[_Lent, ...]
    preferred: int  # bytes free outside of CMA when movable pages went into it already
    kernel: _Kernel | None
    after: Snapshot
    exported: dict[str, Export]


def measure(lab: Lab) -> Finding:
    """Give each device a buffer; lend the private area to each kind of page, and take it back."""
    with lab.boot() as guest, loaded(guest):
        idle = counters.take(guest)
        buffers = {area: _with_buffer(guest, area) for area in (_DEFAULT, _PRIVATE)}
        lent = tuple(_lend_all(guest))
        served = not any(each.killed for each in lent)
        seen = _Seen(
            idle=idle,
            buffers=buffers,
            lent=lent,
            preferred=_free_outside(guest) if served else 0,
            kernel=_kernel(guest) if served else None,
            after=counters.take(guest),
            exported=exports(lab.prepared.kernel.kdir / "Module.symvers"),
        )
    return Finding(
        checks=tuple(_checks(seen)),
        rows=tuple(_rows(seen)),
        reason=(
            "An allocation that is movable gets ALLOC_CMA and may take pages of MIGRATE_CMA "
            "pageblocks; no other may. So all that can be in an idle area can be migrated, and "
            "alloc_contig_range() does that when a driver asks."
        ),
        drawings=(_chart(seen), _map(seen)),
        raw={
            "lent": {
                each.kind: {"inside": each.inside, "errno": each.errno, "left": each.left}
                for each in seen.lent
            },
            "kernel": [seen.kernel.grown, seen.kernel.inside] if seen.kernel else None,
            "exported": list[JsonValue](sorted(name for name in seen.exported if "cma" in name)),
        },
    )


def _with_buffer(guest: Guest, area: str) -> Snapshot:
    helper = Helper(guest, device=_DEVICES[area])
    buffer = helper.alloc(4 * MIB)
    found = counters.take(guest)
    helper.free(buffer.handle)
    return found


def _lend_all(guest: Guest) -> Iterator[_Lent]:
    """Yield each kind; behind one that was killed the shortage stays, and nothing can follow."""
    for kind in _MOVABLE:
        lent = _lend(guest, kind)
        yield lent
        if lent.killed:
            return


def _lend(guest: Guest, kind: str) -> _Lent:
    """Have pages of a kind brought into the private area, and allocate all of it over them."""
    helper = Helper(guest, device=_DEVICES[_PRIVATE])
    kills = _vmstat(guest)["oom_kill"]
    try:
        with occupied(guest.console, kind, _PRIVATE, _HELD) as occupant:
            errno = _take_all(guest, helper)
            after = occupant.check()
        return _Lent(kind, occupant.held.inside, errno, after.inside, after.intact)
    except ProgramError:
        if _vmstat(guest)["oom_kill"] == kills:
            raise
        return _Lent(kind, killed=True)


def _take_all(guest: Guest, helper: Helper) -> str:
    """Allocate the private area as one buffer and free it; return the errno, or ""."""
    size = counters.take(guest).area(_PRIVATE).count * PAGE
    try:
        helper.free(helper.alloc(size, attrs=("no-warn",)).handle)
    except ProgramError as refused:
        return refused.errno_name
    return ""


def _free_outside(guest: Guest) -> int:
    """Let movable pages begin to go into the area; return the bytes free outside of all areas."""
    with occupied(guest.console, "anon", _PRIVATE, 2 * MIB, keep_short=True):
        system = counters.take(guest).system
    return (system.mem_free - system.cma_free) << 10


def _kernel(guest: Guest) -> _Kernel:
    """Have the kernel grow while hardly any memory is free but in the area."""
    hold = partial(occupied, guest.console, area=_PRIVATE, keep_short=True, margin=_ROOM)
    with hold(kind="anon", size=64 * PAGE) as short:
        before = _vmstat(guest)
        with hold(kind="kernel", size=_KERNEL, name="2") as load:
            now = _vmstat(guest)
            pages = counters.take(guest, pages=True).area(_PRIVATE).open
            load.relax()
            short.relax()
            errno = _take_all(guest, Helper(guest, device=_DEVICES[_PRIVATE]))
    grown = sum(now[name] - before[name] for name in _GROWN[:3])
    return _Kernel(grown, pages.unmovable if pages else 0, errno)


def _vmstat(guest: Guest) -> dict[str, int]:
    """Return some counters of /proc/vmstat, in pages but for the kills."""
    found = vmstat.read(guest)
    pages = {"nr_kernel_stack": found["nr_kernel_stack"] // (PAGE >> 10)}  # KiB
    return {name: found[name] for name in _GROWN} | pages


def _checks(seen: _Seen) -> Iterator[Check]:
    yield Check(
        what="each device's buffer is taken from its own area, and from no other",
        seen="; ".join(f"{area}'s device: {_taken(seen, area)}" for area in seen.buffers),
        held=all(_moved(seen, area) == {area: 4 * MIB // PAGE} for area in seen.buffers),
    )
    yield Check(
        what="an idle area serves movable pages of each kind",
        seen=", ".join(
            f"{each.kind} {'killed for want of memory' if each.killed else each.inside}"
            for each in seen.lent
        ),
        held=_kinds(seen) and all(each.inside >= _LEAST for each in seen.lent),
    )
    yield Check(
        what="on demand all of them leave the area, which is allocated as one buffer",
        seen=", ".join(f"{each.kind} {each.errno or each.left}" for each in seen.lent),
        held=_kinds(seen) and not any(each.errno or each.left for each in seen.lent),
    )
    yield Check(
        what="their contents are what they were",
        seen=", ".join(f"{each.kind} {'intact' if each.intact else 'not'}" for each in seen.lent),
        held=_kinds(seen) and all(each.intact for each in seen.lent),
    )
    kernel = seen.kernel
    yield Check(
        what="memory of the kernel never goes there, however short it is elsewhere",
        seen=f"{kernel.inside} of {kernel.grown} pages; then {kernel.errno or 'all of it was had'}"
        if kernel
        else "not tried",
        held=kernel is not None
        and kernel.grown >= _LEAST // 2
        and not kernel.inside
        and not kernel.errno,
    )
    wanted = sum(area.count for area in seen.idle.areas)
    blocks = [_cma_pages(state) for state in (seen.idle, *seen.buffers.values(), seen.after)]
    yield Check(
        what="the page allocator never changes the type of a pageblock of CMA's",
        seen=f"{', '.join(map(str, blocks))} pages in such blocks, {wanted} in the areas",
        held=set(blocks) == {wanted},
    )
    dma = seen.exported.get("dma_alloc_attrs")
    yield Check(
        what="drivers have the DMA API to ask with",
        seen=f"dma_alloc_attrs() is {_told(dma)}",
        held=dma is not None,
    )


def _kinds(seen: _Seen) -> bool:
    return tuple(each.kind for each in seen.lent) == _MOVABLE


def _moved(seen: _Seen, area: str) -> dict[str, int]:
    """Return by how many pages the use of each area differed while that area's device had some."""
    then = {each.name: each.used for each in seen.idle.areas}
    now = {each.name: each.used for each in seen.buffers[area].areas}
    return {name: now[name] - then[name] for name in now if now[name] != then[name]}


def _taken(seen: _Seen, area: str) -> str:
    moved = _moved(seen, area).items()
    return ", ".join(f"{pages} pages of {name}" for name, pages in moved) or "nothing"


def _cma_pages(state: Snapshot) -> int:
    return sum(zone.blocks.get(CMA, 0) for zone in state.zones) * state.system.block_pages


def _told(export: Export | None) -> str:
    if export is None:
        return "not exported"
    return "exported (GPL)" if export.gpl else "exported"


def _rows(seen: _Seen) -> Iterator[Row]:
    for each in seen.lent:
        yield Row(
            what=f"{each.kind}: pages in the idle area; and when it is allocated",
            then="any movable; none",
            now=f"{each.inside}; {each.left}",
        )
    yield Row(
        what="kernel: pages in the idle area",
        then="none",
        now=str(seen.kernel.inside) if seen.kernel else "not tried",
    )
    yield Row(
        what="free outside of CMA when movable pages begin to go into it",
        then="nothing: the last type tried",
        now=f"{seen.preferred >> 20} MiB" if seen.preferred else "they do not",
    )
    for name in ("dma_alloc_attrs", "cma_alloc"):
        then = "exported (as dma_alloc_coherent())" if name.startswith("dma") else "not exported"
        yield Row(what=f"{name}(), for modules", then=then, now=_told(seen.exported.get(name)))


def _chart(seen: _Seen) -> Chart:
    kernel = seen.kernel
    names = (*(each.kind for each in seen.lent), *(["kernel"] if kernel else []))
    idle = [each.inside for each in seen.lent] + ([kernel.inside] if kernel else [])
    taken = [each.left for each in seen.lent] + ([0] if kernel else [])
    return Chart.bars(
        "Pages that lie in the device's area, "
        f"of {_HELD // MIB} MiB of each kind and {_KERNEL // MIB} of the kernel's",
        "kind of memory",
        "pages",
        names,
        {"while it is idle": idle, "when it has been allocated": taken},
    )


def _map(seen: _Seen) -> Map:
    states = {"idle": seen.idle} | {f"{area}'s has 4 MiB": s for area, s in seen.buffers.items()}
    strips = [
        _strip(f"{name}: {what}", state.area(name), seen.idle.area(name))
        for name in (_DEFAULT, _PRIVATE)
        for what, state in states.items()
    ]
    return Map(title="The two areas, and which device has a buffer", strips=tuple(strips))


def _strip(label: str, area: Area, idle: Area) -> Strip:
    runs = [
        (first, count, "the atomic pool" if (first, count) in idle.set else "allocated")
        for first, count in area.set
    ]
    return Strip(label=label, pages=area.count, runs=tuple(runs))


STUDY = Study(
    name="patchset",
    title="An idle area serves movable pages, and gives way when a device asks",
    claim=Claim(
        text="The MIGRATE_CMA migration type has two main characteristics: (i) only movable pages "
        "can be allocated from MIGRATE_CMA pageblocks and (ii) page allocator will never change "
        "migration type of MIGRATE_CMA pageblocks. On dma_alloc_from_contiguous() request such "
        "pages are migrated out of CMA area to free required contiguous block. By default a "
        "global CMA area is used, but specific devices are allowed to have their private memory "
        "areas.",
        source="Marek Szyprowski and Michał Nazarewicz, Contiguous Memory Allocator, merged in "
        "3.5 (2012): commits 47118af076f6 (mm: mmzone: MIGRATE_CMA migration type added), "
        "c64be2bb1c6e (drivers: add Contiguous Memory Allocator), c79095092834 (ARM: integrate "
        "CMA with DMA-mapping subsystem), whose messages these are",
        figure="",
    ),
    setup="A guest with a default area of 64 MiB and one of 16 MiB that a device has for itself. "
    "8 MiB of each kind of movable memory are brought into the latter while memory is short "
    "everywhere else; then all of it is allocated as one buffer, and each byte of the pages that "
    "were there is compared. The kernel's own memory grows by 4 MiB under the same conditions. "
    "Pageblocks are counted in /proc/pagetypeinfo, exports in Module.symvers.",
    today="All of it still holds. MIGRATE_CMA is no longer the last type tried: since 5.8 "
    "(16867664936e) movable pages are taken from CMA while more than half of what is free is "
    "CMA's. Private areas are nodes of the device tree (shared-dma-pool, reusable) and not "
    "dma_declare_contiguous() of a board file. The DMA API was to be the only door; 7.3 "
    "exports cma_alloc() and cma_release() to GPL modules.",
    measure=measure,
    without="patchset.toml",
    layout=_LAYOUT,
)
