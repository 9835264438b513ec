"""The part of a pytest run that keeps the record: pytest's controller has it, its workers not."""

from __future__ import annotations

import pytest

from harness.errors import HarnessError
from harness.report import terminal
from harness.results.record import CaseRecord
from harness.session import Session
from harness.verdict import EXIT_INTERRUPTED, EXIT_USAGE, exit_code

# User properties of a test report: a case's record with what its worker saw, and its verdict.
CASE, VERDICT = "cma-harness", "verdict"


class Recording:
    """The controller's part: keeps the record, and shows it at the end."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._interrupted = False
        self._failure: HarnessError | None = None  # of the record itself, such as a full disk

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a case whose last phase ended."""
        payload = dict(report.user_properties).get(CASE)
        if isinstance(payload, dict) and self._failure is None:
            case = CaseRecord.model_validate(payload["case"])
            worker = getattr(report, "worker_id", "master")
            try:
                self._session.finish(case, worker, payload["seen"])
            except HarnessError as error:
                self._failure = error

    def pytest_runtest_logfinish(self) -> None:
        """Stop when there is no use in going on: what is found could not be kept."""
        if self._failure is not None:
            raise pytest.Session.Interrupted(str(self._failure))

    def pytest_report_teststatus(
        self, report: pytest.TestReport | pytest.CollectReport
    ) -> tuple[str, str, str] | None:
        """Show verdicts that pytest has no word for."""
        verdict = dict(getattr(report, "user_properties", ())).get(VERDICT)
        if verdict is None or not report.failed:
            return None
        return "failed", str(verdict)[0], str(verdict)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Tell Ctrl-C from what pytest treats alike: errors of collection."""
        self._interrupted = not isinstance(excinfo.value, pytest.Session.Interrupted)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Power off, end the record, and let the verdicts decide the exit code."""
        try:
            self._session.end()
        except HarnessError as error:
            self._failure = self._failure or error
        recorder = self._session.recorder
        if self._failure is not None:
            session.exitstatus = self._failure.exit_code
        elif exitstatus == pytest.ExitCode.INTERRUPTED:
            session.exitstatus = EXIT_INTERRUPTED if self._interrupted else EXIT_USAGE
        elif recorder is not None and exitstatus in (0, 1):
            decided = exit_code(case.verdict for case in recorder.record.cases())
            session.exitstatus = decided or exitstatus

    def pytest_terminal_summary(self) -> None:
        """Print the cell's line of counts, and where the record is."""
        console = self._session.progress.console
        if self._session.recorder is not None:
            terminal.show(self._session.recorder.record, console, reasons=False)
            place = self._session.recorder.directory
            console.print(f"record: {place}", highlight=False, markup=False, soft_wrap=True)
        if self._failure is not None:
            console.print(f"cma-harness: {self._failure}", markup=False, soft_wrap=True)
