"""What `layout show` draws: everything that lies in memory, and a raster of it to scale. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.config import MIB, Layout
from harness.layout.check import carveouts
from harness.layout.ground import KIB, Ground, Span
from harness.layout.placing import Origin, place
from harness.layout.room import size

COLUMNS, ROWS = 64, 24
_LETTERS = {
    "kernel": "K",
    "page tables": "K",
    "initrd": "I",
    "dtb": "D",
    "no-map": "x",
    "reserved": "r",
}
_AREAS = "123456789abcdefghijklmnopqrstuvwyz"


@dataclass(frozen=True, slots=True)
class Item:
    """Something in memory: its kind ("area", or a `Kind`), and the letter that stands for it."""

    kind: str
    name: str
    span: Span
    letter: str
    note: str = ""

    @property
    def text(self) -> str:
        """Address, size and name, for people."""
        note = f"  {self.note}" if self.note else ""
        return f"{self.span.start:#010x}  {rounded(self.span.size):>9}  {self.name}{note}"


@dataclass(frozen=True, slots=True)
class Drawing:
    """A board's memory with a layout in it; `low_end` is the first address of high memory.

    `unplaced` are areas that the kernel finds no place for.
    """

    board: str
    layout: str
    kernel: str
    ram: tuple[Span, ...]
    low_end: int
    items: tuple[Item, ...]
    unplaced: tuple[str, ...]

    @property
    def high(self) -> bool:
        """Whether there is high memory at all."""
        return self.low_end < self.ram[-1].end


def draw(ground: Ground, layout: Layout, append: str = "") -> Drawing:
    """Return what is in memory, by address; areas that overlap something are all in it."""
    placed = place(ground, layout, append)
    letters = iter(_AREAS)
    items = [
        Item("area", each.name, each.span, next(letters, "#"), _how(each.origin, each.static))
        for each in sorted(placed, key=lambda each: each.span or Span(1 << 64, 1 << 64))
        if each.span
    ]
    for region in (*ground.taken, *carveouts(layout)):
        note = "" if region.kind in region.name else f"({region.kind})"
        items.append(Item(region.kind, region.name, region.span, _LETTERS[region.kind], note))
    return Drawing(
        ground.board,
        layout.name,
        ground.kernel.version,
        ground.ram,
        ground.low_end,
        tuple(sorted(items, key=lambda item: (item.span, item.name))),
        tuple(each.name for each in placed if each.span is None),
    )


def _how(origin: Origin, static: bool) -> str:
    if origin is not Origin.NODE:
        return f"(by {origin})"
    return "(static)" if static else "(placed by the kernel)"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the raster: where it begins, the item that each of its cells shows, None for free.

    A cell that is behind the bank is left out.
    """

    start: int
    cells: tuple[Item | None, ...]


def raster(drawing: Drawing, bank: Span) -> tuple[int, tuple[Row, ...]]:
    """Return how many bytes a cell stands for, and the lines of a bank of memory.

    A cell is a power of two, the smallest with which the bank takes `ROWS` lines. It shows what has
    most of it; what is small is shown rather than what is free.
    """
    cell = 64 * KIB
    while bank.size > cell * COLUMNS * ROWS:
        cell *= 2
    items = [item for item in drawing.items if item.span.overlaps(bank)]
    rows = tuple(
        Row(start, tuple(_cells(items, bank, start, cell)))
        for start in range(bank.start, bank.end, cell * COLUMNS)
    )
    return cell, rows


def _cells(items: Sequence[Item], bank: Span, start: int, cell: int) -> Iterator[Item | None]:
    for at in range(start, min(start + cell * COLUMNS, bank.end), cell):
        here = Span.of(at, cell)
        shares = [(_shared(item.span, here), item) for item in items if item.span.overlaps(here)]
        yield max(shares, key=lambda share: share[0])[1] if shares else None


def _shared(one: Span, other: Span) -> int:
    return min(one.end, other.end) - max(one.start, other.start)


def rounded(number: int) -> str:
    """Return bytes for people: 16 MiB, 9.6 MiB, 35 KiB."""
    if number >= MIB:
        return f"{number / MIB:.1f} MiB".replace(".0 ", " ")
    return f"{number / KIB:.0f} KiB"


def scale(cell: int) -> str:
    """Say what a cell of the raster stands for."""
    return f"a character is {size(cell)}, a line {size(cell * COLUMNS)}"
