"""A matrix without guests: cells of any size, and processes that end when the test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from harness.cell import Cell
from harness.config import MIB, Board, Kernel, Layout
from harness.invocation import OUTPUT
from harness.matrix.launch import build_output
from harness.matrix.plan import Planned
from harness.matrix.run import Matrix
from harness.matrix.schedule import Limits
from harness.matrix.watch import Watch
from harness.results.plan import Wish
from harness.results.record import RUN_FILE, CaseRecord, CellRecord, Recorder, RunRecord, now
from harness.verdict import Verdict, exit_code

BUILD, TEST = "build", "test"


def a_cell(kernel: str = "6.12", layout: str = "default", memory: int = 256) -> Cell:
    board = Board(
        name="virt", description="", machine="virt", cpu="cortex-a15", memory=memory * MIB,
        family="armv7-virt", ram=0, tree="dump", console="ttyAMA0",
    )  # fmt: skip
    return Cell(
        Kernel(name=kernel, package="linux-source", config=()),
        board,
        Layout(name=layout, description=""),
    )


def a_wish(**changes: object) -> Wish:
    fields = {"kernel": "6.12", "variant": "plain", "board": "virt", "layout": "default"}
    return Wish.model_validate(fields | changes)


def planned(
    name: str,
    *,
    kernel: str = "6.12",
    memory: int = 256,
    seconds: float | None = None,
    obstacle: str | None = None,
    worth: int = 0,
) -> Planned:
    wish = a_wish(kernel=kernel, worth=worth)
    return Planned(name, wish, a_cell(kernel, memory=memory), seconds, obstacle)


@dataclass(eq=False)
class FakeJob:
    """A process, which its launcher ends."""

    kind: str
    planned: Planned
    launcher: FakeLauncher
    interrupted: bool = False

    def status(self) -> int:
        self.launcher.end(self)
        return 130 if self.interrupted else self.launcher.status_of(self)

    def interrupt(self) -> None:
        self.interrupted = True

    def kill(self) -> None:
        self.interrupted = True
        self.launcher.killed.append(self.planned.name)


@dataclass
class FakeLauncher:
    """Processes that end one at a time: `choose` says which of those that run.

    `cases` has the verdicts of a cell (one PASS by default), `broken` the kernels that do not
    build, and `silent` the cells that leave no record. Each end takes `seconds` of `clock`.
    """

    directory: Path
    limits: Limits
    choose: Callable[[int], int] = lambda _: 0
    cases: Mapping[str, tuple[Verdict, ...]] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    interrupt_at: int = -1  # which wait Ctrl-C comes in
    seconds: Mapping[str, float] = field(default_factory=dict)
    clock: float = 0.0
    running: list[FakeJob] = field(default_factory=list)
    begun: list[tuple[str, str]] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    waits: int = 0

    def build(self, planned: Planned) -> FakeJob:
        assert not [job for job in self.running if job.kind == BUILD], "two builds at once"
        return self._begin(BUILD, planned)

    def test(self, planned: Planned) -> FakeJob:
        return self._begin(TEST, planned)

    def _begin(self, kind: str, planned: Planned) -> FakeJob:
        job = FakeJob(kind, planned, self)
        self.running.append(job)
        self.begun.append((kind, planned.name))
        cells = [each for each in self.running if each.kind == TEST]
        assert len(cells) <= self.limits.cells
        assert sum(each.planned.memory for each in cells) <= self.limits.memory
        return job

    def ended(self, jobs: Iterable[FakeJob], timeout: float | None) -> tuple[FakeJob, ...]:
        jobs = tuple(jobs)
        assert set(jobs) == set(self.running)
        self.waits += 1
        if self.waits - 1 == self.interrupt_at:
            raise KeyboardInterrupt
        job = next((each for each in jobs if each.interrupted), jobs[self.choose(len(jobs))])
        took = self.seconds.get(job.planned.name, 1.0) if job.kind == TEST else 1.0
        if job.interrupted:
            took = 0.0
        if timeout is not None and took > timeout:
            self.clock += timeout
            return ()
        self.clock += took
        return (job,)

    def end(self, job: FakeJob) -> None:
        self.running.remove(job)
        name = job.planned.name
        if job.kind == BUILD:
            build_output(self.directory, job.planned).write_text("cma-harness: no compiler\n")
            return
        place = self.directory / name
        place.mkdir(exist_ok=True)
        (place / OUTPUT).write_text("preparing\ncma-harness: dtc refused it\n")
        if name not in self.silent:
            (place / RUN_FILE).write_text(self.own_record(job).model_dump_json())

    def own_record(self, job: FakeJob) -> RunRecord:
        verdicts = self.cases.get(job.planned.name, (Verdict.PASS,))
        if job.interrupted:
            verdicts = (*verdicts, Verdict.LOST)
        cases = tuple(
            CaseRecord(id=f"f::s::{number}", suite="s", name=str(number), verdict=verdict)
            for number, verdict in enumerate(verdicts)
        )
        cell = CellRecord(name=job.planned.cell.name, cases=cases)
        return RunRecord(id=job.planned.name, started=now(), ended=now(), cells=(cell,))

    def status_of(self, job: FakeJob) -> int:
        if job.kind == BUILD:
            return int(job.planned.wish.kernel in self.broken)
        if job.planned.name in self.silent:
            return 2
        return exit_code(self.cases.get(job.planned.name, (Verdict.PASS,)))


def a_matrix(
    plan: Iterable[Planned],
    launcher: FakeLauncher,
    *,
    inputs: Mapping[str, str] | None = None,
    **fields: object,
) -> Matrix:
    """Return a matrix whose processes the launcher starts; its record is new or gone on with."""
    plan = tuple(plan)
    place = launcher.directory
    resumed = (place / RUN_FILE).exists()
    recorder = Recorder.resume(place) if resumed else Recorder.start(place.parent, (), place)
    return Matrix(
        plan=plan,
        limits=launcher.limits,
        recorder=recorder,
        launcher=launcher,
        watch=Watch(Console(quiet=True), place, len(plan)),
        inputs=inputs or {each.name: "same" for each in plan},
        clock=lambda: launcher.clock,
        **fields,
    )
