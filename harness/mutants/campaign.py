"""A campaign: the control first, then mutant after mutant, and a record that a resume goes on with.

For each mutant a copy of the kernel is edited, built where it was built before, tested until a case
is red, and mended; several copies let one build while another tests. Nothing counts when the
control, a copy as it is, does not pass.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

from harness import cell, config
from harness.cache import Cache
from harness.cell import Cell, Prepared
from harness.config import Mutant
from harness.errors import BuildFailed, HarnessError
from harness.kernel import source
from harness.kernel.tree import Source
from harness.mutants import suites, tree
from harness.mutants.suites import Judgement, Stage
from harness.mutants.tree import Tree
from harness.progress import Progress
from harness.results import mutants as results
from harness.results.mutants import CampaignRecord, ControlRecord, Fate, MutantRecord
from harness.results.record import new_directory, now

_KILLERS_SHOWN = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What a campaign does: on which cell, with which mutants, and how often each is tested."""

    cell: Cell
    mutants: tuple[Mutant, ...]
    stages: tuple[Stage, ...] = suites.CONTRACT
    repetitions: int = 1


def choose(
    mutants: Sequence[Mutant], variant: str, only: Sequence[str], files: Sequence[str]
) -> tuple[Mutant, ...]:
    """Return the mutants of a variant, and of those the ones with these ids or of these files.

    Raises `UsageError` for an id or a file that no mutant has.
    """
    config.require_known("mutant", only, [mutant.id for mutant in mutants])
    config.require_known("file with mutants", files, [mutant.file for mutant in mutants])
    return tuple(
        mutant
        for mutant in mutants
        if (mutant.id in only if only else mutant.variant == variant)
        and (not files or mutant.file in files)
    )


@dataclass(frozen=True, slots=True)
class Bench:
    """A copy of the kernel that one mutant at a time has to itself, and the cell of that kernel."""

    copy: Tree
    cell: Cell


@dataclass(slots=True)
class Campaign:
    """One invocation; `record` is on disk after every mutant. Each bench works on a mutant."""

    plan: Plan
    cache: Cache
    progress: Progress
    directory: Path
    record: CampaignRecord
    benches: tuple[Bench, ...]
    passed: frozenset[str] = field(default=frozenset())  # by the control
    lock: Lock = field(default_factory=Lock)  # of `record`

    def run(self) -> CampaignRecord:
        """Run the control, and the mutants when it is green."""
        for bench in self.benches:
            for file in bench.copy.mend():
                self.progress.say(f"mended   {file}: an earlier run was killed")
        control = self._control(self.benches[0])
        self._keep(control=control)
        if control.green:
            self.passed = frozenset(control.passed)
            self._all()
        self._keep(ended=now())
        return self.record

    def _all(self) -> None:
        """Give each mutant to the next free bench; an error of one ends the campaign."""
        free: SimpleQueue[Bench] = SimpleQueue()
        for bench in self.benches:
            free.put(bench)

        def one(number: int, mutant: Mutant) -> None:
            bench = free.get()
            try:
                self._one(number, mutant, bench)
            finally:
                free.put(bench)

        pool = ThreadPoolExecutor(len(self.benches))
        try:
            work = [pool.submit(one, *each) for each in enumerate(self.plan.mutants, 1)]
            for each in as_completed(work):
                each.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _control(self, bench: Bench) -> ControlRecord:
        """Test a copy as it is."""
        _, seconds = self._build(bench)
        guests = len(self.benches)
        said, took = self._suites(bench, "control", self.plan.stages, guests=guests)
        control = ControlRecord(
            red=said.red,
            errors=said.errors,
            passed=said.passed,
            skipped=said.skipped,
            build_seconds=seconds,
            suites_seconds=took,
            directory=str(self.directory / "control"),
        )
        self.progress.say(f"control  {told_of(control)}")
        return control

    def _one(self, number: int, mutant: Mutant, bench: Bench) -> None:
        known = next(found for found in self.record.mutants if found.id == mutant.id)
        if known.fate in (Fate.LEFT, Fate.ERROR, Fate.BROKEN):
            known = self._tested(mutant, bench)
            self._replace(known)
        self.progress.say(f"{number}/{len(self.plan.mutants)}  {mutant.id}: {told(known)}")

    def _tested(self, mutant: Mutant, bench: Bench) -> MutantRecord:
        place = str(self.directory / mutant.id)
        blank = _known(mutant, None).model_copy(update={"directory": place})
        try:
            with bench.copy.broken_by(mutant):
                built, seconds = self._build(bench)
                blank = blank.model_copy(update={"build_seconds": seconds})
                try:
                    return self._repeated(mutant, bench, blank)
                finally:
                    self.cache.drop("kernel", built.kernel.key)  # 150 MB each
        except BuildFailed as problem:
            return blank.model_copy(update={"fate": Fate.BROKEN, "message": str(problem)})
        except HarnessError as problem:
            return blank.model_copy(update={"fate": Fate.ERROR, "message": str(problem)})

    def _repeated(self, mutant: Mutant, bench: Bench, blank: MutantRecord) -> MutantRecord:
        first = (Stage("first", mutant.first),) if mutant.first else ()
        said: list[Judgement] = []
        seconds = 0.0
        for repetition in range(self.plan.repetitions):
            name = mutant.id if repetition == 0 else f"{mutant.id}/again-{repetition + 1}"
            judgement, took = self._suites(bench, name, (*first, *self.plan.stages))
            said.append(judgement)
            seconds += took
        return blank.model_copy(
            update=verdict(mutant, said, self.passed) | {"suites_seconds": seconds}
        )

    def _build(self, bench: Bench) -> tuple[Prepared, float]:
        began = time.monotonic()
        built = cell.prepare(bench.cell, self.cache, Progress(quiet=True))
        return built, time.monotonic() - began

    def _suites(
        self, bench: Bench, name: str, stages: Sequence[Stage], *, guests: int = 0
    ) -> tuple[Judgement, float]:
        began = time.monotonic()
        place = self.directory / name
        said = suites.contract(bench.cell, bench.copy.path, place, stages, guests=guests)
        return said, time.monotonic() - began

    def _replace(self, found: MutantRecord) -> None:
        with self.lock:
            mutants = (found if old.id == found.id else old for old in self.record.mutants)
            self._keep(mutants=tuple(mutants))

    def _keep(self, **fields: object) -> None:
        self.record = self.record.model_copy(update=fields)
        results.write(self.directory, self.record)


