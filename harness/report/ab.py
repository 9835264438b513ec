"""What differs between two kernels, on a terminal."""

from __future__ import annotations

from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.results.ab import Difference, Figure
from harness.text import printable


def show(found: Difference, console: Console) -> None:
    """Print warnings, verdicts that changed, and figures that differ."""
    for warning in found.warnings:
        console.print(f"[yellow]warning[/]: {escape(printable(warning))}", soft_wrap=True)
    for change in found.verdicts:
        before, after = ("/".join(dict.fromkeys(side)) for side in (change.base, change.other))
        colour = "red" if change.worse else "green"
        text = f"{printable(change.case)}: {before} -> {after}"
        console.print(f"[{colour}]{escape(text)}[/]", soft_wrap=True)
    if found.changed:
        table = Table(box=None)
        table.add_column("figure", overflow="fold")
        for heading in ("base", "other", "difference", ""):
            table.add_column(heading, justify="right")
        for figure in found.changed:
            table.add_row(*_row(figure))
        console.print(table)
    console.print(
        f"{len(found.verdicts)} verdicts and {len(found.changed)} of {len(found.figures)} figures "
        "differ",
        soft_wrap=True,
    )


def _row(figure: Figure) -> tuple[str, ...]:
    low, high = (figure.percent(value) for value in figure.interval)
    share = f"{low:+.3f} %" if low == high else f"{low:+.1f} to {high:+.1f} %"
    better = figure.delta < 0
    colour = ("green" if better else "red") if figure.costs else "default"
    return (
        escape(printable(f"{figure.case.rpartition('::')[2]} {figure.name}")),
        f"{median(figure.base):.10g}",
        f"{median(figure.other):.10g} {escape(figure.unit)}",
        f"[{colour}]{figure.delta:+.10g}[/]",
        share,
    )
