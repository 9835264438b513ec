"""A stored record on a terminal: what failed and why, then a line of counts for each cell."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.markup import escape

from harness.results.record import CaseRecord, CellRecord, RunRecord
from harness.verdict import Verdict

_STYLE = {Verdict.PASS: "green", Verdict.SKIP: "yellow", Verdict.XFAIL: "yellow"}


def show(record: RunRecord, console: Console, *, every_case: bool = False) -> None:
    """Print the record; cases that are good only with `every_case`."""
    for cell in record.cells:
        for case in cell.cases:
            if every_case or not case.verdict.good:
                _show_case(case, console)
        console.print(_summary(cell), highlight=False, soft_wrap=True)
    if record.ended is None:
        console.print("[red]the run did not end: what it had not finished is LOST[/]")


def _show_case(case: CaseRecord, console: Console) -> None:
    line = f"[{style(case.verdict)}]{case.verdict:<8}[/]{escape(case.id)}"
    message = case.message.strip()
    console.print(line, highlight=False, soft_wrap=True)
    for text in message.splitlines():
        console.print(f"         {escape(text)}", highlight=False, soft_wrap=True)


def _summary(cell: CellRecord) -> str:
    counts = Counter(case.verdict for case in cell.cases)
    words = ", ".join(
        f"[{style(verdict)}]{counts[verdict]} {verdict}[/]"
        for verdict in Verdict
        if counts[verdict]
    )
    return f"{escape(cell.name)} (linux {escape(cell.kernel_version)}): {words or 'no cases'}"


def style(verdict: Verdict) -> str:
    """Return the colour of a verdict."""
    return _STYLE.get(verdict, "red")
