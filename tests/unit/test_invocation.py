"""A run of the command line in a process of its own: what is a result, and what is none."""

from __future__ import annotations

import sys

import pytest

from harness import invocation
from harness.errors import CommandFailed
from harness.invocation import OUTPUT, invoke
from harness.results.record import RUN_FILE, RunRecord, now

# What stands in for `python -m harness.cli`: it says what it was told, and leaves a record or none.
STAND_IN = """\
import pathlib, shutil, sys
print(*sys.argv[1:])
if sys.argv[2] == "records":
    (place,) = (word[10:] for word in sys.argv if word.startswith("--run-dir="))
    shutil.copy(pathlib.Path(__file__).with_name("made.json"), place + "/run.json")
sys.exit(int(sys.argv[3]))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    made = RunRecord(id="made", started=now(), ended=now())
    (tmp_path / "made.json").write_text(made.model_dump_json())
    monkeypatch.setattr(invocation, "COMMAND", (sys.executable, str(tmp_path / "stand_in.py")))
    return tmp_path / "run"


@pytest.mark.parametrize("status", ["0", "1", "3"])
def test_a_run_that_left_a_record_is_a_result_however_it_ended(place, status):
    assert invoke(["records", status], place).id == "made"
    assert (place / OUTPUT).read_text().startswith(f"test records {status} --run-dir={place}")


def test_one_that_left_none_is_an_error(place):
    with pytest.raises(CommandFailed, match="ended with status 3"):
        invoke(["fails", "3"], place)


def test_the_record_of_an_earlier_run_is_not_taken_for_it(place):
    invoke(["records", "0"], place)
    with pytest.raises(CommandFailed):
        invoke(["fails", "2"], place)
    assert not (place / RUN_FILE).exists()
