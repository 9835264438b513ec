"""Cases that leave the accounting of CMA otherwise than they found it turn red, with the reason."""

from __future__ import annotations

from pathlib import Path

from harness.verdict import Verdict

UNCLEAN = """
import pytest

AREA = "/sys/kernel/debug/cma/linux,cma"
pytestmark = pytest.mark.shares_guest


def test_leaks_five_pages(guest):
    guest.run(f"echo 5 >{AREA}/alloc").checked("allocating")


def test_comes_after_and_has_another_guest(guest):
    assert guest.run(f"cat {AREA}/used").output == "64\\n"
    guest.run(f"echo 7 >{AREA}/alloc && echo 7 >{AREA}/free; touch /tmp/here").checked("freeing")


def test_has_the_guest_of_one_that_is_clean(guest):
    guest.run("cat /tmp/here").checked("finding a file")


def test_leaks_and_fails(guest):
    guest.run(f"echo 3 >{AREA}/alloc").checked("allocating")
    assert False, "a reason of its own"


@pytest.fixture
def late(guest):
    yield
    guest.run(f"echo 2 >{AREA}/alloc").checked("allocating")


def test_is_judged_behind_its_fixtures(late):
    pass
"""


def test_a_case_that_does_not_leave_the_bitmap_as_it_found_it_fails_alone(run, tmp_path: Path):
    unclean = tmp_path / "test_unclean.py"
    unclean.write_text(UNCLEAN)
    line = run("test", str(unclean))
    assert line.status == 1, line.output
    assert line.verdicts == {
        "test_leaks_five_pages": Verdict.FAIL,
        "test_comes_after_and_has_another_guest": Verdict.PASS,
        "test_has_the_guest_of_one_that_is_clean": Verdict.PASS,
        "test_leaks_and_fails": Verdict.FAIL,
        "test_is_judged_behind_its_fixtures": Verdict.FAIL,
    }
    told = {name: case.message for name, case in line.cases.items()}
    assert told["test_leaks_five_pages"] == (
        "a case leaves the bitmap as it found it: area 'linux,cma': 5 pages are still allocated "
        "after the case (bits 64-68 of its debugfs bitmap)"
    )
    assert "a reason of its own" in told["test_leaks_and_fails"]
    assert "2 pages are still allocated" in told["test_is_judged_behind_its_fixtures"]
    (layout,) = (case for case in line.record.cases() if case.id == "layout")
    assert layout.message.startswith("audited after every case: the counters hold still; ")
