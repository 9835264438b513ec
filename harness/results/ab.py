"""Two kernels, the same cases: what differs of their verdicts and figures. Pure.

In the lane `exact` a figure is a number, and any difference is one. In the lane `smp` it is a
sample: the difference of the medians has an interval, and means something when 0 is outside of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from statistics import median

from harness.results.record import CaseRecord, CellRecord, RunRecord
from harness.verdict import Verdict

_RESAMPLES = 2000
_FEWEST = 5  # values on each side; of fewer, a bootstrap finds a difference where there is none
_OUTSIDE = 0.025  # of the resamples on either side: an interval of 95 %
_COSTS = frozenset({"instructions", "ns", "us", "ms", "s"})
"""Units of which more is worse."""
_SAME = ("board", "layout", "lane", "device_tree", "qemu_version", "arguments")
"""Of two cells to be compared; the kernel is what differs."""


@dataclass(frozen=True)
class Figure:
    """A metric of a case on both sides, as often as it was measured."""

    case: str
    name: str
    unit: str
    base: tuple[float, ...]
    other: tuple[float, ...]
    exact: bool

    @property
    def delta(self) -> float:
        """How much more the other side's median is."""
        return median(self.other) - median(self.base)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Between which values the difference lies: a bootstrap of the medians, or the number."""
        if self.exact:
            return self.delta, self.delta
        if min(len(self.base), len(self.other)) < _FEWEST:
            return -inf, inf
        draw = random.Random(0)
        found = sorted(
            median(draw.choices(self.other, k=len(self.other)))
            - median(draw.choices(self.base, k=len(self.base)))
            for _ in range(_RESAMPLES)
        )
        edge = int(_RESAMPLES * _OUTSIDE)
        return found[edge], found[-edge - 1]

    @property
    def differs(self) -> bool:
        """Whether it is another: by a single one if exact, else beyond chance."""
        low, high = self.interval
        return low > 0 or high < 0

    @property
    def costs(self) -> bool:
        """Whether more of it is worse."""
        return self.unit in _COSTS

    def percent(self, value: float) -> float:
        """Return a difference in percent of the base."""
        middle = median(self.base)
        return 100 * value / middle if middle else inf if value else 0.0

    def worse_by(self, percent: float) -> bool:
        """Whether it certainly costs more by so many percent."""
        return self.costs and self.percent(self.interval[0]) > percent


@dataclass(frozen=True, slots=True)
class VerdictChange:
    """A case that ended otherwise; each side's verdicts are those of all its runs."""

    case: str
    base: tuple[Verdict, ...]
    other: tuple[Verdict, ...]

    @property
    def worse(self) -> bool:
        """Whether the other side has a red one, and the base had none."""
        return all(v.good for v in self.base) and not all(v.good for v in self.other)


@dataclass(frozen=True)
class Difference:
    """What two sides have not in common; `figures` are all that both have."""

    verdicts: tuple[VerdictChange, ...]
    figures: tuple[Figure, ...]
    warnings: tuple[str, ...]

    @cached_property
    def changed(self) -> tuple[Figure, ...]:
        """The figures that differ."""
        return tuple(figure for figure in self.figures if figure.differs)


def difference(base: Sequence[RunRecord], other: Sequence[RunRecord]) -> Difference:
    """Compare the runs of one cell on two kernels."""
    one, two = [_cell(run) for run in base], [_cell(run) for run in other]
    ours, theirs = _by_id(one), _by_id(two)
    both = [case for case in ours if case in theirs]
    figures = tuple(
        figure
        for case in both
        for figure in _figures(case, ours[case], theirs[case], exact=one[0].lane == "exact")
    )
    return Difference(
        tuple(_verdicts(both, ours, theirs)), figures, tuple(_warnings(one, two, figures))
    )


def _cell(run: RunRecord) -> CellRecord:
    (cell,) = run.cells
    return cell


def _by_id(cells: Sequence[CellRecord]) -> dict[str, list[CaseRecord]]:
    found: dict[str, list[CaseRecord]] = {}
    for cell in cells:
        for case in cell.cases:
            found.setdefault(case.id, []).append(case)
    return found


def _figures(
    case: str, ours: Sequence[CaseRecord], theirs: Sequence[CaseRecord], *, exact: bool
) -> Iterator[Figure]:
    for name, metric in ours[0].metrics.items():
        base, other = (
            tuple(each.metrics[name].value for each in side if name in each.metrics)
            for side in (ours, theirs)
        )
        if base and other:
            yield Figure(case, name, metric.unit, base, other, exact)


def _verdicts(
    both: Sequence[str], ours: dict[str, list[CaseRecord]], theirs: dict[str, list[CaseRecord]]
) -> Iterator[VerdictChange]:
    for case in both:
        sides = [tuple(each.verdict for each in side[case]) for side in (ours, theirs)]
        if set(sides[0]) != set(sides[1]):
            yield VerdictChange(case, *sides)


def _warnings(
    base: Sequence[CellRecord], other: Sequence[CellRecord], figures: Sequence[Figure]
) -> Iterator[str]:
    for name in _SAME:
        seen = {str(getattr(cell, name)) for cell in (*base, *other)}
        if len(seen) > 1:
            yield f"{name} is not the same: {', '.join(sorted(seen))}"
    missing = {case.id for cell in base for case in cell.cases} ^ {
        case.id for cell in other for case in cell.cases
    }
    if missing:
        yield f"{len(missing)} cases are on one side alone, such as {min(missing)}"
    for figure in figures:
        if figure.exact and max(len(set(figure.base)), len(set(figure.other))) > 1:
            yield f"{figure.case} {figure.name}: not the same in each run of one kernel"
