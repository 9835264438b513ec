"""Memory that a process takes for itself, by the guest program mem-take."""

from __future__ import annotations

from harness.cma.answers import Answer, ask_one, objects
from harness.cma.shell import Shell

PROGRAM = "mem-take"
_SECONDS = 300.0  # under TCG, with another guest beside it


class Taken(Answer):
    """What was had; all are pages, but for the time. `oom`: the process was killed for it."""

    asked: int
    pages: int
    oom: bool
    in_cma: int | None = None
    took_ns: int | None = None


def take_all(shell: Shell) -> Taken:
    """Take anonymous memory until the OOM killer comes."""
    return ask_one(shell, [PROGRAM, "all"], Taken, _SECONDS)


def taken(text: str) -> tuple[Taken, ...]:
    """Return what several runs of the program told, on a console among other things."""
    return objects(text.replace("\r", ""), Taken, PROGRAM)
