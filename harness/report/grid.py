"""A record's cells and suites as a table: what of each suite passed on each cell. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from harness.results.record import CellRecord, RunRecord
from harness.verdict import Verdict

_LETTERS = {verdict: verdict[0] for verdict in Verdict if not verdict.good}


@dataclass(frozen=True, slots=True)
class Square:
    """A suite on a cell: `text` is its passed cases, or "2F/12" for two FAIL of twelve."""

    text: str
    verdict: Verdict | None = None  # the worst of its kind: red, then passed, then skipped


@dataclass(frozen=True, slots=True)
class Grid:
    """`rows` has a square for each cell, by the suite's name."""

    cells: tuple[CellRecord, ...]
    rows: dict[str, tuple[Square, ...]]


def grid(record: RunRecord) -> Grid:
    """Return the table: suites in the order of their first case, cells in that of the record."""
    suites = dict.fromkeys(case.suite for case in record.cases())
    return Grid(
        record.cells,
        {suite: tuple(_square(cell, suite) for cell in record.cells) for suite in suites},
    )


def _square(cell: CellRecord, suite: str) -> Square:
    found = Counter(case.verdict for case in cell.cases if case.suite == suite)
    if not found:
        return Square("")
    bad = [verdict for verdict in Verdict if found[verdict] and not verdict.good]
    if bad:
        letters = "".join(f"{found[verdict]}{_LETTERS[verdict]}" for verdict in bad)
        return Square(f"{letters}/{found.total()}", bad[0])
    if found[Verdict.PASS]:
        return Square(str(found[Verdict.PASS]), Verdict.PASS)
    return Square("-", Verdict.SKIP)
