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
import secrets
import sys
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness import cell
from harness.boots import Boots, Edit
from harness.cache import Cache
from harness.cell import Prepared
from harness.cma.helper import Helper
from harness.config import PLAIN, Layout
from harness.errors import GuestError
from harness.guest.guest import Guest
from harness.kernel.kunit_elf import Suite
from harness.kernel.modules import KMOD
from harness.ktap.tree import worse
from harness.live import LiveCell
from harness.module_run import Outcome
from harness.progress import Progress
from harness.recording import CASE, VERDICT, Recording
from harness.results.record import Metric, Recorder
from harness.session import CaseEnded, Session, planned
from harness.verdict import Verdict

SUITES = (KMOD / "cma_kunit",)  # when no path is given

_SESSION = pytest.StashKey[Session]()
_OUTCOME = pytest.StashKey[Outcome]()
_BEGAN = pytest.StashKey[int]()
_SECONDS = pytest.StashKey[float]()
_METRICS = pytest.StashKey[dict[str, Metric]]()
_DAMAGED = (Verdict.CRASH, Verdict.TIMEOUT, Verdict.LOST)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose the cell."""
    group = parser.getgroup("cma-harness", "the cell that the tests run on")
    group.addoption("--kernel", default="6.12", help="a name of kernels.toml, or a kernel tree")
    group.addoption("--variant", default=PLAIN, help="plain, or a variant of kernels.toml")
    group.addoption("--board", default="virt", help="a name of configs/boards/, or a .toml file")
    group.addoption("--layout", default="default", help="a name of configs/layouts/, or a file")
    group.addoption("--append", default="", help="added to the kernel's command line")
    group.addoption("--case-timeout", type=float, default=60, help="seconds for each KUnit case")
    group.addoption("--seed", type=int, help="of random operations; by default another each time")
    group.addoption("--runs", type=Path, default=Path("runs"), help="where records go")
    group.addoption("--run-dir", type=Path, help="write the record here, not to runs/<UTC>-<id>")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Prepare the cell; a `HarnessError` goes up to the command line as it is."""
    if config.option.help or config.option.version or hasattr(config, "workerinput"):
        return
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(path) for path in SUITES]
    if getattr(config.option, "dist", "no") == "load":  # one guest has all cases of a module
        config.option.dist = "loadfile"
    _seed(config)
    config.stash[_SESSION] = _prepare(config)


def _seed(config: pytest.Config) -> None:
    """Choose the run's seed; hypothesis takes it, and workers of pytest-xdist have it too."""
    option = config.option
    if option.seed is None:
        option.seed = secrets.randbits(32)
    if getattr(option, "hypothesis_seed", None) is None:
        option.hypothesis_seed = str(option.seed)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Tell the seed, with which a run's random operations come again."""
    return f"seed: {config.option.seed}" if _SESSION in config.stash else None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Find in a worker what the controller prepared, and begin to record in the controller."""
    config = session.config
    if hasattr(config, "workerinput"):
        config.stash[_SESSION] = _prepare(config)
    elif _SESSION in config.stash:
        config.pluginmanager.register(Recording(config.stash[_SESSION]))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End a worker's guests as the controller's are ended: they may have counted coverage."""
    if hasattr(session.config, "workerinput"):
        session.config.stash[_SESSION].end()


