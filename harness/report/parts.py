"""Where the instructions of a case went: its metrics `part.NAME`, as a bar."""

from __future__ import annotations

from dataclasses import dataclass

from harness.results.record import CellRecord

_PREFIX = "part."


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a bar: its figure, and its share of the whole in percent."""

    name: str
    value: float
    percent: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A case's parts, in the order in which it has them, and what they add up to."""

    case: str
    total: float
    unit: str
    pieces: tuple[Piece, ...]


def bars(cell: CellRecord) -> tuple[Bar, ...]:
    """Return the bars of the cases that have parts, in the order of the cases."""
    found = []
    for case in cell.cases:
        parts = {
            name.removeprefix(_PREFIX): metric
            for name, metric in case.metrics.items()
            if name.startswith(_PREFIX)
        }
        total = sum(metric.value for metric in parts.values())
        if total > 0:
            pieces = tuple(
                Piece(name, metric.value, 100 * metric.value / total)
                for name, metric in parts.items()
            )
            found.append(Bar(case.name, total, next(iter(parts.values())).unit, pieces))
    return tuple(found)


def names(drawn: tuple[Bar, ...]) -> tuple[str, ...]:
    """Return the names of all parts, each once; its place is its colour."""
    return tuple(dict.fromkeys(piece.name for bar in drawn for piece in bar.pieces))
