"""What a cell of a matrix comes to in the matrix's record. Pure.

The cases are those of the cell's own record. What happened to the cell itself, and to none of its
cases, is the verdict of one more: `cell`.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.matrix.plan import Planned
from harness.results.record import CELL_CASE, CaseRecord, CellRecord, RunRecord
from harness.verdict import Verdict, exit_code

_TAIL_LINES = 20
_TOLD = "cma-harness: "  # what the command line's errors begin with


@dataclass(frozen=True, slots=True)
class Ending:
    """How a cell's process ended: its status, its seconds, its output; `stopped` says by whom."""

    status: int
    seconds: float
    output: str
    stopped: str = ""


def waiting(planned: Planned, inputs: str) -> CellRecord:
    """Return the record of a cell that has not begun."""
    return without_cases(planned, inputs, Verdict.LOST, "has not begun")


def without_cases(planned: Planned, inputs: str, verdict: Verdict, reason: str) -> CellRecord:
    """Return the record of a cell that has no cases, for that reason."""
    cell = planned.cell
    return CellRecord(
        name=planned.name,
        kernel=cell.kernel.label,
        board=cell.board.name,
        layout=cell.layout.name,
        lane=cell.lane,
        arguments=planned.wish.arguments,
        inputs=inputs,
        cases=(_cell_case(verdict, reason),),
    )


def came_to(planned: Planned, inputs: str, own: RunRecord | None, ending: Ending) -> CellRecord:
    """Return the record of a cell whose process has ended; `own` is the one that it left.

    It has come to its end when its cases explain its exit code; anything else is an ERROR, and
    the cell's `seconds` stay None, so that a resume runs it again.
    """
    if own is None or not own.cells:
        if ending.stopped:
            return without_cases(planned, inputs, Verdict.LOST, ending.stopped)
        return without_cases(planned, inputs, Verdict.ERROR, last_words(ending.output))
    (found,) = own.cells
    cases = tuple(_moved(case, found.name) for case in found.cases)
    done = own.ended is not None and ending.status == exit_code(case.verdict for case in cases)
    if not done and ending.stopped:
        cases = (*cases, _cell_case(Verdict.LOST, ending.stopped))
    elif not done:
        said = f"ended with status {ending.status}\n{last_words(ending.output)}"
        cases = (*cases, _cell_case(Verdict.ERROR, said))
    return found.model_copy(
        update={
            "name": planned.name,
            "arguments": planned.wish.arguments,
            "inputs": inputs,
            "seconds": ending.seconds if done else None,
            "cases": cases,
        }
    )


def last_words(output: str) -> str:
    """Return what a process said of its end: the command line's error, or its last lines."""
    _, told, error = f"\n{output}".rpartition(f"\n{_TOLD}")
    if told:
        return error.strip()
    return "\n".join(output.splitlines()[-_TAIL_LINES:])


def _cell_case(verdict: Verdict, message: str) -> CaseRecord:
    return CaseRecord(
        id=CELL_CASE, suite=CELL_CASE, name=CELL_CASE, verdict=verdict, message=message
    )


def _moved(case: CaseRecord, folder: str) -> CaseRecord:
    """Point to the console where the matrix has it: a folder deeper."""
    if case.console is None:
        return case
    console = case.console.model_copy(update={"log": f"{folder}/{case.console.log}"})
    return case.model_copy(update={"console": console})
