"""A drawing of memory as SVG: a column to scale for each bank, names beside it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from harness.layout.drawing import Drawing, Item, rounded
from harness.layout.ground import Span

_TEMPLATE = Path(__file__).with_name("memory.svg.jinja2")
_WIDTH, _LEFT, _COLUMN = 820, 120, 220
_TOP, _GAP, _HEIGHT = 64, 46, 640
_LABEL = 18  # between the middles of two labels
_THINNEST = 2.0  # so that a page is seen; everything else is to scale
_FILLS = {
    "kernel": "#d95f5f",
    "page tables": "#d95f5f",
    "initrd": "#e8a33d",
    "dtb": "#b07a1f",
    "no-map": "url(#no-map)",
    "reserved": "#999999",
}
_AREAS = ("#3b7dd8", "#3fa66b", "#8a5fc9", "#2aa6b5", "#c25fa5", "#7c9a2d", "#5566cc", "#b5762a")
_TICKS = 8


@dataclass(frozen=True, slots=True)
class _Box:
    y: float
    height: float
    label: float
    fill: str
    opacity: float
    address: str
    name: str
    size: str
    note: str

    @property
    def middle(self) -> float:
        return round(self.y + self.height / 2, 1)


@dataclass(frozen=True, slots=True)
class _Tick:
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class _Bank:
    top: float
    height: float
    ticks: tuple[_Tick, ...]
    boxes: tuple[_Box, ...]
    boundary: float | None


def svg(drawing: Drawing) -> str:
    """Return the file's text; banks are drawn to one scale, the lowest address on top."""
    whole = sum(bank.size for bank in drawing.ram)
    fills = _fills(drawing.items)
    banks, top, bottom = [], float(_TOP), float(_TOP)
    for span in drawing.ram:
        bank = _bank(drawing, span, top, max(_HEIGHT * span.size / whole, 20), fills)
        labels = max((box.label for box in bank.boxes), default=0.0)
        bottom = max(bank.top + bank.height, labels)
        banks.append(bank)
        top = bottom + _GAP
    missing = f"; no place for {', '.join(drawing.unplaced)}" if drawing.unplaced else ""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_TEMPLATE.read_text()).render(
        title=f"layout {drawing.layout} on {drawing.board}",
        subtitle=f"linux {drawing.kernel}, {rounded(whole)} of memory{missing}",
        width=_WIDTH,
        height=round(bottom + 30),
        left=_LEFT,
        column=_COLUMN,
        banks=banks,
        low_end=f"{drawing.low_end:#x}",
    )


def _fills(items: Sequence[Item]) -> dict[str, str]:
    names = [item.name for item in items if item.kind == "area"]
    return {name: _AREAS[at % len(_AREAS)] for at, name in enumerate(names)}


def _bank(drawing: Drawing, bank: Span, top: float, height: float, fills: dict[str, str]) -> _Bank:
    def y(address: int) -> float:
        return round(top + (address - bank.start) / bank.size * height, 1)

    items = [item for item in drawing.items if item.span.overlaps(bank)]
    boxes = []
    for item, label in zip(items, _labels([_middle(item, bank, y) for item in items]), strict=True):
        first, last = y(max(item.span.start, bank.start)), y(min(item.span.end, bank.end))
        boxes.append(
            _Box(
                y=first,
                height=max(round(last - first, 1), _THINNEST),
                label=label,
                fill=fills.get(item.name, "#888") if item.kind == "area" else _FILLS[item.kind],
                opacity=0.6 if _crowded(item, items) else 1.0,
                address=f"{item.span.start:#x}",
                name=item.name,
                size=rounded(item.span.size),
                note=item.note,
            )
        )
    step = max(1, round(height / _HEIGHT * _TICKS))
    ends = [bank.start + bank.size * tick // step for tick in range(step + 1)]
    inside = drawing.high and bank.start < drawing.low_end < bank.end
    return _Bank(
        top,
        round(height, 1),
        tuple(_Tick(y(address), f"{address:#x}") for address in ends),
        tuple(boxes),
        y(drawing.low_end) if inside else None,
    )


def _middle(item: Item, bank: Span, y: Callable[[int], float]) -> float:
    first, last = y(max(item.span.start, bank.start)), y(min(item.span.end, bank.end))
    return (first + last) / 2


def _crowded(item: Item, items: Sequence[Item]) -> bool:
    return any(other is not item and other.span.overlaps(item.span) for other in items)


def _labels(middles: Sequence[float]) -> list[float]:
    """Return a height for each label near its box's, none nearer to another than `_LABEL`."""
    heights: list[float] = []
    for middle in middles:
        heights.append(round(max(middle, heights[-1] + _LABEL if heights else middle), 1))
    return heights
