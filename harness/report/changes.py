"""A comparison of two runs as text: what is newly red first, with what it said."""

from __future__ import annotations

from collections.abc import Iterable

from harness.results.compare import Change, Comparison
from harness.text import printable


def render(found: Comparison, before: str, after: str) -> str:
    """Return the summary of the run `after` against `before` (their ids)."""
    return "\n".join(
        (
            f"{after} against {before}:",
            *_section("new red", found.new_red, reasons=True),
            *_section("new green", found.new_green),
            *_section("still red", found.still_red, reasons=True),
            *_section("gone", found.gone),
            *_section("appeared", found.appeared, listed=False),
            f"  not run      {len(found.not_run)}",
            *(f"    {cell}" for cell in found.not_run),
            "",
        )
    )


def _section(
    name: str, changes: tuple[Change, ...], *, reasons: bool = False, listed: bool = True
) -> Iterable[str]:
    yield f"  {name:<13}{len(changes)}"
    for change in changes if listed else ():
        was = f"{change.before.verdict} -> " if change.before else ""
        verdict = change.after.verdict if change.after else "gone"
        message = change.after.message.partition("\n")[0] if change.after and reasons else ""
        text = f"    {change.cell}: {change.case}: {was}{verdict}"
        yield printable(f"{text}: {message}" if message else text)
