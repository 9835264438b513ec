"""Running studies on kernels: what each needs is made, and what it says goes to the record."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import cell
from harness.cache import Cache
from harness.cell import Cell
from harness.config import edited, numbers, patches_for
from harness.config.versions import Versions
from harness.errors import HarnessError
from harness.kernel import source
from harness.progress import Progress
from harness.results import study as results
from harness.results.record import now
from harness.results.study import Outcome, StudiesRecord, StudyRecord
from harness.studies.lab import PATCHES, Lab
from harness.studies.study import Finding, NotHere, Study


@dataclass(frozen=True, slots=True)
class Order:
    """A study to be run on a kernel, as it is or `without` its mechanism."""

    study: Study
    kernel: str
    board: str = "virt"
    without: bool = False
    patches: tuple[str, ...] = ()
    fragments: tuple[str, ...] = ()

    def cell(self) -> Cell:
        """Return the study's cell, its kernel as it is; raise `UsageError` or `ConfigError`."""
        return cell.load(
            self.kernel,
            self.board,
            self.study.layout,
            self.study.variant,
            patches=self.patches,
            fragments=self.fragments,
        )

    def blank(self) -> StudyRecord:
        """Return the record of it before it is run."""
        study = self.study
        return StudyRecord(
            name=study.name,
            title=study.title,
            claim=study.claim,
            setup=study.setup,
            today=study.today,
            kernel=self.cell().kernel.label,
            without=study.without if self.without else "",
        )


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs orders one after the other; the record in `directory` has each as soon as it ended."""

    directory: Path
    cache: Cache
    progress: Progress

    def run(self, orders: Sequence[Order], command: tuple[str, ...]) -> StudiesRecord:
        """Run them all; one that cannot be run does not stop the others."""
        blank = tuple(order.blank() for order in orders)
        record = StudiesRecord(
            id=self.directory.name, started=now(), command=command, studies=blank
        )
        results.write(self.directory, record)
        done: list[StudyRecord] = []
        for study in self._each(orders, blank):
            done.append(study)
            record = record.model_copy(update={"studies": (*done, *blank[len(done) :])})
            results.write(self.directory, record)
        record = record.model_copy(update={"ended": now()})
        results.write(self.directory, record)
        return record

    def _each(self, orders: Sequence[Order], blank: Sequence[StudyRecord]) -> Iterator[StudyRecord]:
        for order, record in zip(orders, blank, strict=True):
            name = "-".join((record.name, record.kernel, *(["without"] if order.without else [])))
            kept = record.model_copy(update={"directory": name})
            try:
                found = self._one(order, kept)
            except HarnessError as problem:
                failed = {"outcome": Outcome.ERROR, "reason": str(problem)}
                found = kept.model_copy(update=failed)
            self.progress.say(f"study    {name}: {found.outcome}")
            yield found

    def _one(self, order: Order, record: StudyRecord) -> StudyRecord:
        chosen = order.cell()
        version = source.obtain(chosen.kernel, self.cache, self.progress).version
        record = record.model_copy(update={"kernel_version": version})
        why = _skipped(order, version)
        if why:
            return record.model_copy(update={"outcome": Outcome.SKIP, "reason": why})
        if order.without:
            without = str(PATCHES / order.study.without)
            chosen = replace(chosen, kernel=edited(chosen.kernel, [without], ()))
        prepared = cell.prepare(chosen, self.cache, self.progress)
        began = time.monotonic()
        with (
            self.progress.phase("study", f"{order.study.name} on linux {version}"),
            Lab(prepared, self.directory / record.directory, self.cache, self.progress) as lab,
        ):
            try:
                found = order.study.measure(lab)
            except NotHere as absent:
                return record.model_copy(update={"outcome": Outcome.SKIP, "reason": str(absent)})
        took = time.monotonic() - began
        return record.model_copy(update=_ended(found) | {"seconds": took})


def _skipped(order: Order, version: str) -> str:
    """Return why the study is not for this kernel; "" when it is."""
    for versions, why in order.study.skip.items():
        if version in Versions.parse(versions):
            return why
    if order.without and not patches_for([PATCHES / order.study.without], version):
        return f"no patch takes it out of linux {'.'.join(map(str, numbers(version)))}"
    return ""


def _ended(found: Finding) -> dict[str, object]:
    """Return what a record has of a finding; all checks must have held."""
    held = bool(found.checks) and all(check.held for check in found.checks)
    return {
        "outcome": Outcome.HOLDS if held else Outcome.FAILS,
        "reason": found.reason,
        "checks": found.checks,
        "rows": found.rows,
        "drawings": found.drawings,
        "raw": dict(found.raw),
    }
