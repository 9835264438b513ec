"""What each item ends as: its own words, the kernel's faults, and the audit of CMA behind it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from harness.ktap.tree import worse
from harness.module_run import Outcome
from harness.pytest_plugin.external import LoadItem
from harness.pytest_plugin.items import KERNEL_LOG, TargetItem
from harness.pytest_plugin.kunit import CaseItem, ModuleItem
from harness.pytest_plugin.stash import EXPECTED, METRICS, OUTCOME, SESSION
from harness.recording import CASE, VERDICT
from harness.results.record import Metric, Span
from harness.session import CaseEnded, Session, planned
from harness.text import printable
from harness.verdict import Verdict

ISOLATED, SHARES = "isolated", "shares_guest"  # marks
_BEGAN = pytest.StashKey[int]()
_SECONDS = pytest.StashKey[float]()
_BROKEN = pytest.StashKey[bool]()  # whether the audit found something
_SPAN = pytest.StashKey[Span]()
_SAID_LINES = 80  # the OOM killer's report has about 60
_UNEXPLAINED = (Verdict.FAIL, Verdict.ERROR)  # by what the kernel said
_DAMAGED = (Verdict.CRASH, Verdict.TIMEOUT, Verdict.LOST)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks that say which guest a test has."""
    for line in (
        f"{SHARES}: tests that need no guest of their own; what each leaves is audited",
        f"{ISOLATED}: a test that does all the same, where others of its file need none",
    ):
        config.addinivalue_line("markers", line)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give a test a fresh copy of the guest, unless it shares one."""
    if _isolated(item):
        item.config.stash[SESSION].live.discard()
    _begin(item)


def _begin(item: pytest.Item) -> None:
    """Note where on the console what comes next begins."""
    running = item.config.stash[SESSION].live.running
    item.stash[_BEGAN] = running.console.position if running else 0


def _isolated(item: pytest.Item) -> bool:
    live = item.config.stash[SESSION].live
    # The user's modules that stay for his tests have one guest to stay in.
    possible = live.restored and not live.staying
    return possible and _asks(item) and "guest" in getattr(item, "fixturenames", ())


def _asks(item: pytest.Item) -> bool:
    """Whether a test is to have a guest of its own; of its marks the closest decides."""
    if item.config.option.isolate:
        return True
    names = (mark.name for mark in item.iter_markers())
    return next((name for name in names if name in (ISOLATED, SHARES)), ISOLATED) == ISOLATED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Make it a CRASH when the kernel faulted, whatever the test itself found."""
    _begin(item)
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
        item.stash[_BROKEN] = True
        raise CaseEnded(Outcome(Verdict.FAIL, "\n".join(broken)))


def _audit(item: pytest.Item, nextitem: pytest.Item | None) -> tuple[str, ...]:
    """Audit what had the guest; every page of the areas where a module or a file ends.

    A case of a module is audited with the module: it reports while the next one runs already.
    """
    live = item.config.stash[SESSION].live
    if isinstance(item, ModuleItem):
        return live.audit(pages=True)
    if "guest" not in getattr(item, "fixturenames", ()):
        return ()
    last = nextitem is None or nextitem.path != item.path or _isolated(nextitem)
    return live.audit(pages=last or _isolated(item))


@contextmanager
def _faults_watched(item: pytest.Item) -> Iterator[None]:
    session = item.config.stash[SESSION]
    live = session.live
    try:
        yield
    finally:
        # A module's run judges its own stretch of console.
        if not isinstance(item, CaseItem | LoadItem | ModuleItem):
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
    session = item.config.stash[SESSION]
    item.stash[_SECONDS] = item.stash.get(_SECONDS, 0.0) + call.duration
    if call.excinfo is not None and isinstance(call.excinfo.value, CaseEnded):
        report.longrepr = str(call.excinfo.value)  # a traceback would be of ours
    outcome = _judged(report, call, session, item.stash.get(EXPECTED, Verdict.FAIL))
    if span := session.live.span(item.stash.get(_BEGAN, 0)):
        item.stash[_SPAN] = span  # a guest that is damaged is gone at the end
    if outcome is not None:
        # What the call itself left is judged here: it may be excused.
        before = outcome if report.when == "call" else item.stash.get(OUTCOME, outcome)
        if outcome.verdict in _UNEXPLAINED and not isinstance(item, TargetItem):
            _show_said(report, session.live.said(item.stash.get(_BEGAN, 0)))
        worst = worse(before.verdict, outcome.verdict)
        item.stash[OUTCOME] = before if before.verdict == worst else outcome
        if outcome.verdict in _DAMAGED and _had_the_guest(item):
            session.live.discard()
        if item.stash.get(_BROKEN, False) and (
            isinstance(item, ModuleItem) or not session.live.staying
        ):
            session.live.discard()  # what is missing would fail others too
        report.user_properties.append((VERDICT, str(outcome.verdict)))
    if report.when == "teardown":
        report.user_properties.append((CASE, _payload(item, session)))
        if _isolated(item):
            session.live.discard()
    return report


def _show_said(report: pytest.TestReport, said: tuple[str, ...]) -> None:
    """Show the kernel's last messages below a failure: they may be its reason."""
    if not said:
        return
    left = len(said) - _SAID_LINES
    before = [f"({left} messages before these are in console.log)"] if left > 0 else []
    text = printable("\n".join([*before, *said[-_SAID_LINES:]]))
    report.sections.append((f"Captured {KERNEL_LOG} {report.when}", text))


def _had_the_guest(item: pytest.Item) -> bool:
    """Whether a test may have damaged the shared guest; a module's run sees to that itself."""
    if isinstance(item, CaseItem | LoadItem | ModuleItem):
        return False
    return "guest" in getattr(item, "fixturenames", ("guest",))


def _judged(
    report: pytest.TestReport, call: pytest.CallInfo[None], session: Session, expected: Verdict
) -> Outcome | None:
    """Return the outcome of a phase, None when it passed; a mark excuses `expected` alone."""
    if call.excinfo is None:
        strict = report.when == "call" and report.failed
        return Outcome(Verdict.FAIL, "passed, but was to fail") if strict else None
    outcome = session.judge(call.excinfo.value)
    if not hasattr(report, "wasxfail") or outcome.verdict is Verdict.XFAIL:
        return outcome
    if outcome.verdict is expected:
        reason = report.wasxfail or "was to fail"
        return replace(outcome, verdict=Verdict.XFAIL, message=f"{reason}\n{outcome.message}")
    del report.wasxfail
    report.outcome = "failed"
    return outcome


def _payload(item: pytest.Item, session: Session) -> dict[str, Any]:
    outcome = item.stash.get(OUTCOME, Outcome(Verdict.PASS, ""))
    further = session.further.cited()
    kept: dict[str, Metric] = item.stash.get(METRICS, {})
    case = planned(item.nodeid).model_copy(
        update={
            "verdict": outcome.verdict,
            "message": outcome.message,
            "metrics": {**outcome.metrics, **kept},
            "console": outcome.console or further or item.stash.get(_SPAN, None),
            "duration": item.stash.get(_SECONDS, 0.0),
        }
    )
    return {"case": case.model_dump(mode="json"), "seen": session.seen()}
