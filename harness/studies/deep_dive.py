"""What an architecture does for CMA, in order: seen from the first function of the boot on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from pydantic import JsonValue

from harness.boots import EXECUTED_LOG
from harness.cma import counters
from harness.cma.areas import PAGE
from harness.cma.counters import Snapshot
from harness.cma.helper import Buffer
from harness.cma.pagetables import LinearMap, linear_map
from harness.config import MIB
from harness.guest.executed import Call, parse
from harness.guest.guest import Guest
from harness.kernel.symbols import entries
from harness.results.study import Check, Claim, Row, Sequence, Step
from harness.studies.device import loaded
from harness.studies.lab import Lab
from harness.studies.study import Finding, NotHere, Study

_SIZE = 5 * MIB
# The functions, and under what other names kernels have them: with memory profiling (6.10) and
# for pages without a reference (7.x).
_ALIASES = {
    "alloc_contig_range_noprof": "alloc_contig_range",
    "alloc_contig_frozen_range_noprof": "alloc_contig_range",
    "free_contig_frozen_range": "free_contig_range",
    "init_cma_pageblock": "init_cma_reserved_pageblock",
}
_RESERVE, _AREA, _DECLARE = (
    "dma_contiguous_reserve",
    "dma_contiguous_reserve_area",
    "cma_declare_contiguous_nid",
)
_NODE, _FIXUP, _REMAP = "rmem_cma_setup", "dma_contiguous_early_fixup", "dma_contiguous_remap"
_INIT, _ACTIVATE, _BLOCK = (
    "cma_init_reserved_areas",
    "cma_activate_area",
    "init_cma_reserved_pageblock",
)
_ALLOC, _RANGE, _PTES = "cma_alloc", "alloc_contig_range", "apply_to_page_range"
_RELEASE, _FREE = "cma_release", "free_contig_range"
_DMA_ALLOC, _DMA_RELEASE = "dma_alloc_from_contiguous", "dma_release_from_contiguous"
LANES: Mapping[str, str] = {
    "arm_memblock_init": "ARM",
    _RESERVE: "DMA",
    _AREA: "DMA",
    _NODE: "DMA",
    _DECLARE: "CMA",
    "cma_init_reserved_mem": "CMA",
    _FIXUP: "ARM",
    "paging_init": "ARM",
    _REMAP: "ARM",
    _INIT: "CMA",
    _ACTIVATE: "CMA",
    _BLOCK: "pages",
    _DMA_ALLOC: "DMA",
    _ALLOC: "CMA",
    _RANGE: "pages",
    "__dma_remap": "ARM",
    _PTES: "ARM",
    _DMA_RELEASE: "DMA",
    _RELEASE: "CMA",
    _FREE: "pages",
}
"""The functions that are looked for, and which part of the kernel each belongs to."""

_LIFE = (_DMA_ALLOC, _ALLOC, _RANGE, _PTES, _PTES, _DMA_RELEASE, _RELEASE, _FREE)
_BOOT_BY_WORD = (_RESERVE, _AREA, _DECLARE, _FIXUP, _REMAP, _INIT, _BLOCK, _ALLOC)
_BOOT_BY_NODE = (_FIXUP, _REMAP, _INIT, _BLOCK, _ALLOC)


@dataclass(frozen=True, slots=True)
class Traced:
    """A guest's calls from its first instruction on, its area, and the buffer that it had."""

    calls: tuple[Call, ...]
    base: int
    size: int
    block: int  # bytes of a pageblock
    buffer: tuple[int, int]  # address, bytes
    linear: LinearMap

    def first(self, *functions: str) -> list[int]:
        """Return where each of the functions was called first; -1 of one that was not."""
        names = [call.function for call in self.calls]
        return [names.index(name) if name in names else -1 for name in functions]

    def of(self, function: str) -> list[Call]:
        """Return the calls of a function."""
        return [call for call in self.calls if call.function == function]

    def life(self) -> list[tuple[str, int]]:
        """Return the calls that were about the buffer: function and index."""
        address, size = self.buffer
        pages, frame = size // PAGE, address // PAGE
        wanted = {
            _RANGE: lambda w: w[:2] == (frame, frame + pages),
            _PTES: lambda w: w[1:3] == (self.linear.virtual(address), size),
            _FREE: lambda w: w[:2] == (frame, pages),
            _RELEASE: lambda w: w[2] == pages,
            _ALLOC: lambda w: w[1] == pages,
            _DMA_ALLOC: lambda w: w[1] == pages,
            _DMA_RELEASE: lambda w: w[2] == pages,
        }
        return [
            (call.function, index)
            for index, call in enumerate(self.calls)
            if call.function in wanted and wanted[call.function](call.words)
        ]


