"""Two kernels, the same cases: what counts as a difference, and what is only noise."""

import random

import pytest

from harness.results.ab import Figure, difference
from harness.results.record import CaseRecord, CellRecord, Metric, RunRecord, now
from harness.verdict import Verdict


def case(name="size", verdict=Verdict.PASS, **metrics):
    figures = {key: Metric(value=value, unit="instructions") for key, value in metrics.items()}
    return CaseRecord(id=f"t.py::{name}", suite="t", name=name, verdict=verdict, metrics=figures)


def run(*cases, lane="exact", **cell):
    facts = {"name": "c", "lane": lane, "layout": "default", "qemu_version": "7.2.22"} | cell
    return RunRecord(id="r", started=now(), cells=(CellRecord(cases=cases, **facts),))


def figure(base, other, unit="ms", *, exact=False):
    return Figure("c", "took", unit, tuple(base), tuple(other), exact)


def noisy(seed, middle, count=20):
    draw = random.Random(seed)
    return [draw.gauss(middle, 5) for _ in range(count)]


def test_a_kernel_against_itself_differs_in_nothing():
    found = difference([run(case(alloc=80, free=8))] * 2, [run(case(alloc=80, free=8))] * 2)
    assert (found.changed, found.verdicts, found.warnings) == ((), (), ())
    assert len(found.figures) == 2


def test_one_instruction_is_a_difference_in_the_exact_lane():
    found = difference([run(case(alloc=80, free=8))], [run(case(alloc=81, free=8))])
    (changed,) = found.changed
    assert (changed.name, changed.delta, changed.interval) == ("alloc", 1, (1, 1))
    assert changed.worse_by(1)
    assert not changed.worse_by(1.25)


def test_fewer_are_no_regression():
    (changed,) = difference([run(case(alloc=80))], [run(case(alloc=40))]).changed
    assert not changed.worse_by(0)


def test_noise_is_no_difference():
    assert not figure(noisy(1, 100), noisy(2, 100)).differs
    low, high = figure(noisy(1, 100), noisy(2, 100)).interval
    assert low < 0 < high


@pytest.mark.parametrize(("middle", "worse"), [(120, True), (80, False)])
def test_beyond_noise_it_is_one(middle, worse):
    changed = figure(noisy(1, 100), noisy(2, middle))
    assert changed.differs
    assert changed.worse_by(5) is worse
    assert not changed.worse_by(50)


def test_a_few_samples_say_nothing():
    assert not figure([100.0], [150.0]).differs
    assert not figure(noisy(1, 100, 4), noisy(2, 200, 4)).worse_by(1)
    assert figure(noisy(1, 100, 5), noisy(2, 200, 5)).differs


def test_what_is_no_cost_cannot_become_worse():
    assert not figure([1], [100], unit="pages", exact=True).worse_by(1)


def test_the_same_figures_give_the_same_interval():
    assert figure(noisy(1, 9), noisy(2, 9)).interval == figure(noisy(1, 9), noisy(2, 9)).interval


def test_verdicts_that_changed():
    base = [run(case(), case("b", Verdict.FAIL))]
    found = difference(base, [run(case(verdict=Verdict.CRASH), case("b"))])
    assert [(each.case, each.worse) for each in found.verdicts] == [
        ("t.py::size", True),
        ("t.py::b", False),
    ]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (run(case(alloc=1), qemu_version="9.0"), "qemu_version is not the same: 7.2.22, 9.0"),
        (run(case(alloc=1), layout="tiny"), "layout is not the same"),
        (run(case(alloc=1), case("b")), "1 cases are on one side alone, such as t.py::b"),
    ],
)
def test_what_else_differs_is_told(other, told):
    (warning,) = difference([run(case(alloc=1))], [other]).warnings
    assert told in warning


def test_a_count_that_is_not_the_same_twice_is_told():
    found = difference([run(case(alloc=1)), run(case(alloc=2))], [run(case(alloc=1))] * 2)
    assert "t.py::size alloc: not the same in each run of one kernel" in found.warnings