def _prepare(config: pytest.Config) -> Session:
    option = config.option
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    progress = Progress(quiet=worker is not None)
    chosen = cell.load(option.kernel, option.board, option.layout, option.variant)
    cache = Cache(on_wait=progress.say)
    prepared = cell.prepare(chosen, cache, progress)
    recorder = None
    directory = Path(os.devnull)  # with --collect-only nothing boots
    if worker is not None:
        directory = Path(worker["cma_run"]) / chosen.name / worker["workerid"]
    elif not option.collectonly:
        recorder = Recorder.start(option.runs, tuple(sys.argv), option.run_dir)
        directory = recorder.directory / chosen.name
    live = LiveCell(prepared, directory, append=option.append)
    further = Boots(prepared, directory / "boots", cache, append=option.append)
    return Session(prepared, live, further, progress, recorder, seed=option.seed)


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

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Yield a node for each suite that the modules hold."""
        prepared = self.config.stash[_SESSION].prepared
        for name, path in prepared.modules.items():
            if path.parent.name == self.path.parent.name:
                for suite in prepared.modules.suites(name):
                    node = SuiteNode.from_parent(self, name=suite.name)
                    node.module, node.suite = name, suite
                    yield node


class SuiteNode(pytest.Collector):
    """A KUnit suite of a module."""

    module: str
    suite: Suite

    def collect(self) -> Iterable[pytest.Item]:
        """Yield an item for each case; one whose name is taken gets its number behind it."""
        seen: set[str] = set()
        for number, case in enumerate(self.suite.cases, 1):
            name = case.name if case.name not in seen else f"{case.name}#{number}"
            seen.add(name)
            item = CaseItem.from_parent(self, name=name)
            item.module, item.suite, item.number = self.module, self.suite.name, number
            yield item


class _TargetItem(pytest.Item):
    """An item that judges itself; its failure needs no traceback of ours."""

    def runtest(self) -> None:
        """End as the guest says."""
        self.stash[_OUTCOME] = outcome = self.outcome(self.config.stash[_SESSION].live)
        match outcome.verdict:
            case Verdict.PASS:
                pass
            case Verdict.SKIP:
                pytest.skip(outcome.message)
            case Verdict.XFAIL:
                pytest.xfail(outcome.message)
            case _:
                raise CaseEnded(outcome)

    @abstractmethod
    def outcome(self, live: LiveCell) -> Outcome:
        """Return how it ended on the guest."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        del style
        return str(excinfo.value)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Name it without the file."""
        return self.path, None, self.nodeid.partition("::")[2].replace("::", ".") or self.name


class CaseItem(_TargetItem):
    """A KUnit case: the one with `number` in the plan of `suite`."""

    module: str
    suite: str
    number: int

    def outcome(self, live: LiveCell) -> Outcome:
        """Wait for the case's result."""
        timeout: float = self.config.option.case_timeout
        return live.outcome(self.module, self.suite, self.number, timeout)


class ModuleItem(_TargetItem):
    """The end of a module: what belongs to no case of it, and its unloading."""

    def outcome(self, live: LiveCell) -> Outcome:
        """Unload the module."""
        timeout: float = self.config.option.case_timeout
        return live.module_end(self.name, timeout)


class LeakItem(_TargetItem):
    """Whether the tests of a file left memory that nothing points to."""

    def outcome(self, live: LiveCell) -> Outcome:
        """Let the kernel look for it; a guest that was replaced has taken it along."""
        try:
            lost = live.lost(False)
        except GuestError as error:
            return Outcome(error.verdict, live.explain_error(error))
        return Outcome(Verdict.FAIL if lost else Verdict.PASS, lost)


