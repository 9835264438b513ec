"""What is asked of each commit, and what the records of its runs answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from harness.config.reading import nearest
from harness.errors import HostError, UsageError
from harness.results.bisect import Fate, Question
from harness.results.record import CaseRecord, RunRecord
from harness.verdict import Verdict

# As `ab` prints a figure, and a sign and a number behind it; the name of a figure has no spaces.
_METRIC = re.compile(
    r"(?P<case>\S.*?)\s+(?P<metric>[^\s<>]+)\s*(?P<sign>[<>])\s*"
    r"(?P<limit>[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
)
# Of a case in the lane smp. Red in every other run, it is taken for good in one commit of 32. Of
# figures fewer say nothing (harness/results/ab.py). A run takes seconds, a build a minute.
_SMP_REPEAT = 5


def question(case: str | None, metric: str | None, repeat: int | None, lane: str) -> Question:
    """Return the question of a command line; raise `UsageError` when it asks none, or two.

    In the lane `exact` a run is as good as many.
    """
    if (case is None) == (metric is None):
        raise UsageError("one thing tells good from bad", next_step="give --case or --metric")
    often = repeat or (1 if lane == "exact" else _SMP_REPEAT)
    if metric is None:
        return Question(case=str(case), repeat=often)
    match = _METRIC.fullmatch(metric.strip())
    if match is None:
        raise UsageError(
            f"--metric {metric!r}: not understood",
            next_step="give case, figure and limit, such as 'test_cost[mlock-1M] alloc>1900000'",
        )
    return Question.model_validate(match.groupdict() | {"repeat": often})


@dataclass(frozen=True, slots=True)
class Answer:
    """What one run, or all runs of a commit, say of it; `values` are the figure's."""

    fate: Fate
    message: str
    values: tuple[float, ...] = ()
    unit: str = ""


def answer(asked: Question, run: RunRecord) -> Answer:
    """Return what one run says; a figure is not compared yet.

    Raises `UsageError` for a case or a figure that there is not, `HostError` when the run says
    nothing of the kernel.
    """
    case = _case(asked.case, run)
    told = f"{case.id.rpartition('::')[2]} is {case.verdict}"
    if case.message:
        told += f": {case.message}"
    if case.verdict is Verdict.ERROR or (run.ended is None and case.verdict is Verdict.LOST):
        raise HostError(told if case.message else f"the run did not end: {told}", where=run.id)
    if case.verdict in (Verdict.LOST, Verdict.SKIP):
        return Answer(Fate.SKIPPED, _why_not(case, run) or told)
    if asked.metric:
        return _figure(asked, case) if case.verdict.good else Answer(Fate.SKIPPED, told)
    return Answer(Fate.GOOD if case.verdict.good else Fate.BAD, told)


def together(asked: Question, answers: Sequence[Answer]) -> Answer:
    """Return what the runs of a commit say: the first that is not good, or all of them."""
    for each in answers:
        if each.fate is not Fate.GOOD:
            return each
    if not asked.metric:
        return Answer(Fate.GOOD, _often(answers[0].message, len(answers)))
    values = tuple(value for each in answers for value in each.values)
    middle = median(values)
    beyond = middle > asked.limit if asked.sign == ">" else middle < asked.limit
    what = "the median" if len(values) > 1 else asked.metric
    told = _often(f"{what} is {middle:.10g} {answers[0].unit}".rstrip(), len(values))
    return Answer(Fate.BAD if beyond else Fate.GOOD, told, values, answers[0].unit)


def _often(text: str, runs: int) -> str:
    return f"{text}, of {runs} runs" if runs > 1 else text


def _figure(asked: Question, case: CaseRecord) -> Answer:
    if asked.metric not in case.metrics:
        has = ", ".join(sorted(case.metrics)) or "none"
        raise UsageError(
            f"{case.id} has no figure {asked.metric!r}",
            next_step=f"it has: {has}{nearest(asked.metric, case.metrics)}",
        )
    found = case.metrics[asked.metric]
    return Answer(Fate.GOOD, "", (found.value,), found.unit)


def _case(name: str, run: RunRecord) -> CaseRecord:
    """Return the case of that id, or of that end of an id as it is printed."""
    cases = {case.id: case for case in run.cases()}
    # pytest's ids are relative to where it finds its configuration.
    found = [case for id_, case in cases.items() if _named(name, id_)]
    if len(found) == 1:
        return found[0]
    if found:
        told = ", ".join(case.id for case in found)
        raise UsageError(f"--case {name}: several cases are called so", next_step=f"one of: {told}")
    raise UsageError(
        f"there is no case {name!r} in this run{nearest(name, cases)}",
        where=run.id,
        next_step="cma-harness test --collect-only -q lists them",
    )


def _named(name: str, id_: str) -> bool:
    return name == id_ or id_.endswith(f"::{name}") or name.endswith(f"/{id_}")


def _why_not(case: CaseRecord, run: RunRecord) -> str:
    """Return what kept the case from running: the first case that is red, the boot above all."""
    if case.verdict is Verdict.SKIP:
        return ""
    for other in run.cases():
        if other is not case and not other.verdict.good and other.verdict is not Verdict.LOST:
            return f"did not run: {other.id} is {other.verdict}: {other.message}"
    return ""
