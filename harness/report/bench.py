"""The record of a bench as a table."""

from __future__ import annotations

from statistics import median

from rich.console import Console
from rich.table import Table

from harness.results.bench import BenchRecord, Row


def show(record: BenchRecord, console: Console) -> None:
    """Print a line for each comparison: medians, their ratio, and the goal."""
    table = Table(box=None)
    table.add_column("measured / beside")
    for heading in ("ours", "theirs", "ratio", "goal"):
        table.add_column(heading, justify="right")
    for row in record.rows:
        table.add_row(*_cells(row))
    console.print(table)


def _cells(row: Row) -> tuple[str, ...]:
    colour = "green" if row.good else "red"
    return (
        row.name,
        f"{median(row.ours):.3f} {row.unit}",
        f"{median(row.theirs):.3f} {row.unit}",
        f"[{colour}]{row.ratio:.2f}[/]",
        f"≤ {row.most:.2f}",
    )
