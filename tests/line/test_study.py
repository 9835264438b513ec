"""`cma-harness study`, as a person types it: what it prints, and the pages that it leaves."""

from __future__ import annotations

import pytest

from harness.results import study as results
from harness.results.study import Outcome
from harness.studies import STUDIES

from .conftest import REPOSITORY


def test_a_study_is_told_with_its_claim_and_leaves_its_pages(run):
    line = run("study", "pins")
    assert line.status == 0, line.output
    place = REPOSITORY / line.output.rpartition("pages: ")[2].strip()
    (study,) = results.read(place.parent).studies
    assert study.outcome is Outcome.HOLDS
    assert all(check.seen in line.output for check in study.checks)
    page = (place.parent / "pins.html").read_text()
    assert page.count("<svg") == len(study.drawings) > 0
    drawn = run("report", str(place.parent))
    assert drawn.status == 0, drawn.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["study"], "no study is named"), (["study", "pin"], "nearest: pins")],
)
def test_a_study_that_there_is_not_is_told_with_those_that_are(run, arguments, complaint):
    line = run(*arguments)
    assert line.status == 2, line.output
    assert complaint in line.output


def test_they_can_be_listed(run):
    line = run("study", "--list")
    assert line.status == 0, line.output
    assert [row.split()[0] for row in line.output.splitlines()] == list(STUDIES)
