"""Where a kernel puts the areas of a layout: memblock's rules, without a kernel. Pure.

Static nodes are reserved first, whatever is there already; then dynamic ones in the order of the
tree; then the default area that `cma=` or Kconfig wants. Sources are of 6.12:
fdt_scan_reserved_mem() and __reserved_mem_alloc_size() in drivers/of/of_reserved_mem.c,
memblock_find_in_range_node() in mm/memblock.c, cma_declare_contiguous_nid() in mm/cma.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.config import Area, Layout
from harness.layout import cmdline
from harness.layout.ground import Ground, Span

_EVERYWHERE = Span(4096, 1 << 64)  # memblock never gives the first page: 0 is "no memory"
_DMA_LIMIT = 0xFFFFFFFF  # arm_dma_limit without CONFIG_ZONE_DMA


class Origin(StrEnum):
    """Who asks for an area."""

    NODE = "node"
    PARAMETER = "cma="
    KCONFIG = "Kconfig"


@dataclass(frozen=True, slots=True)
class Placed:
    """An area, or what was to be one; `span` is None when the kernel finds no place for it.

    `refusal` says why there is none.
    """

    name: str
    origin: Origin
    size: int
    span: Span | None
    area: Area | None = None
    refusal: str = ""

    @property
    def static(self) -> bool:
        """Whether its node says the address."""
        return self.area is not None and self.area.at is not None


def place(ground: Ground, layout: Layout, append: str = "") -> tuple[Placed, ...]:
    """Return the areas in the order in which the kernel places them.

    `append` are words behind the layout's own on the command line. Static areas are taken as they
    stand, over whatever they lie.
    """
    static = [
        Placed(area.node, Origin.NODE, area.size, Span.of(area.at, area.size), area)
        for area in layout.area
        if area.at is not None
    ]
    taken = [region.span for region in ground.taken]
    taken += [Span.of(carveout.at, carveout.size) for carveout in layout.carveout]
    taken += [each.span for each in static if each.span]
    dynamic = _dynamic(ground, layout, taken, static)
    default = _default(ground, layout, append, [*static, *dynamic], taken)
    return (*static, *dynamic, *default)


def find(free: Iterable[Span], size: int, align: int, inside: Span, *, lowest: bool) -> Span | None:
    """Return the highest place of that size and alignment in the free spans, or the lowest.

    __memblock_find_range_top_down() and its twin.
    """
    for span in free if lowest else reversed([*free]):
        start, end = max(span.start, inside.start), min(span.end, inside.end)
        base = -(-start // align) * align if lowest else (end - size) // align * align
        if base >= start and base + size <= end:
            return Span.of(base, size)
    return None


def _dynamic(
    ground: Ground, layout: Layout, taken: Sequence[Span], static: Sequence[Placed]
) -> list[Placed]:
    busy = list(taken)
    # What is in reserved_mem[] when a dynamic node is placed: static nodes only where they are
    # set up before.
    known = [] if ground.kernel.static_late else [each.span for each in static if each.span]
    found: list[Placed] = []
    for area in (area for area in layout.area if area.at is None):
        inside = Span(*area.within) if area.within else _EVERYWHERE
        align = max(area.alignment or 0, ground.kernel.block)
        span = None
        if area.size:
            upwards = area.within is not None and _grows_upwards(inside, known)
            span = find(ground.free(busy), area.size, align, inside, lowest=upwards)
        if span is not None:
            busy.append(span)
            known.append(span)
        refusal = "" if span else "no free memory of that size, alignment and range is left"
        found.append(Placed(area.node, Origin.NODE, area.size, span, area, refusal))
    return found


def _grows_upwards(inside: Span, known: Iterable[Span]) -> bool:
    """Whether a range begins at what is reserved already, and does not end at it.

    __reserved_mem_alloc_in_range().
    """
    behind = any(span.start <= inside.start <= span.end for span in known)
    before = any(span.start <= inside.end <= span.end for span in known)
    return behind and not before


def _default(
    ground: Ground, layout: Layout, append: str, nodes: Sequence[Placed], taken: Sequence[Span]
) -> tuple[Placed, ...]:
    busy = [*taken, *(each.span for each in nodes if each.span)]
    asked = cmdline.cma(f"{layout.cmdline} {append}")
    if asked is not None:
        return (_declared(ground, asked, Origin.PARAMETER, busy),) if asked.size else ()
    size = ground.kernel.default_size(ground.memory)
    if not size or any(_makes_default(each, ground) for each in nodes):
        return ()
    return (_declared(ground, cmdline.CmaParameter(size), Origin.KCONFIG, busy),)


def _makes_default(each: Placed, ground: Ground) -> bool:
    """Whether a node is the default area by the time that Kconfig's would be made."""
    wanted = each.area is not None and each.area.default and each.span is not None
    return wanted and not (each.static and ground.kernel.static_late)


def _declared(
    ground: Ground, asked: cmdline.CmaParameter, origin: Origin, taken: Sequence[Span]
) -> Placed:
    """Follow cma_declare_contiguous_nid()."""
    kernel = ground.kernel
    size, base = kernel.round_up(asked.size), kernel.round_up(asked.base)
    limit = min(asked.limit or _DMA_LIMIT, _DMA_LIMIT, ground.usable()[-1].end)
    limit = kernel.round_down(limit)

    def refused(why: str) -> Placed:
        span = Span.of(asked.base, size) if asked.fixed else None
        return Placed(cmdline.DEFAULT_NAME, origin, size, span, refusal=why)

    if asked.fixed and asked.base % kernel.block:
        return refused(f"its base must be a multiple of {kernel.block:#x}")
    if asked.fixed and base < ground.low_end < base + size:
        return refused("it crosses the end of low memory")
    if base + size > limit:
        return refused(f"it ends behind {limit:#x}")
    if asked.fixed:
        span = Span.of(base, size)
        if any(span.overlaps(other) for other in taken):
            return refused("its place is taken")
        return Placed(cmdline.DEFAULT_NAME, origin, size, span)
    free = [*ground.free(taken)]
    inside, found = Span(max(base, _EVERYWHERE.start), limit), None
    if base < ground.low_end < limit:
        high = Span(ground.low_end, limit)
        found = find(free, size, kernel.block, high, lowest=False)
        inside = Span(inside.start, ground.low_end)
    found = found or find(free, size, kernel.block, inside, lowest=False)
    if found is None:
        return refused("no free memory of that size and range is left")
    return Placed(cmdline.DEFAULT_NAME, origin, size, found)
