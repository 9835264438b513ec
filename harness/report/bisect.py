"""The record of a bisection on a terminal: what each commit came to, and which one it was."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from harness.results.bisect import BisectRecord, Commit, Fate
from harness.text import printable

_STYLE = {Fate.GOOD: "green", Fate.BAD: "red", Fate.SKIPPED: "yellow"}
_DIGITS = 12


def show(record: BisectRecord, console: Console) -> None:
    """Print a line for each commit in the order they were tried, and the first bad one."""
    width = max((len(_text(each.commit.subject)) for each in record.tried), default=0)
    for each in record.tried:
        what = f"{each.commit.sha[:_DIGITS]}  {_text(each.commit.subject):<{width}}"
        why = _text(each.message.partition("\n")[0])
        console.print(f"[{_STYLE[each.fate]}]{each.fate:<8}[/] {what}  {why}", soft_wrap=True)
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
