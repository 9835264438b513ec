"""On-target tests are pytest tests: this plugin prepares the cell, collects, judges and records.

`cma-harness test` is pytest with this plugin; `pytest -p harness.pytest_plugin` is the same. It
adds one item for the layout (whether the kernel honoured it), one item for each KUnit case of a
module (known before the guest boots, out of the .ko), and the fixtures `guest`, `helper` and
`cell` for tests in Python.

With pytest-xdist's -n each worker has a guest of its own; the controller prepares the cell and
keeps the record.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from harness import cell
from harness.cache import Cache
from harness.cell import Prepared
from harness.cma.helper import Helper
from harness.errors import GuestError
from harness.guest.guest import Guest
from harness.kernel.kunit_elf import Suite
from harness.kernel.modules import KMOD
from harness.ktap.tree import worse
from harness.live import LiveCell, Outcome
from harness.progress import Progress
from harness.report import terminal
from harness.results.record import CaseRecord, Recorder
from harness.session import CaseEnded, Session, planned
from harness.verdict import Verdict, exit_code

SUITES = (KMOD / "cma_kunit",)  # when no path is given

_SESSION = pytest.StashKey[Session]()
_OUTCOME = pytest.StashKey[Outcome]()
_BEGAN = pytest.StashKey[int]()
_SECONDS = pytest.StashKey[float]()
_PROPERTY, _VERDICT = "cma-harness", "verdict"
_DAMAGED = (Verdict.CRASH, Verdict.TIMEOUT, Verdict.LOST)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose the cell."""
    group = parser.getgroup("cma-harness", "the cell that the tests run on")
    group.addoption("--kernel", default="6.12", help="a name of kernels.toml, or a kernel tree")
    group.addoption("--board", default="virt", help="a name of configs/boards/, or a .toml file")
    group.addoption("--layout", default="default", help="a name of configs/layouts/, or a file")
    group.addoption("--append", default="", help="added to the kernel's command line")
    group.addoption("--case-timeout", type=float, default=60, help="seconds for each KUnit case")
    group.addoption("--runs", type=Path, default=Path("runs"), help="where records go")
    group.addoption("--run-dir", type=Path, help="write the record here, not to runs/<UTC>-<id>")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Prepare the cell; a `HarnessError` goes up to the command line as it is."""
    if config.option.help or config.option.version or hasattr(config, "workerinput"):
        return
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(path) for path in SUITES]
    config.stash[_SESSION] = _prepare(config)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Find in a worker what the controller prepared, and begin to record in the controller."""
    config = session.config
    if hasattr(config, "workerinput"):
        config.stash[_SESSION] = _prepare(config)
    elif _SESSION in config.stash:
        config.pluginmanager.register(Recording(config.stash[_SESSION]))


def _prepare(config: pytest.Config) -> Session:
    option = config.option
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    progress = Progress(quiet=worker is not None)
    chosen = cell.load(option.kernel, option.board, option.layout)
    prepared = cell.prepare(chosen, Cache(on_wait=progress.say), progress)
    recorder = None
    directory = Path(os.devnull)  # with --collect-only nothing boots
    if worker is not None:
        directory = Path(worker["cma_run"]) / chosen.name / worker["workerid"]
    elif not option.collectonly:
        recorder = Recorder.start(option.runs, tuple(sys.argv), option.run_dir)
        directory = recorder.directory / chosen.name
    live = LiveCell(prepared, directory, append=option.append)
    return Session(prepared, live, progress, recorder)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the run is recorded."""
    recorder = node.config.stash[_SESSION].recorder
    node.workerinput["cma_run"] = str(recorder.directory.absolute())


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the KUnit cases of the modules that a Kbuild file of kmod/ builds."""
    if file_path.name == "Kbuild" and file_path.parent.parent == KMOD:
        return KbuildFile.from_parent(parent, path=file_path)
    return None


class KbuildFile(pytest.File):
    """A folder of kmod/: the suites of its modules."""

    def collect(self) -> Iterable[pytest.Item]:
        """Yield an item for each case that the modules hold, named SUITE::CASE."""
        prepared = self.config.stash[_SESSION].prepared
        for name, path in prepared.modules.items():
            if path.parent.name == self.path.parent.name:
                for suite in prepared.modules.suites(name):
                    node = SuiteNode.from_parent(self, name=suite.name)
                    node.module, node.suite = name, suite
                    yield node  # type: ignore[misc]


class SuiteNode(pytest.Collector):
    """A KUnit suite of a module."""

    module: str
    suite: Suite

    def collect(self) -> Iterable[pytest.Item]:
        """Yield an item for each case."""
        for case in self.suite.cases:
            yield CaseItem.from_parent(self, name=case.name)


