"""What stands in for a kernel in test_bisect_git.py: the checked out file says what it is.

As a program it stands in for `python -m harness.cli`, of which git starts bisect-step.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.bisect import hunt
from harness.bisect.question import Answer
from harness.errors import HostError
from harness.progress import Progress
from harness.results.bisect import Asked, Fate


def judge(asked: Asked, place: Path) -> Answer:
    """Say what the checked out file says, and note that it was asked."""
    word = (Path(asked.cell.kernel) / "mm" / "cma.c").read_text().split()[0]
    with (place.parent / "asked").open("a") as notes:
        notes.write(f"{word}\n")
    if word == "host":
        raise HostError("no disk")
    if word == "bug":
        raise RuntimeError
    return Answer(Fate(word), f"it is {word}")


if __name__ == "__main__":
    assert sys.argv[1] == hunt.STEP, sys.argv
    sys.exit(hunt.step(Path(sys.argv[2]), judge, Progress()))
