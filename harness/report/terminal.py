"""A stored record on a terminal: what failed and why, then a line of counts for each cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import median

from rich.console import Console
from rich.markup import escape

from harness.report.grid import Square, grid
from harness.results.record import CaseRecord, CellRecord, RunRecord
from harness.text import printable
from harness.verdict import Verdict

_EACH = 4  # guests whose times are told one by one
_STYLE = {Verdict.PASS: "green", Verdict.SKIP: "yellow", Verdict.XFAIL: "yellow"}


def show(
    record: RunRecord, console: Console, *, every_case: bool = False, reasons: bool = True
) -> None:
    """Print the record: bad cases with their reasons, all with `every_case`, and the counts."""
    for cell in record.cells:
        if reasons:
            show_cases(cell.cases, console, every_case=every_case)
        version = f" (linux {escape(cell.kernel_version)})" if cell.kernel_version else ""
        name = f"{escape(cell.name)}{version}"
        started = _started(cell)
        console.print(f"{name}: {counts(cell.cases)}{started}", highlight=False, soft_wrap=True)
    if record.ended is None:
        console.print("[red]the run did not end: what it had not finished is LOST[/]")


def _started(cell: CellRecord) -> str:
    """Return how long the guests took to be there."""
    if not cell.boots:
        return ""
    digits, how = (2, "restored") if cell.restored else (1, "booted")
    if len(cell.boots) <= _EACH:
        return f"; {how} in {', '.join(f'{seconds:.{digits}f}' for seconds in cell.boots)} s"
    return f"; {how} {len(cell.boots)} times, in {median(cell.boots):.{digits}f} s (median)"


def show_grid(record: RunRecord, console: Console) -> None:
    """Print what of each suite passed on each cell; the columns are numbers of cells.

    "12" passed, "2F/12" of twelve two are FAIL, "-" all skipped, and "" the cell has it not. With
    more cells than the terminal is wide, there are several tables.
    """
    found = grid(record)
    for number, cell in enumerate(found.cells, 1):
        console.print(f"{number:>3}  {escape(cell.name)}", highlight=False, soft_wrap=True)
    width = max((len(suite) for suite in found.rows), default=0)
    squares = [square for row in found.rows.values() for square in row]
    column = max((len(square.text) for square in squares), default=0) + 2
    at_once = max(1, (console.width - width) // column)
    for first in range(0, len(found.cells), at_once):
        columns = range(first, min(first + at_once, len(found.cells)))
        heading = "".join(f"{number + 1:>{column}}" for number in columns)
        console.print(f"{'':<{width}}{heading}", highlight=False, soft_wrap=True)
        for suite, row in found.rows.items():
            texts = "".join(_square(row[number], column) for number in columns)
            line = f"{escape(printable(suite).ljust(width))}{texts}".rstrip()
            console.print(line, highlight=False, soft_wrap=True)


def _square(square: Square, width: int) -> str:
    text = f"{square.text:>{width}}"
    return f"[{style(square.verdict)}]{text}[/]" if square.verdict else text


def show_cases(cases: Iterable[CaseRecord], console: Console, *, every_case: bool = True) -> None:
    """Print a line for each case, and below it what it said."""
    for case in cases:
        if every_case or not case.verdict.good:
            line = f"[{style(case.verdict)}]{case.verdict:<8}[/]{escape(printable(case.id))}"
            console.print(line, highlight=False, soft_wrap=True)
            for text in printable(case.message).strip().splitlines():
                console.print(f"         {escape(text)}", highlight=False, soft_wrap=True)


def counts(cases: Iterable[CaseRecord]) -> str:
    """Return "12 PASS, 1 CRASH" in colours (rich's markup)."""
    found = Counter(case.verdict for case in cases)
    seen = [verdict for verdict in Verdict if found[verdict]]
    return ", ".join(f"[{style(verdict)}]{found[verdict]} {verdict}[/]" for verdict in seen) or (
        "no cases"
    )


def style(verdict: Verdict) -> str:
    """Return the colour of a verdict."""
    return _STYLE.get(verdict, "red")
