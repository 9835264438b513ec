"""A board's memory on the terminal: a raster to scale, and what its letters stand for."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from harness.layout.drawing import Drawing, Item, raster, rounded, scale
from harness.text import printable

_STYLES = {"area": "bold green", "no-map": "dim", "reserved": "dim"}
_TAKEN = "yellow"


def show(drawing: Drawing, screen: Console) -> None:
    """Print each bank of memory, and then everything in it by address."""
    screen.print(
        f"layout {drawing.layout} on {drawing.board}, linux {drawing.kernel}", markup=False
    )
    for bank in drawing.ram:
        cell, rows = raster(drawing, bank)
        screen.print(f"\n{bank.start:#x}-{bank.end:#x}, {rounded(bank.size)}: {scale(cell)}")
        for row in rows:
            line = Text(f"{row.start:#010x} ", no_wrap=True)
            for item in row.cells:
                line.append(item.letter if item else "\N{MIDDLE DOT}", _style(item))
            end = row.start + len(row.cells) * cell
            if drawing.high and row.start <= drawing.low_end < end:
                line.append(f" < high memory from {drawing.low_end:#x}", "red")
            screen.print(line, soft_wrap=True)
    screen.print()
    for item in drawing.items:
        screen.print(Text(f"{item.letter} {printable(item.text)}", _style(item)), soft_wrap=True)
    for name in drawing.unplaced:
        screen.print(Text(f"? no place for {name}", "red"), soft_wrap=True)


def _style(item: Item | None) -> str:
    return _STYLES.get(item.kind, _TAKEN) if item else "dim"
