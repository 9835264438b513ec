"""A matrix at work: cells side by side, and one record that is on disk after each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HarnessError
from harness.interrupts import Interrupts
from harness.invocation import OUTPUT
from harness.matrix import outcome
from harness.matrix.launch import Launcher, Running, build_output
from harness.matrix.outcome import Ending
from harness.matrix.plan import Planned
from harness.matrix.schedule import Limits, Schedule
from harness.matrix.watch import Watch
from harness.results import record
from harness.results.record import CellRecord, Recorder, RunRecord
from harness.verdict import Verdict

_GRACE = 60.0  # seconds for a cell that was asked to end: it powers its guests off
_INTERRUPTED = "interrupted before its end"


@dataclass(frozen=True, slots=True)
class Task:
    """What a running process is for: a cell, or (`builds`) the kernel of this one and others."""

    planned: Planned
    began: float
    builds: bool


@dataclass(slots=True)
class Matrix:
    """One invocation. `inputs` has the digest of each cell's inputs by its name.

    Cells of `plan` that the record has with these inputs and at their end are kept. With `budget`
    (seconds) no cell starts that would not end in time, and what runs when it is used up is ended.
    `builds` has the seconds that builds are expected to take, see `Schedule`.
    """

    plan: Sequence[Planned]
    limits: Limits
    recorder: Recorder
    launcher: Launcher
    watch: Watch
    inputs: Mapping[str, str]
    budget: float | None = None
    builds: Mapping[str, float] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    _tasks: dict[Running, Task] = field(default_factory=dict)
    _phases: dict[str, float] = field(default_factory=dict)
    _began: float = 0.0

    def run(self) -> RunRecord:
        """Run what is not finished, and return the record; on Ctrl-C it holds what was."""
        self._began = self.clock()
        schedule = Schedule(self._take_over(), self.limits, self.builds)
        with self.watch:
            try:
                self._refuse(schedule)
                while self._step(schedule):
                    pass
            except BaseException:
                self._stop(schedule, _INTERRUPTED)
                raise
        self.recorder.end(self._phases)
        return self.recorder.record

    def _take_over(self) -> list[Planned]:
        """Put every cell into the record, keep the finished ones, and return the others."""
        known = {cell.name: cell for cell in self.recorder.record.cells}
        self._phases.update(self.recorder.record.phases)
        left = []
        cells = []
        for planned in self.plan:
            before, inputs = known.get(planned.name), self.inputs[planned.name]
            finished = before is not None and before.seconds is not None
            if before is not None and finished and before.inputs == inputs:
                cells.append(before)
                self.watch.kept(planned, before)
                continue
            if finished:
                self.watch.say(f"{planned.name}: what it is made of has changed, it runs again")
            cells.append(outcome.waiting(planned, inputs))
            left.append(planned)
        self.recorder.update(cells=tuple(cells))
        return left

    def _refuse(self, schedule: Schedule) -> None:
        """Let go of what cannot be, and of what this host cannot hold."""
        for planned in [each for each in schedule.waiting if each.obstacle]:
            schedule.waiting.remove(planned)
            self._without(planned, Verdict.SKIP, planned.obstacle or "")
        for planned in schedule.too_large():
            free = self.limits.memory
            reason = f"needs {planned.memory} MiB of the host's memory, {free} MiB are available"
            self._without(planned, Verdict.ERROR, reason)

    def _step(self, schedule: Schedule) -> bool:
        """Start what may start, and wait for an end; tell whether there is more to do."""
        self._skip_late(schedule)
        if (build := schedule.next_build()) is not None:
            self._start(build, self.launcher.build, builds=True)
        while (cell := schedule.next_cell()) is not None:
            self._start(cell, self.launcher.test, builds=False)
        if not self._tasks:
            return False
        ended = self.launcher.ended(tuple(self._tasks), self._left())
        for job in ended:
            self._finish(schedule, job, self._tasks.pop(job))
        if not ended:
            self._stop(schedule, f"the budget of {self._minutes()} min was used up")
        return True

    def _left(self) -> float | None:
        if self.budget is None:
            return None
        return max(0.0, self._began + self.budget - self.clock())

    def _minutes(self) -> str:
        return f"{(self.budget or 0) / 60:g}"

    def _skip_late(self, schedule: Schedule) -> None:
        left = self._left()
        for planned in schedule.late(left) if left is not None else ():
            needs = schedule.needs(planned) / 60
            self._without(
                planned,
                Verdict.SKIP,
                f"did not fit: it may need {needs:.1f} min, and of the budget of"
                f" {self._minutes()} min {(left or 0) / 60:.1f} were left",
            )

    def _start(
        self, planned: Planned, start: Callable[[Planned], Running], *, builds: bool
    ) -> None:
        with Interrupts():  # what is started is known, and can be ended
            self._tasks[start(planned)] = Task(planned, self.clock(), builds)
        self.watch.began(planned, builds=builds)

    def _finish(self, schedule: Schedule, job: Running, task: Task, stopped: str = "") -> None:
        status = job.status()
        took = self.clock() - task.began
        if not task.builds:
            schedule.ended(task.planned)
            self._put(task.planned, self._came_to(task, Ending(status, took, "", stopped)))
            return
        self.watch.built(task.planned, took, well=status == 0)
        if stopped:
            schedule.building = None
            return
        self._phases[phase_of(task.planned)] = took
        for planned in schedule.built(well=status == 0):
            self._without(planned, Verdict.ERROR, self._not_built(task.planned))

    def _came_to(self, task: Task, ending: Ending) -> CellRecord:
        planned = task.planned
        place = self.recorder.directory / planned.name
        output = _text(place / OUTPUT)
        try:
            own = record.read(place)
        except HarnessError:  # it has none, or half of one: its output says why
            own = None
        told = Ending(ending.status, ending.seconds, output, ending.stopped)
        return outcome.came_to(planned, self.inputs[planned.name], own, told)

    def _not_built(self, planned: Planned) -> str:
        file = build_output(self.recorder.directory, planned)
        said = outcome.last_words(_text(file))
        return f"its kernel could not be made: {said}\n{file.name} has all of it"

    def _without(self, planned: Planned, verdict: Verdict, reason: str) -> None:
        inputs = self.inputs[planned.name]
        self._put(planned, outcome.without_cases(planned, inputs, verdict, reason))

    def _put(self, planned: Planned, cell: CellRecord) -> None:
        self.recorder.put_cell(cell)
        self.watch.ended(planned, cell)

    def _stop(self, schedule: Schedule, reason: str) -> None:
        """End what runs, and keep what it had finished; what waits stays as it is in the record."""
        for job in self._tasks:
            job.interrupt()
        deadline = self.clock() + _GRACE
        try:
            while self._tasks:
                left = max(0.0, deadline - self.clock())
                ended = self.launcher.ended(tuple(self._tasks), left)
                for job in ended:
                    self._finish(schedule, job, self._tasks.pop(job), reason)
                if not ended:
                    break
        finally:  # also at the second Ctrl-C
            while self._tasks:
                job, task = self._tasks.popitem()
                job.kill()
                self._finish(schedule, job, task, reason)


def phase_of(planned: Planned) -> str:
    """Return the phase of the record that has the seconds of a kernel's build."""
    return f"kernel {planned.cell.kernel.label}"


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
