"""What `cma-cost` counted in a guest of the lane exact, read from its console."""

from __future__ import annotations

from collections.abc import Mapping

from harness import ktap
from harness.errors import GuestError
from harness.guest.qemu import NS_PER_INSTRUCTION
from harness.verdict import Verdict

DONE = rb"cma-cost: done|Bail out!"

Figures = Mapping[str, int]
"""Of a case, by the words of `cma-cost`: instructions, or pages."""


def read(console: bytes) -> Mapping[tuple[str, str], Figures]:
    """Return the figures of each kind and size; raise `GuestError` when a case has not passed."""
    parser = ktap.Parser()
    parser.feed(console)
    report = parser.close()
    if report.problems:
        raise GuestError(f"cma-cost: {report.problems[0]}", where="console")
    found = {}
    for kind in report.cases:
        for case in kind.cases:
            if case.verdict is not Verdict.PASS:
                raise GuestError(f"cma-cost: {kind.name} {case.name}: {case.message}")
            found[kind.name, case.name] = {
                name: int(metric.value) // (NS_PER_INSTRUCTION if metric.unit == "ns" else 1)
                for name, metric in case.metrics.items()
            }
    return found
