"""The eight verdicts a case can have, and what they mean for a run's exit code."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """How a case ended. A case starts as LOST and must prove better."""

    PASS = "PASS"
    SKIP = "SKIP"  # did not apply; always with a reason
    XFAIL = "XFAIL"  # failed as expected; always with a reason
    FAIL = "FAIL"  # the kernel broke the claim
    TIMEOUT = "TIMEOUT"  # did not end within its deadline
    CRASH = "CRASH"  # the kernel faulted while it ran
    LOST = "LOST"  # planned, never reported
    ERROR = "ERROR"  # the harness or the host failed, not the kernel

    @property
    def good(self) -> bool:
        """Whether a run that holds only such verdicts has passed."""
        return self in (Verdict.PASS, Verdict.SKIP, Verdict.XFAIL)


EXIT_PASSED = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_HOST = 3
EXIT_INTERRUPTED = 130  # as a shell has it: 128 + SIGINT


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """Return 0 if all are good, 3 if nothing worse than ERROR spoiled the run, else 1.

    A run in which a case failed *and* the host failed is red for the kernel's sake: 1.
    """
    bad = {verdict for verdict in verdicts if not verdict.good}
    if not bad:
        return EXIT_PASSED
    return EXIT_HOST if bad == {Verdict.ERROR} else EXIT_FAILED
