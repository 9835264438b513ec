"""The record of a bisection on a terminal: what each commit came to, and which one it was."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.results.bisect import BisectRecord, Commit, Fate
from harness.text import printable

_STYLE = {Fate.GOOD: "green", Fate.BAD: "red", Fate.SKIPPED: "yellow"}
_DIGITS = 12


def show(record: BisectRecord, console: Console) -> None:
    """Print a line for each commit in the order they were tried, and the first bad one."""
    table = Table(box=None)
    for heading in ("", "commit", "subject", "why"):
        table.add_column(heading, overflow="fold")
    for each in record.tried:
        fate = f"[{_STYLE[each.fate]}]{each.fate}[/]"
        why = each.message.partition("\n")[0]
        table.add_row(fate, each.commit.sha[:_DIGITS], _text(each.commit.subject), _text(why))
    console.print(table)
    if len(record.found) > 1:
        told = "the commits between could not be judged, so the first bad commit is one of these:"
        console.print(told, soft_wrap=True)
    for commit in record.found:
        console.print(_told(commit, only=len(record.found) == 1), soft_wrap=True)


def _told(commit: Commit, *, only: bool) -> str:
    head = "first bad commit: " if only else "  "
    by = f"{_text(commit.author)}, {commit.date}"
    return f"[bold]{head}{commit.sha} {_text(commit.subject)}[/]\n    {by}"


def _text(text: str) -> str:
    return escape(printable(text))
