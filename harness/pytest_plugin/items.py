"""Items that judge themselves by what the guest shows; their failures need no traceback of ours."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import pytest

from harness.errors import GuestError
from harness.live import LiveCell
from harness.module_run import Outcome
from harness.pytest_plugin.stash import OUTCOME, SESSION
from harness.session import CaseEnded
from harness.text import printable
from harness.verdict import Verdict

KERNEL_LOG = "kernel log"  # a report's section


class TargetItem(pytest.Item):
    """An item of the harness's own."""

    def runtest(self) -> None:
        """End as the guest says."""
        self.stash[OUTCOME] = outcome = self.outcome(self.config.stash[SESSION].live)
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

    def told(self, outcome: Outcome) -> Outcome:
        """Show what a module said where that is not shown as the reason of a failure."""
        if outcome.verdict is Verdict.PASS and outcome.message:
            self.add_report_section("call", KERNEL_LOG, printable(outcome.message))
        return outcome

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        """Tell what it ended as, and nothing of how the harness came to know."""
        del style
        return str(excinfo.value)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Name it without the file."""
        return self.path, None, self.nodeid.partition("::")[2].replace("::", ".") or self.name


class LeakItem(TargetItem):
    """Whether the tests of a file left memory that nothing points to."""

    def outcome(self, live: LiveCell) -> Outcome:
        """Let the kernel look for it; a guest that was replaced has taken it along."""
        if live.running is None:
            return Outcome(Verdict.SKIP, "the guest of these tests is gone, and its memory with it")
        try:
            lost = live.lost(False)
        except GuestError as error:
            return Outcome(error.verdict, live.explain_error(error))
        return Outcome(Verdict.FAIL if lost else Verdict.PASS, lost)


class LayoutItem(TargetItem):
    """Whether the kernel honoured the layout; when it did not, nothing after this counts.

    And whether its accounting was sound after the boot; what was not is told here alone.
    """

    def outcome(self, live: LiveCell) -> Outcome:
        """Compare the areas of the guest that was stored, or boots now, with the layout."""
        try:
            live.verify()
            broken = live.first_audit()
        except GuestError as error:
            return Outcome(error.verdict, live.explain_error(error))
        if broken:
            return Outcome(Verdict.FAIL, "\n".join(broken))
        return Outcome(Verdict.PASS, f"audited after every case: {'; '.join(live.audited())}")