def measure(lab: Lab) -> Finding:
    """Boot with an area of the command line, then of the tree; allocate and free in each."""
    if lab.option("CONFIG_PHYS_ADDR_T_64BIT") == "y":
        raise NotHere("physical addresses have 64 bits: arguments lie in other registers")
    found = entries(lab.prepared.kernel.vmlinux, {*LANES, *_ALIASES})
    word = _trace(lab, found, "cmdline", "reserved")
    node = _trace(lab, found, "default", "linux,cma")
    missing = [name for name in LANES if not _known(name, found)]
    return Finding(
        checks=(*_checks(word, _BOOT_BY_WORD, "cma="), *_checks(node, _BOOT_BY_NODE, "node")),
        rows=tuple(_rows(word, node, missing)),
        reason=(
            "arm_memblock_init() reserves while memblock is all there is, paging_init() maps low "
            "memory anew, and an initcall hands the area's pageblocks to the page allocator, "
            "which has come up by then. Only after that can anything be allocated: the first who "
            "does is ARM's atomic pool."
        ),
        drawings=(
            _sequence("An area of the command line (cma=64M)", word),
            _sequence("An area of the device tree", node),
        ),
        raw={
            "inlined": list[JsonValue](missing),
            "cma=": [_raw(call) for call in word.calls if call.function != _PTES],
            "node": [_raw(call) for call in node.calls if call.function != _PTES],
        },
    )


def _raw(call: Call) -> JsonValue:
    return [call.function, call.cpu, *call.words]


def _known(name: str, found: Mapping[str, int]) -> bool:
    return name in found or any(found.get(a) for a, b in _ALIASES.items() if b == name)


def _trace(lab: Lab, found: Mapping[str, int], layout: str, name: str) -> Traced:
    """Boot a guest whose functions are watched, and let the helper have a buffer for a while."""
    names = {address: _ALIASES.get(symbol, symbol) for symbol, address in found.items()}
    with lab.boot(layout, watch=tuple(names)) as guest:
        snapshot, buffer = _use(guest)
        log = guest.machine.directory / EXECUTED_LOG
    area = snapshot.area(name)
    return Traced(
        calls=parse(log.read_text(), names),
        base=area.base_pfn * PAGE,
        size=area.count * PAGE,
        block=snapshot.system.block_pages * PAGE,
        buffer=(buffer.dma_address, buffer.size),
        linear=linear_map(snapshot, int(lab.option("CONFIG_PAGE_OFFSET"), 0)),
    )


def _use(guest: Guest) -> tuple[Snapshot, Buffer]:
    snapshot = counters.take(guest)
    with loaded(guest) as helper:
        buffer = helper.alloc(_SIZE)
        helper.free(buffer.handle)
    return snapshot, buffer


def _checks(traced: Traced, steps: tuple[str, ...], what: str) -> Iterator[Check]:
    first = traced.first(*steps)
    never = [name for name, index in zip(steps, first, strict=True) if index < 0]
    yield Check(
        what=f"{what}: the steps of the boot come in order, up to the first allocation",
        seen=f"never {', '.join(never)}" if never else " < ".join(steps),
        held=not never and all(one < other for one, other in pairwise(first)),
    )
    fixups = [call.words[:2] for call in traced.of(_FIXUP)]
    yield Check(
        what=f"{what}: the early fixup is told the area, base and size",
        seen="; ".join(f"{base:#x}, {size >> 20} MiB" for base, size in fixups) or "not called",
        held=fixups == [(traced.base, traced.size)],
    )
    blocks = {call.words[0] for call in traced.of(_BLOCK)}
    calls = len(traced.of(_BLOCK))
    yield Check(
        what=f"{what}: activation hands over each pageblock of the area once",
        seen=f"{calls} calls, {len(blocks)} blocks of {traced.block >> 20} MiB",
        held=calls == len(blocks) and calls * traced.block == traced.size,
    )
    last = max((i for i, call in enumerate(traced.calls) if call.function == _BLOCK), default=-1)
    (alloc,) = traced.first(_ALLOC)
    yield Check(
        what=f"{what}: nothing is allocated before all of it is active",
        seen=f"call {last + 1} hands over the last block, call {alloc + 1} is the first allocation",
        held=0 <= last < alloc,
    )
    life = tuple(name for name, _ in traced.life())
    yield Check(
        what=f"{what}: a buffer's frames are taken, remapped in the linear map, mapped back, freed",
        seen=" < ".join(life) or "never",
        held=life == _LIFE,
    )


