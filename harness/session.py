"""One pytest session on a cell: what it prepared, its guest, its record, and how errors judge."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from harness.boots import Boots
from harness.cache import digest_file
from harness.cell import Prepared
from harness.errors import GuestError, HarnessError
from harness.live import LiveCell
from harness.module_run import Outcome
from harness.progress import Progress
from harness.report import html, junit
from harness.results.record import AreaRecord, CaseRecord, CellRecord, Recorder
from harness.text import printable
from harness.verdict import Verdict

JUNIT_FILE, HTML_FILE = "junit.xml", "report.html"
_HERE = Path(__file__).resolve().parent
# Whose exceptions are errors of ours, or of the host: the harness, its libraries, Python.
_PYTHON = ("stdlib", "platstdlib", "purelib", "platlib")
_NOT_TESTS = (_HERE, *(Path(sysconfig.get_path(name)) for name in _PYTHON))


class CaseEnded(Exception):
    """A KUnit case ended in a verdict that is not good."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(printable(f"{outcome.verdict}: {outcome.message}"))


@dataclass(slots=True)
class Session:
    """`recorder` is None in a worker of pytest-xdist: only the controller writes the record.

    `live` has the guest that the tests share, `further` those that a test boots for itself.
    """

    prepared: Prepared
    live: LiveCell
    further: Boots
    progress: Progress
    recorder: Recorder | None = None
    seed: int = 0
    boots: dict[str, list[float]] = field(default_factory=dict)

    def plan(self, ids: Iterable[str]) -> None:
        """Write the record of what is going to run, every case LOST."""
        if self.recorder is not None:
            cases = tuple(planned(each) for each in ids)
            self.recorder.update(cells=(_cell_record(self.prepared, cases, self.seed),))

    def finish(self, case: CaseRecord, worker: str, seen: Mapping[str, Any]) -> None:
        """Record a finished case, and what its worker has seen of the guest."""
        if self.recorder is None:
            return
        self.boots[worker] = seen["boots"]
        facts = {
            "boots": tuple(seconds for name in sorted(self.boots) for seconds in self.boots[name]),
            "restored": seen["restored"],
            "qemu_argv": tuple(seen["qemu_argv"]),
            "qemu_version": seen["qemu_version"],
            "areas": tuple(AreaRecord.model_validate(area) for area in seen["areas"]),
        }
        self.recorder.finish_case(self.prepared.cell.name, case, **facts)

    def seen(self) -> dict[str, Any]:
        """Return what this process knows of the guests it booted, in types that JSON has."""
        live = self.live
        areas = live.survey.areas if live.survey else ()
        return {
            "boots": list(live.boots),
            "restored": live.restored,
            "qemu_argv": list(live.argv),
            "qemu_version": live.qemu_version,
            "areas": [
                {"name": area.name, "base": area.base, "size": area.size, "used": area.used}
                for area in areas
            ],
        }

    def end(self) -> None:
        """Power off, end the record, draw it."""
        self.further.close()
        self.live.close()
        if self.recorder is None:
            return
        self.recorder.end(self.progress.seconds)
        junit.write(self.recorder.record, self.recorder.directory / JUNIT_FILE)
        html.write(self.recorder.record, self.recorder.directory / HTML_FILE)

    def judge(self, error: BaseException) -> Outcome:
        """Return the outcome of a test that ended with this exception."""
        if isinstance(error, CaseEnded):
            return error.outcome
        if isinstance(error, pytest.skip.Exception):
            return Outcome(Verdict.SKIP, error.msg or "no reason given")
        if isinstance(error, pytest.xfail.Exception):
            return Outcome(Verdict.XFAIL, error.msg or "no reason given")
        if isinstance(error, GuestError):
            return Outcome(error.verdict, self.live.explain_error(error))
        if isinstance(error, HarnessError):
            return Outcome(error.verdict, str(error))
        place = _raised_in(error)
        told = isinstance(error, AssertionError | pytest.fail.Exception)
        if told and not place.is_relative_to(_HERE):
            return Outcome(Verdict.FAIL, f"{error}")
        named = f"{type(error).__name__}: {error}"
        # A test that looks for what a broken kernel does not show: a list that is empty, no match.
        own = not any(place.is_relative_to(each) for each in _NOT_TESTS)
        return Outcome(Verdict.FAIL if own else Verdict.ERROR, named)


def _raised_in(error: BaseException) -> Path:
    """Return the file of the innermost frame: a test's, the harness's or a library's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return Path(trace.tb_frame.f_code.co_filename if trace else __file__)


def planned(node_id: str) -> CaseRecord:
    """Return the record of a case that has not run: FILE::SUITE::CASE, or FILE::CASE."""
    file, *rest = node_id.split("::")
    suite = rest[-2] if len(rest) > 1 else PurePosixPath(file).stem
    return CaseRecord(id=node_id, suite=suite, name=rest[-1] if rest else file)


def _cell_record(prepared: Prepared, cases: tuple[CaseRecord, ...], seed: int) -> CellRecord:
    cell = prepared.cell
    return CellRecord(
        name=cell.name,
        kernel=cell.kernel.label,
        kernel_version=prepared.kernel.version,
        kernel_key=prepared.kernel.key,
        board=cell.board.name,
        layout=cell.layout.name,
        lane=cell.lane,
        device_tree=digest_file(prepared.tree.blob),
        seed=seed,
        cases=cases,
    )
