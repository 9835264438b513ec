"""KTAP cases as case records."""

from __future__ import annotations

from pathlib import Path

from harness import ktap
from harness.results.record import CaseRecord, Metric, Span


def record(case: ktap.Case, log: Path) -> CaseRecord:
    """Return one leaf case of a log as it stands in a run's record."""
    *suite, name = case.path
    return CaseRecord(
        id="::".join(case.path),
        suite=".".join(suite),
        name=name,
        verdict=case.verdict,
        message=message(case),
        metrics=metrics(case),
        console=Span(log=log.name, start=case.span.start, end=case.span.end),
    )


def message(case: ktap.Case) -> str:
    """Return why a case ended as it did: its message, problems and, if it failed, diagnostics."""
    told = [case.message, *case.problems]
    if not case.verdict.good:
        told += case.diagnostics
        told += [f"{part.name}: {message(part)}" for part in case.cases if not part.verdict.good]
    return "\n".join(text for text in dict.fromkeys(told) if text)


def metrics(case: ktap.Case) -> dict[str, Metric]:
    """Return the figures that a case printed."""
    return {
        name: Metric(value=found.value, unit=found.unit) for name, found in case.metrics.items()
    }
