"""Each study holds on the cell's kernel, and says why where it is not for it.

`cma-harness test tests/studies`; the pages are in the test's directory (--basetemp). Every study
boots guests of its own, of the layout that it needs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cache import Cache
from harness.cell import Prepared
from harness.progress import Progress
from harness.report import study as report
from harness.results.study import Outcome, StudyRecord
from harness.studies import STUDIES
from harness.studies.run import Order, Runner
from harness.studies.study import Study


def run(study: Study, cell: Prepared, directory: Path, *, without: bool = False) -> StudyRecord:
    """Run a study on the kernel under test, and leave its pages."""
    order = Order(study, cell.cell.kernel.name, cell.cell.board.name, without)
    record = Runner(directory, Cache(), Progress(quiet=True)).run([order], ())
    report.write(record, directory)
    (found,) = record.studies
    if found.outcome is Outcome.SKIP:
        pytest.skip(found.reason)
    return found


def told(found: StudyRecord) -> str:
    """What was seen, for the message of a red case."""
    return "\n".join([found.reason, *(f"{each.what}: {each.seen}" for each in found.checks)])


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_the_claim_holds(study: Study, cell: Prepared, tmp_path: Path) -> None:
    found = run(study, cell, tmp_path)
    assert found.outcome is Outcome.HOLDS, told(found)


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_it_does_not_hold_where_the_mechanism_is_taken_out(
    study: Study, cell: Prepared, tmp_path: Path
) -> None:
    found = run(study, cell, tmp_path, without=True)
    assert found.outcome is Outcome.FAILS, told(found)