class _TargetItem(pytest.Item):
    """An item that judges itself; its failure needs no traceback of ours."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        del style
        return str(excinfo.value)


class CaseItem(_TargetItem):
    """A KUnit case."""

    def runtest(self) -> None:
        """Wait for the case's result, and end as it did."""
        node = self.parent
        assert isinstance(node, SuiteNode)
        live = self.config.stash[_SESSION].live
        timeout = self.config.option.case_timeout
        outcome = live.outcome(node.module, node.suite.name, self.name, timeout)
        self.stash[_OUTCOME] = outcome
        match outcome.verdict:
            case Verdict.PASS:
                pass
            case Verdict.SKIP:
                pytest.skip(outcome.message)
            case Verdict.XFAIL:
                pytest.xfail(outcome.message)
            case _:
                raise CaseEnded(outcome)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Name the case as KUnit does."""
        assert self.parent is not None
        return self.path, None, f"{self.parent.name}.{self.name}"


class LayoutItem(_TargetItem):
    """Whether the kernel honoured the layout; when it did not, nothing after this counts."""

    def runtest(self) -> None:
        """Boot the guest, and compare its areas with the layout."""
        live = self.config.stash[_SESSION].live
        try:
            live.verify()
        except GuestError as error:
            raise CaseEnded(Outcome(error.verdict, live.explain_error(error))) from error

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Name the check."""
        return self.path, None, "the kernel honours the layout"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Put the layout before everything, and write the planned cases to the record."""
    if items:
        items.insert(0, LayoutItem.from_parent(session, name="layout", nodeid="layout"))
    if _SESSION in config.stash:
        config.stash[_SESSION].plan(item.nodeid for item in items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Write the planned cases; pytest-xdist's controller collects nothing itself."""
    node.config.stash[_SESSION].plan(ids)


@pytest.fixture(name="cell", scope="session")
def cell_fixture(pytestconfig: pytest.Config) -> Prepared:
    """The cell under test: its kernel, modules, image and device tree."""
    return pytestconfig.stash[_SESSION].prepared


@pytest.fixture
def guest(pytestconfig: pytest.Config) -> Guest:
    """The running guest (`run`, `put`, `get`, `console`, `qmp`), verified against its layout."""
    return pytestconfig.stash[_SESSION].live.guest()


@pytest.fixture
def helper(guest: Guest) -> Generator[Helper, None, None]:
    """The default device of kmod/cma_test; its module is loaded for this test only."""
    guest.run("insmod /lib/cma/cma_test.ko").checked("loading cma_test")
    yield Helper(guest)
    guest.run("rmmod cma_test").checked("unloading cma_test")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test during which the kernel faulted, whatever the test itself found."""
    live = item.config.stash[_SESSION].live
    before = live.running
    item.stash[_BEGAN] = before.console.position if before else 0
    yield
    if not isinstance(item, CaseItem) and live.running is not None:
        faults = live.running.console.take_faults()
        if faults:
            raise CaseEnded(Outcome(Verdict.CRASH, live.explain(faults)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge each phase; after the last, hand the verdict to the controller."""
    report = yield
    session = item.config.stash[_SESSION]
    item.stash[_SECONDS] = item.stash.get(_SECONDS, 0.0) + call.duration
    if hasattr(report, "wasxfail"):  # a mark on the test; pytest has judged it already
        verdict = Verdict.XFAIL if report.skipped else Verdict.FAIL
        item.stash[_OUTCOME] = Outcome(verdict, report.wasxfail or "expected to fail")
    elif call.excinfo is not None:
        outcome = session.judge(call.excinfo.value)
        before = item.stash.get(_OUTCOME, outcome)
        worst = worse(before.verdict, outcome.verdict)
        item.stash[_OUTCOME] = before if before.verdict == worst else outcome
        if outcome.verdict in _DAMAGED and not isinstance(item, CaseItem):
            session.live.discard()
        report.user_properties.append((_VERDICT, str(outcome.verdict)))
    if report.when == "teardown":
        report.user_properties.append((_PROPERTY, _payload(item, session)))
    return report


def _payload(item: pytest.Item, session: Session) -> dict[str, Any]:
    outcome = item.stash.get(_OUTCOME, Outcome(Verdict.PASS, ""))
    case = planned(item.nodeid).model_copy(
        update={
            "verdict": outcome.verdict,
            "message": outcome.message,
            "metrics": outcome.metrics,
            "console": outcome.console or session.live.span(item.stash.get(_BEGAN, 0)),
            "duration": item.stash.get(_SECONDS, 0.0),
        }
    )
    return {"case": case.model_dump(mode="json"), "seen": session.seen()}


class Recording:
    """The controller's part: keeps the record, and shows it at the end."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a case whose last phase ended."""
        payload = dict(report.user_properties).get(_PROPERTY)
        if isinstance(payload, dict):
            case = CaseRecord.model_validate(payload["case"])
            worker = getattr(report, "worker_id", "master")
            self._session.finish(case, worker, payload["seen"])

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Show verdicts that pytest has no word for."""
        verdict = _verdict_of(report)
        if verdict is None or not report.failed:
            return None
        return "failed", verdict[0], verdict

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Power off, end the record, and let the verdicts decide the exit code."""
        self._session.end()
        recorder = self._session.recorder
        if recorder is not None and exitstatus in (0, 1):
            session.exitstatus = exit_code(case.verdict for case in recorder.record.cases())

    def pytest_terminal_summary(self) -> None:
        """Print the cell's line of counts, and where the record is."""
        recorder = self._session.recorder
        if recorder is not None:
            console = self._session.progress.console
            terminal.show(recorder.record, console, reasons=False)
            console.print(f"record: {recorder.directory}", highlight=False, soft_wrap=True)


def _verdict_of(report: pytest.TestReport) -> str | None:
    verdict = dict(report.user_properties).get(_VERDICT)
    return str(verdict) if verdict else None
