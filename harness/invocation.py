"""`cma-harness test` in a process of its own, as a user runs it, and the record that it leaves."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import CommandFailed, DiskFull
from harness.process import run
from harness.results import record
from harness.results.record import RUN_FILE, RunRecord

COMMAND = (sys.executable, "-m", "harness.cli")
OUTPUT = "output.txt"


def invoke(words: Sequence[str], place: Path, *, cwd: Path | None = None) -> RunRecord:
    """Run it with those words and return its record; `place` has that, and what it printed.

    The runs of one caller do not share pytest's cache. Raises what the command failed with when it
    did not come as far as a record; one that was killed later has left a record without an end.
    """
    place.mkdir(parents=True, exist_ok=True)
    (place / RUN_FILE).unlink(missing_ok=True)  # an earlier run's says nothing of this one
    command = (*COMMAND, "test", *words, f"--run-dir={place.absolute()}", "-p", "no:cacheprovider")
    try:
        run(command, cwd=cwd, log=place / OUTPUT)
    # A red case is a result. One that quotes a guest's "No space left on device" looks like a full
    # disk of ours.
    except (CommandFailed, DiskFull):
        if not (place / RUN_FILE).exists():
            raise
    return record.read(place)
