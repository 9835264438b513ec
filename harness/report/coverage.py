"""A stored coverage record on a terminal, and as one HTML page that opens without a network."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import jinja2
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.results.coverage import CoverageRecord, FileCoverage, Line
from harness.results.record import write_whole

_TEMPLATE = Path(__file__).with_name("coverage.html.jinja2")
_NO_REASON = "no reason given"


def write(record: CoverageRecord, path: Path) -> None:
    """Write the page: every line with how often it was executed."""
    write_whole(path, render(record))


def render(record: CoverageRecord) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.from_string(_TEMPLATE.read_text()).render(record=record)


def show(record: CoverageRecord, console: Console) -> None:
    """Print the table of files, the lines that nothing executed with their reasons, the notes."""
    for file in record.files:
        _show_uncovered(file, console)
    for note in record.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    console.print(_table(record))
    for file in record.files:
        if not file.reached:
            text = (
                f"{file.path}: {file.percent:.1f} % of the lines, and {file.goal:g} % is the goal"
            )
            console.print(f"[red]{escape(text)}[/]", highlight=False)
    unexplained = sum(1 for _ in record.unexplained())
    if unexplained:
        console.print(f"[red]{unexplained} uncovered lines without a reason[/]", highlight=False)


def _table(record: CoverageRecord) -> Table:
    guests = "1 guest" if record.guests == 1 else f"{record.guests} guests"
    title = f"linux {escape(record.kernel_version)}, {guests}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("file", no_wrap=True)
    for name in ("lines", "covered", "%", "branches", "taken", "no reason"):
        table.add_column(name, justify="right")
    for file in record.files:
        style = "green" if file.reached else "red"
        table.add_row(
            escape(file.path),
            str(file.code),
            str(file.covered),
            f"[{style}]{file.percent:.1f}[/]",
            str(file.branches),
            str(file.taken),
            str(sum(not line.reason for line in file.uncovered())),
        )
    return table


def _show_uncovered(file: FileCoverage, console: Console) -> None:
    def place(line: Line) -> tuple[str, str]:
        return line.function, line.reason

    for (function, reason), lines in groupby(file.uncovered(), place):
        style = "yellow" if reason else "red"
        where = f"{function}()" if function else "outside functions"
        head = f"{escape(f'{file.path} {where}')}: [{style}]{escape(reason or _NO_REASON)}"
        console.print(f"{head}[/]", highlight=False, soft_wrap=True)
        for line in lines:
            text = f"{line.number:>6}  {line.text.expandtabs()}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
