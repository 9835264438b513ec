"""Two jobs that take turns on the machine."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from itertools import groupby
from pathlib import Path

import pytest

from harness.bench import turns
from harness.errors import HostError, UsageError

# A program that writes its name down each millisecond, until it was awake for so many.
PROGRAM = """
import sys, time
for _ in range(int(sys.argv[3])):
    with open(sys.argv[2], "a") as file:
        file.write(sys.argv[1])
    time.sleep(0.001)
"""


@pytest.fixture
def writing(tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "_TURN", 0.1)

    def job(name, times):
        argv = [sys.executable, "-c", PROGRAM, name, tmp_path / "written", str(times)]
        return lambda: subprocess.run(argv, check=True, process_group=0)

    return job


def test_while_one_runs_the_other_is_stopped_with_what_it_has_started(writing, tmp_path):
    told = []
    took = turns.taken({"a": writing("a", 300), "b": writing("b", 300)}, told.append)
    written = (tmp_path / "written").read_text()
    assert (written.count("a"), written.count("b")) == (300, 300)
    spells = [name for name, _ in groupby(written)]
    assert 4 <= len(spells) <= len(told)  # beside each other they would write in turns of one
    assert all(seconds >= 0.3 for seconds in took.values())


def test_the_seconds_are_those_of_its_own_turns(writing):
    told = []
    took = turns.taken({"short": writing("a", 100), "long": writing("b", 800)}, told.append)
    assert took["long"] > 3 * took["short"] > 0
    assert told[-1].startswith("short ")


def left(file):
    """Return the processes that were started to write there."""
    commands = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline"))
    return [command for command in commands if str(file).encode() in command]


def test_a_job_that_fails_is_told_in_its_words_and_the_other_is_killed(writing, tmp_path):
    def fails():
        time.sleep(0.15)
        raise UsageError("no such kernel", where="here")

    with pytest.raises(HostError, match="here: no such kernel") as caught:
        turns.taken({"endless": writing("a", 10**6), "bad": fails})
    assert caught.value.where == "bad"
    assert (tmp_path / "written").exists()
    assert left(tmp_path / "written") == []
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("number", [1, 2], ids=["the first begins", "the second begins"])
def test_what_is_interrupted_while_it_begins_leaves_nothing(number, writing, tmp_path, monkeypatch):
    begin, begun = turns._Player.begin, []

    def interrupted(player):
        begin(player)
        begun.append(player)
        if len(begun) == number:
            raise KeyboardInterrupt

    monkeypatch.setattr(turns._Player, "begin", interrupted)
    with pytest.raises(KeyboardInterrupt):
        turns.taken({"a": writing("a", 10**6), "b": writing("b", 10**6)})
    assert left(tmp_path / "written") == []
    assert multiprocessing.active_children() == []


def test_a_job_that_dies_is_told():
    def dies():
        raise SystemExit(7)

    with pytest.raises(HostError, match="ended with status 7"):
        turns.taken({"bad": dies})
