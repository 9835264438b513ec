"""The record of a run's coverage: coverage.json, which is all that is needed to draw it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

SCHEMA = 1
COVERAGE_FILE = "coverage.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Line(_Frozen):
    """A line of source; `executed` is None where the compiler made nothing of it.

    `branches` has how often each way out of it was taken. `reason` says why it is not executed.
    """

    number: int
    text: str
    function: str = ""
    executed: int | None = None
    branches: tuple[int, ...] = ()
    reason: str = ""

    @property
    def uncovered(self) -> bool:
        """Whether there is code that was never executed."""
        return self.executed == 0


class FileCoverage(_Frozen):
    """A source file, or the part of it that is looked at; `goal` is in per cent of its lines."""

    path: str
    goal: float | None = None
    lines: tuple[Line, ...] = ()

    @property
    def code(self) -> int:
        """How many lines the compiler made code of."""
        return sum(line.executed is not None for line in self.lines)

    @property
    def covered(self) -> int:
        """How many of these were executed."""
        return self.code - sum(1 for _ in self.uncovered())

    @property
    def percent(self) -> float:
        """The executed part of the lines; of no lines all are."""
        return 100 * self.covered / self.code if self.code else 100.0

    @property
    def branches(self) -> int:
        """How many ways out of branches there are."""
        return sum(len(line.branches) for line in self.lines)

    @property
    def taken(self) -> int:
        """How many of these were taken."""
        return sum(count > 0 for line in self.lines for count in line.branches)

    @property
    def reached(self) -> bool:
        """Whether the goal is met, where there is one."""
        return self.goal is None or self.percent >= self.goal

    def uncovered(self) -> Iterator[Line]:
        """Yield the lines that were never executed."""
        return (line for line in self.lines if line.uncovered)


class CoverageRecord(_Frozen):
    """What all guests of a run executed together.

    `notes` are reasons that no longer apply: their line is executed, or gone.
    """

    schema_version: int = SCHEMA
    kernel_version: str
    kernel_key: str
    guests: int
    files: tuple[FileCoverage, ...]
    notes: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether every goal is met and every uncovered line has its reason."""
        return all(file.reached for file in self.files) and not any(self.unexplained())

    def unexplained(self) -> Iterator[tuple[FileCoverage, Line]]:
        """Yield the uncovered lines that nobody gave a reason for."""
        for file in self.files:
            yield from ((file, line) for line in file.uncovered() if not line.reason)


def read(path: Path) -> CoverageRecord:
    """Return the record in coverage.json."""
    return CoverageRecord.model_validate_json(path.read_bytes())
