"""The contract, run on one kernel as a user runs it; what was red is read from the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cell import Cell
from harness.config import CONFIGS, require_known
from harness.errors import CommandFailed, DiskFull
from harness.invocation import invoke
from harness.results.record import CaseRecord
from harness.verdict import Verdict

REPOSITORY = CONFIGS.parent


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the contract: with `whole` it goes on behind a red case."""

    name: str
    paths: tuple[str, ...]
    whole: bool = False


# The module first: it is the cheaper part, and all of its cases have run when one is red.
CONTRACT = (
    Stage("kunit", ("kmod/cma_kunit",), whole=True),
    Stage("target", ("tests/target",)),
)


def stages(names: Sequence[str]) -> tuple[Stage, ...]:
    """Return the stages of those names, or all; raise `UsageError` for one that there is not."""
    require_known("stage", names, [stage.name for stage in CONTRACT])
    return tuple(stage for stage in CONTRACT if not names or stage.name in names)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the suites said: red cases, skipped and passed ones, and errors that say nothing."""

    red: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    def __add__(self, other: Judgement) -> Judgement:
        """Return both as one."""
        return Judgement(
            self.red + other.red,
            self.skipped + other.skipped,
            self.passed + other.passed,
            self.errors + other.errors,
        )


def judge(cases: Sequence[CaseRecord]) -> Judgement:
    """Return what a record's cases say.

    A case that is LOST without a message was never begun: what stopped the run before it is red
    itself.
    """
    good = (Verdict.PASS, Verdict.XFAIL)
    return Judgement(
        tuple(case.id for case in cases if _red(case)),
        tuple(case.id for case in cases if case.verdict is Verdict.SKIP),
        tuple(case.id for case in cases if case.verdict in good),
        tuple(f"{case.id}: {case.message}" for case in cases if case.verdict is Verdict.ERROR),
    )


def _red(case: CaseRecord) -> bool:
    if case.verdict is Verdict.LOST:
        return bool(case.message)
    return case.verdict in (Verdict.FAIL, Verdict.TIMEOUT, Verdict.CRASH)


def contract(
    cell: Cell, tree: Path, directory: Path, stages: Sequence[Stage], *, guests: int = 0
) -> Judgement:
    """Run the stages on the kernel of `tree` until one is red; with `guests`, all, on so many."""
    said = Judgement()
    for stage in stages:
        said += _run(cell, tree, directory / stage.name, stage, guests)
        if said.red or said.errors:
            break
    return said


def _run(cell: Cell, tree: Path, directory: Path, stage: Stage, guests: int) -> Judgement:
    words = [
        *(f"--kernel={tree}", f"--variant={cell.kernel.variant}"),
        *(f"--board={cell.board.name}", f"--layout={cell.layout.name}"),
        "--boot",  # a guest of this kernel is of no use to any other run
        *(() if guests or stage.whole else ("-x",)),
        *(("-n", str(guests)) if guests > 1 else ()),
        *stage.paths,
    ]
    try:
        stored = invoke(words, directory, cwd=REPOSITORY)
    except (CommandFailed, DiskFull) as failure:  # it did not come as far as a guest
        return Judgement(errors=(str(failure),))
    said = judge(tuple(stored.cases()))
    if stored.ended is None or not (said.red or said.errors or said.passed):
        return said + Judgement(errors=(f"the run did not end, or ran nothing: {directory}",))
    return said