def _rows(word: Traced, node: Traced, missing: list[str]) -> Iterator[Row]:
    yield Row(
        what="an area of the command line",
        then="dma_contiguous_reserve(), dma_contiguous_early_fixup()",
        now=_boot(word),
    )
    yield Row(what="an area of the device tree", then="there was none", now=_boot(node))
    yield Row(
        what="pageblocks handed over at activation",
        then="",
        now=f"{len(word.of(_BLOCK))} of {word.block >> 20} MiB",
    )
    who = ", ".join(missing) or "none"
    yield Row(what="functions that the compiler has inlined, or that are gone", then="", now=who)


def _boot(traced: Traced) -> str:
    wanted = (_RESERVE, _AREA, _DECLARE, "cma_init_reserved_mem", _NODE, _FIXUP, _REMAP, _INIT)
    names = [call.function for call in traced.calls if call.function in wanted]
    return ", ".join(dict.fromkeys(names))


def _sequence(title: str, traced: Traced) -> Sequence:
    """Draw the boot up to the first allocation, then the buffer's life; repeated calls are one."""
    (first,) = traced.first(_ALLOC)
    about = {index for _, index in traced.life()}
    steps: list[Step] = []
    before, times = "", 1
    for index, call in enumerate(traced.calls):
        if index not in about and (index > first or call.function == _PTES):
            continue
        times = times + 1 if call.function == before else 1
        if times > 1 and call.function == _BLOCK:
            steps.pop()
        before = call.function
        steps.append(Step(lane=LANES[call.function], at=index + 1, what=_told(call, times, traced)))
    return Sequence(title=title, at="", steps=tuple(steps))


def _told(call: Call, times: int, traced: Traced) -> str:
    a, b, c, _ = call.words
    words = {
        _AREA: f"size {a >> 20} MiB",
        _DECLARE: f"size {b >> 20} MiB",
        "cma_init_reserved_mem": f"{a:#x}, {b >> 20} MiB",
        _FIXUP: f"{a:#x}, {b >> 20} MiB",
        _BLOCK: f"{times} times: {times * traced.block >> 20} MiB",
        _DMA_ALLOC: f"{b} pages",
        _ALLOC: f"{b} pages",
        _RANGE: f"frames {a:#x} to {b:#x}",
        _PTES: f"{b:#x}, {c >> 10} KiB",
        _DMA_RELEASE: f"{c} pages",
        _RELEASE: f"{c} pages",
        _FREE: f"{b} frames at {a:#x}",
    }
    return f"{call.function}({words.get(call.function, '')})"


STUDY = Study(
    name="deep-dive",
    title="Reserve, fix up, remap, activate, allocate, release: what an architecture does for CMA",
    claim=Claim(
        text="An architecture reserves areas with dma_contiguous_reserve() when memblock is there "
        "and the page allocator is not; dma_contiguous_early_fixup() lets it note them, to remap "
        "their low memory mapping; an initcall gives their pageblocks to the page allocator as "
        "MIGRATE_CMA; and its DMA code allocates and releases with dma_alloc_from_contiguous() "
        "and dma_release_from_contiguous().",
        source="Michał Nazarewicz, A deep dive into CMA, LWN, March 2012; Marek Szyprowski, "
        "c64be2bb1c6e (drivers: add Contiguous Memory Allocator) and c79095092834 (ARM: integrate "
        "CMA with DMA-mapping subsystem), 3.5",
        figure="",
    ),
    setup="A kernel's tracers begin when the boot is half over. So QEMU's own log is used, which "
    "has each entry of some functions with the processor's registers, from the first instruction "
    "on (-d exec,cpu,nochain -dfilter); where the functions are, vmlinux tells. One guest has "
    "its area by cma=64M, as in 2012, one by a node of the device tree. Both allocate 5 MiB and "
    "free them. The area's base and size are those of debugfs.",
    today="All steps are there, in that order, under their names of 2012 or new ones. Areas are "
    "mostly nodes of the device tree now (rmem_cma_setup()). For those 5.10 and 6.1 call the "
    "early fixup when the area is set up, 6.12 and 7.3 before, when its memory is reserved. What "
    "the fixup notes is used at once by paging_init(), so that either is early enough.",
    measure=measure,
    without="arm-aliasing.toml",
    layout="cmdline",
)