class LayoutItem(_TargetItem):
    """Whether the kernel honoured the layout; when it did not, nothing after this counts.

    And whether its accounting was sound after the boot; what was not is told here alone.
    """

    def outcome(self, live: LiveCell) -> Outcome:
        """Boot the guest, and compare its areas with the layout."""
        try:
            live.verify()
            broken = live.first_audit()
        except GuestError as error:
            return Outcome(error.verdict, live.explain_error(error))
        if broken:
            return Outcome(Verdict.FAIL, "\n".join(broken))
        return Outcome(Verdict.PASS, f"audited after every case: {'; '.join(live.audited())}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Put the layout first, each module's end and each file's leaks behind it; plan the record.

    Here, and not in pytest_collection_modifyitems, all that is deselected (-k, --lf) is gone.
    """
    if _SESSION not in session.config.stash:
        return
    live = session.config.stash[_SESSION].live
    last = {item.module: item for item in session.items if isinstance(item, CaseItem)}
    last_of_file = {item.path: item for item in session.items if not isinstance(item, CaseItem)}
    items: list[pytest.Item] = []
    if session.items:
        items.append(LayoutItem.from_parent(session, name="layout", nodeid="layout"))
    for item in session.items:
        items.append(item)
        if isinstance(item, CaseItem) and last[item.module] is item:
            items.append(_module_item(item))
        elif last_of_file.get(item.path) is item and live.finds_leaks:
            items.append(_leak_item(item))
    session.items = items
    session.testscollected = len(items)
    session.config.stash[_SESSION].plan(item.nodeid for item in items)


def _leak_item(item: pytest.Item) -> pytest.Item:
    file = item.getparent(pytest.Module)
    assert file is not None
    return LeakItem.from_parent(file, name="kmemleak", nodeid=f"{file.nodeid}::kmemleak")


def _module_item(case: CaseItem) -> pytest.Item:
    assert case.parent is not None
    file = case.parent.parent
    assert isinstance(file, KbuildFile)
    node_id = f"{file.nodeid}::{case.module}::unload"
    return ModuleItem.from_parent(file, name=case.module, nodeid=node_id)


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


@pytest.fixture(scope="session")
def boots(pytestconfig: pytest.Config) -> Boots:
    """Boots further guests of this kernel and board, beside the shared one (harness/boots.py).

    `with boots.boot(layout, "cma=24M") as guest:`; a kernel that does not honour the session's own
    layout is not asked for more.
    """
    session = pytestconfig.stash[_SESSION]
    session.live.guest()
    return session.further


@pytest.fixture
def boot(boots: Boots) -> Generator[Callable[..., Guest], None, None]:
    """Boot a guest that ends with the test, as `boots.boot` does."""
    with ExitStack() as stack:

        def booted(layout: Layout | str, append: str = "", *, edit: Edit | None = None) -> Guest:
            return stack.enter_context(boots.boot(layout, append, edit=edit))

        yield booted


@pytest.fixture
def metric(request: pytest.FixtureRequest) -> Callable[[str, float, str], None]:
    """Keep a figure of the test in run.json: `metric("took", 12.5, "ms")`; "" for plain numbers.

    The same place that a KUnit case's `# key: value` lines have: the case's `metrics`.
    """
    kept = request.node.stash.setdefault(_METRICS, {})

    def keep(name: str, value: float, unit: str) -> None:
        kept[name] = Metric(value=value, unit=unit)

    return keep


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Make it a CRASH when the kernel faulted, whatever the test itself found."""
    running = item.config.stash[_SESSION].live.running
    item.stash[_BEGAN] = running.console.position if running else 0
    with _faults_watched(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, None, None]:
    """The same for what the fixtures do; then make it a FAIL when the accounting is broken."""
    broken: tuple[str, ...] = ()
    try:
        with _faults_watched(item):
            yield
    finally:
        # Also behind a failure: what it left must not be blamed on the next case.
        broken = _audit(item, nextitem)
    if broken:
        raise CaseEnded(Outcome(Verdict.FAIL, "\n".join(broken)))


def _audit(item: pytest.Item, nextitem: pytest.Item | None) -> tuple[str, ...]:
    """Audit what had the guest; every page of the areas where a module or a file ends.

    A case of a module is audited with the module: it reports while the next one runs already.
    """
    live = item.config.stash[_SESSION].live
    if isinstance(item, ModuleItem):
        return live.audit(pages=True)
    if "guest" not in getattr(item, "fixturenames", ()):
        return ()
    return live.audit(pages=nextitem is None or nextitem.path != item.path)


@contextmanager
def _faults_watched(item: pytest.Item) -> Iterator[None]:
    session = item.config.stash[_SESSION]
    live = session.live
    try:
        yield
    finally:
        # A module's run judges its own stretch of console.
        if not isinstance(item, CaseItem | ModuleItem):
            faults = live.running.console.take_faults() if live.running is not None else ()
            faults += session.further.take_faults()
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
    outcome = _judged(report, call, session)
    if outcome is not None:
        before = item.stash.get(_OUTCOME, outcome)
        worst = worse(before.verdict, outcome.verdict)
        item.stash[_OUTCOME] = before if before.verdict == worst else outcome
        if outcome.verdict in _DAMAGED and _had_the_guest(item):
            session.live.discard()
        report.user_properties.append((VERDICT, str(outcome.verdict)))
    if report.when == "teardown":
        report.user_properties.append((CASE, _payload(item, session)))
    return report


def _had_the_guest(item: pytest.Item) -> bool:
    """Whether a test may have damaged the shared guest; a module's run sees to that itself."""
    if isinstance(item, CaseItem | ModuleItem):
        return False
    return "guest" in getattr(item, "fixturenames", ("guest",))


def _judged(
    report: pytest.TestReport, call: pytest.CallInfo[None], session: Session
) -> Outcome | None:
    """Return the outcome of a phase, None when it passed; an xfail mark excuses a FAIL alone."""
    if call.excinfo is None:
        strict = report.when == "call" and report.failed
        return Outcome(Verdict.FAIL, "passed, but was to fail") if strict else None
    outcome = session.judge(call.excinfo.value)
    if not hasattr(report, "wasxfail") or outcome.verdict is Verdict.XFAIL:
        return outcome
    if outcome.verdict is Verdict.FAIL:
        return Outcome(Verdict.XFAIL, report.wasxfail or "was to fail")
    del report.wasxfail
    report.outcome = "failed"
    return outcome


def _payload(item: pytest.Item, session: Session) -> dict[str, Any]:
    outcome = item.stash.get(_OUTCOME, Outcome(Verdict.PASS, ""))
    further = session.further.cited()
    kept: dict[str, Metric] = item.stash.get(_METRICS, {})
    case = planned(item.nodeid).model_copy(
        update={
            "verdict": outcome.verdict,
            "message": outcome.message,
            "metrics": {**outcome.metrics, **kept},
            "console": outcome.console or further or session.live.span(item.stash.get(_BEGAN, 0)),
            "duration": item.stash.get(_SECONDS, 0.0),
        }
    )
    return {"case": case.model_dump(mode="json"), "seen": session.seen()}
