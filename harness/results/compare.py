"""Two records of the same matrix: what became red or green between them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from harness.results.record import CELL_CASE, CaseRecord, CellRecord, RunRecord
from harness.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Change:
    """A case of a cell, before and after; None where it was not there."""

    cell: str
    case: str
    before: CaseRecord | None
    after: CaseRecord | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is different; `not_run` are cells that the later run has no verdict of a kernel for.

    A red case that was not there before is newly red; `appeared` has the good ones.
    """

    new_red: tuple[Change, ...] = ()
    new_green: tuple[Change, ...] = ()
    still_red: tuple[Change, ...] = ()
    gone: tuple[Change, ...] = ()
    appeared: tuple[Change, ...] = ()
    not_run: tuple[str, ...] = ()


def compare(before: RunRecord, after: RunRecord, parts: Collection[str] = ()) -> Comparison:
    """Return what changed from one run to the next, case by case.

    Of a nightly of some `parts` only, the cells of other parts are no loss. A cell that was planned
    and not run says nothing of its cases.
    """
    kinds: dict[str, list[Change]] = {}
    skipped = [cell.name for cell in after.cells if not _ran(cell)]
    then = {
        cell.name: cell
        for cell in before.cells
        if not parts or cell.name.partition(".")[0] in parts
    }
    now = {cell.name: cell for cell in after.cells}
    for name in dict.fromkeys((*now, *then)):
        for change in _changes(name, then.get(name), now.get(name)):
            if kind := _kind(change):
                if kind == "gone" and name in skipped:
                    continue
                kinds.setdefault(kind, []).append(change)
    return Comparison(
        **{kind: tuple(found) for kind, found in kinds.items()}, not_run=tuple(skipped)
    )


def _changes(name: str, then: CellRecord | None, now: CellRecord | None) -> Iterable[Change]:
    before = {case.id: case for case in then.cases if _counts(case)} if then else {}
    after = {case.id: case for case in now.cases if _counts(case)} if now else {}
    for case in dict.fromkeys((*after, *before)):
        yield Change(name, case, before.get(case), after.get(case))


def _counts(case: CaseRecord) -> bool:
    """Whether it is more than the word of a matrix that a cell was not run."""
    return case.id != CELL_CASE or case.verdict is Verdict.ERROR


def _ran(cell: CellRecord) -> bool:
    return any(case.id != CELL_CASE for case in cell.cases)


def _kind(change: Change) -> str | None:
    before, after = change.before, change.after
    if after is None:
        return "gone"
    if not after.verdict.good:
        return "still_red" if before is not None and not before.verdict.good else "new_red"
    if before is None:
        return "appeared"
    return None if before.verdict.good else "new_green"
