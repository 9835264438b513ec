"""KTAP cases as case records."""

from __future__ import annotations

from pathlib import Path

from harness import ktap
from harness.results.record import CaseRecord, Metric, Span
from harness.verdict import Verdict

# What a module of kmod/ says where KUnit has no kunit_skip(): see kmod/include/cma_compat.h.
_SKIPPED = "kunit_skip: "


def record(case: ktap.Case, log: Path) -> CaseRecord:
    """Return one leaf case of a log as it stands in a run's record."""
    *suite, name = case.path
    return CaseRecord(
        id="::".join(case.path),
        suite=".".join(suite),
        name=name,
        verdict=verdict(case),
        message=message(case),
        metrics=metrics(case),
        console=Span(log=log.name, start=case.span.start, end=case.span.end),
    )


def verdict(case: ktap.Case) -> Verdict:
    """Return a case's verdict; 5.10's KUnit says "ok" of one that skipped itself."""
    return Verdict.SKIP if _reason(case) else case.verdict


def _reason(case: ktap.Case) -> str:
    """Return why a case that 5.10 calls passed was skipped; "" when it was not."""
    if case.verdict is not Verdict.PASS or case.cases:
        return ""
    said = (text.removeprefix(f"{case.name}: ") for text in case.diagnostics)
    return next((text[len(_SKIPPED) :] for text in said if text.startswith(_SKIPPED)), "")


def message(case: ktap.Case) -> str:
    """Return why a case ended as it did: its message, problems and, if it failed, diagnostics."""
    told = [case.message, _reason(case), *case.problems]
    if not case.verdict.good:
        told += case.diagnostics
        told += [f"{part.name}: {message(part)}" for part in case.cases if not part.verdict.good]
    return "\n".join(text for text in dict.fromkeys(told) if text)


def metrics(case: ktap.Case) -> dict[str, Metric]:
    """Return the figures that a case printed."""
    return {
        name: Metric(value=found.value, unit=found.unit) for name, found in case.metrics.items()
    }