def begin(
    plan: Plan,
    cache: Cache,
    progress: Progress,
    runs: Path,
    resume: Path | None = None,
    *,
    jobs: int = 1,
) -> Campaign:
    """Make `jobs` copies with their build directories, and check that every mutant applies.

    `resume` is the directory of an earlier campaign: what it knows of mutants that have not
    changed since is taken over. Raises `ConfigError` for a mutant that does not apply, before
    anything is built.
    """
    earlier = results.read(resume) if resume else None
    original = source.obtain(plan.cell.kernel, cache, progress)
    benches = tuple(
        _bench(plan, original, number, cache, progress) for number in range(1, jobs + 1)
    )
    directory = resume or new_directory(runs)
    record = CampaignRecord(
        id=directory.name,
        started=now(),
        command=tuple(sys.argv),
        kernel=plan.cell.kernel.label,
        kernel_version=original.version,
        board=plan.cell.board.name,
        layout=plan.cell.layout.name,
        mutants=tuple(_known(mutant, earlier) for mutant in plan.mutants),
    )
    return Campaign(plan, cache, progress, directory, record, benches)


def _bench(plan: Plan, original: Source, number: int, cache: Cache, progress: Progress) -> Bench:
    copy = tree.copy(plan.cell.kernel, original, number, cache, progress)
    copy.check(plan.mutants)
    own = plan.cell.kernel
    kernel = config.load_kernel(str(copy.path), own.variant, own.family)
    tree.seed(original, kernel, cache, progress)
    return Bench(copy, replace(plan.cell, kernel=kernel))


def _known(mutant: Mutant, earlier: CampaignRecord | None) -> MutantRecord:
    mark = digest(mutant)
    for found in earlier.mutants if earlier else ():
        if (found.id, found.digest) == (mutant.id, mark):
            return found
    return MutantRecord(id=mutant.id, file=mutant.file, digest=mark)


def digest(mutant: Mutant) -> str:
    """Return what tells one definition of a mutant from another."""
    told = mutant.model_dump_json(exclude={"first", "promise", "undoes"})
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def verdict(
    mutant: Mutant, said: Sequence[Judgement], passed: frozenset[str] = frozenset()
) -> dict[str, object]:
    """Return the fields of a mutant's record that its repetitions decide.

    An error of the harness says nothing, so it is the fate unless a case was red beside it.
    """
    killed = sum(bool(judgement.red) for judgement in said)
    errors = [text for judgement in said for text in judgement.errors if not judgement.red]
    if errors:
        fate = Fate.ERROR
    elif killed == 0:
        fate = Fate.EQUIVALENT if mutant.equivalent else Fate.SURVIVED
    elif mutant.equivalent:
        fate = Fate.STALE
    else:
        fate = Fate.KILLED if killed == len(said) else Fate.SOMETIMES
    killers = dict.fromkeys(name for judgement in said for name in judgement.red)
    skipped = dict.fromkeys(name for judgement in said for name in judgement.skipped)
    return {
        "fate": fate,
        "killers": tuple(killers),
        "skipped": tuple(name for name in skipped if name in passed),
        "killed": killed,
        "repetitions": len(said),
        "message": "\n".join(errors),
    }


def told_of(control: ControlRecord) -> str:
    """Return what the control says as a few lines: the first names each red case."""
    sums = (
        f"{len(control.passed)} passed, {len(control.red)} red, {len(control.skipped)} skipped"
        f" (built in {control.build_seconds:.0f} s, tested in {control.suites_seconds:.0f} s)"
    )
    if control.green:
        return f"green: {sums}"
    return "\n  ".join((f"not green, so nothing counts: {sums}", *control.red, *control.errors))


def told(record: MutantRecord) -> str:
    """Return a mutant's fate as one line."""
    took = f"built in {record.build_seconds:.0f} s, tested in {record.suites_seconds:.0f} s"
    by = ", ".join(record.killers[:_KILLERS_SHOWN])
    more = len(record.killers) - _KILLERS_SHOWN
    killers = f" by {by}" + (f" and {more} more" if more > 0 else "") if by else ""
    often = f", {record.killed} of {record.repetitions}" if record.repetitions > 1 else ""
    skipped = f"; {len(record.skipped)} cases skipped that pass otherwise" if record.skipped else ""
    reason = f": {record.message.splitlines()[0]}" if record.message else ""
    return f"{record.fate}{killers}{often}{reason} ({took}){skipped}"
