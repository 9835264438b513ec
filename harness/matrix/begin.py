"""From what is wanted to a matrix that is ready to run, and its forecast."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from harness import cell
from harness.cache import Cache
from harness.matrix import inputs
from harness.matrix.launch import Processes
from harness.matrix.plan import Planned, plan
from harness.matrix.run import Matrix, phase_of
from harness.matrix.schedule import Limits, forecast
from harness.matrix.watch import Watch
from harness.results import plan as stored
from harness.results.plan import PlanRecord
from harness.results.record import Recorder, RunRecord


@dataclass(frozen=True, slots=True)
class Outlook:
    """A plan, and what is expected of it: `builds` has the seconds of each kernel's build."""

    wanted: PlanRecord
    plan: tuple[Planned, ...]
    builds: dict[str, float]
    limits: Limits

    def limits_facts(self) -> dict[str, int]:
        """Return what the host has for it."""
        return {"cells": self.limits.cells, "memory_mib": self.limits.memory}

    def facts(self) -> list[dict[str, Any]]:
        """Return the cells in their order, and of each when it will start, or why it will not."""
        starts = self._starts()
        return [
            each.facts() | {"starts": starts[each.name], "left_out": self._left_out(each, starts)}
            for each in self.plan
        ]

    def _starts(self) -> dict[str, float | None]:
        if self.wanted.budget is None and any(each.seconds is None for each in self.plan):
            return dict.fromkeys(each.name for each in self.plan)
        budget = self.wanted.budget if self.wanted.budget is not None else float("inf")
        possible = [each for each in self.plan if each.obstacle is None]
        known = forecast(possible, self.limits, self.builds, budget)
        return {each.name: known.get(each.name) for each in self.plan}

    def _left_out(self, planned: Planned, starts: dict[str, float | None]) -> str | None:
        if planned.obstacle is not None:
            return planned.obstacle
        if planned.memory > self.limits.memory:
            return f"the host has {self.limits.memory} MiB for it"
        late = self.wanted.budget is not None and starts[planned.name] is None
        return "does not fit into the budget" if late else None


def outlook(wanted: PlanRecord, earlier: RunRecord | None, limits: Limits) -> Outlook:
    """Load every cell; raises `UsageError` or `ConfigError` for a name or file that is wrong."""
    planned = plan([(wish, cell.wanted(wish)) for wish in wanted.wishes], earlier)
    phases = earlier.phases if earlier else {}
    builds = {each.kernel: phases.get(phase_of(each), wanted.build_seconds) for each in planned}
    return Outlook(wanted, planned, builds, limits)


def begin(found: Outlook, cache: Cache, console: Console, recorder: Recorder) -> Matrix:
    """Return the matrix, its plan stored beside the record that it begins or goes on with."""
    stored.write(recorder.directory, found.wanted)
    return Matrix(
        plan=found.plan,
        limits=found.limits,
        recorder=recorder,
        launcher=Processes(recorder.directory),
        watch=Watch(console, recorder.directory, len(found.plan)),
        inputs=inputs.digests(found.plan, cache),
        budget=found.wanted.budget,
        builds=found.builds,
    )


def recorder(runs: Path, directory: Path | None, resume: Path | None) -> Recorder:
    """Return the record of this run: a new one, or that of an earlier run which did not end."""
    if resume is not None:
        return Recorder.resume(resume)
    return Recorder.start(runs, tuple(sys.argv), directory)
