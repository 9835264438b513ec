"""Where else an area could lie, and how large it could be: what a finding proposes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from harness.config import MIB, Area
from harness.layout.ground import KIB, Ground, Span


def nearest(ground: Ground, others: Collection[Span], wanted: Span) -> str:
    """Name the free place nearest to the one that is wanted, for a size of whole pageblocks."""
    length = max(ground.kernel.round_up(wanted.size), ground.kernel.block)
    best = nearest_place(ground, others, wanted.start, length, ground.kernel.block)
    if best is None:
        return f"there is no place for {size(length)}"
    return f"the nearest free place for {size(length)} is {best:#x}"


def nearest_place(
    ground: Ground, others: Collection[Span], wanted: int, length: int, align: int
) -> int | None:
    """Return the free, aligned address nearest to one, on one side of the end of low memory."""
    candidates = []
    for whole in ground.free(others):
        for span in _zones(whole, ground.low_end):
            first, last = -(-span.start // align) * align, (span.end - length) // align * align
            if first <= last:
                candidates.append(min(max(round(wanted / align) * align, first), last))
    return min(candidates, key=lambda base: (abs(base - wanted), base), default=None)


def _zones(span: Span, border: int) -> Iterator[Span]:
    if span.start < border < span.end:
        yield Span(span.start, border)
        yield Span(border, span.end)
    else:
        yield span


def largest(ground: Ground, others: Collection[Span], area: Area | None) -> str:
    """Name the largest size that there is a place for, in the area's range and alignment."""
    inside = Span(*area.within) if area and area.within else Span(4096, 1 << 64)
    align = max((area.alignment if area else None) or 0, ground.kernel.block)
    most = 0
    for span in ground.free(others):
        start = -(-max(span.start, inside.start) // align) * align
        most = max(most, ground.kernel.round_down(min(span.end, inside.end) - start))
    return f"the largest that fits there: {size(most)}" if most > 0 else "nothing fits there"


def size(number: int) -> str:
    """Return bytes as a layout file writes them: 4M, 64K, 1536."""
    for unit, letter in ((1 << 30, "G"), (MIB, "M"), (KIB, "K")):
        if number and number % unit == 0:
            return f"{number // unit}{letter}"
    return f"{number / MIB:.1f} MiB" if number > MIB else str(number)
