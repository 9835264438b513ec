"""What the programs of images/guest/ answer: JSON objects, a line each, or the name of an errno."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.cma.shell import Completed, Shell
from harness.errors import GuestError
from harness.verdict import Verdict

_ERRNO = re.compile(r"^[a-z-]+: .*: (?P<name>E[A-Z0-9?]+) \(", re.MULTILINE)
_STATUS_ERRNO = 1
_STATUS_DIFFERS = 3  # answers all the same: the difference is in them


class ProgramError(GuestError):
    """A program ended badly; `errno_name` is what the kernel answered it, or empty."""

    def __init__(self, what: str, *, errno_name: str = "", where: str = "") -> None:
        super().__init__(what, where=where)
        self.errno_name = errno_name
        # An errno is what the kernel answered; the rest is a defect of the program or the image.
        self.verdict = Verdict.FAIL if errno_name else Verdict.ERROR


class Answer(BaseModel):
    """One JSON object of a program; its fields are the whole of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


A = TypeVar("A", bound=Answer)


def ask(shell: Shell, argv: Sequence[str], kind: type[A], timeout: float = 30) -> tuple[A, ...]:
    """Run a program in the guest to its end, and return its answers. Raises `ProgramError`."""
    command = shlex.join(argv)
    return answers(shell.run(command, timeout), kind, command)


def ask_one(shell: Shell, argv: Sequence[str], kind: type[A], timeout: float = 30) -> A:
    """Return the answer of a program that has one."""
    found = ask(shell, argv, kind, timeout)
    if len(found) != 1:
        raise ProgramError(f"{len(found)} answers where one was due", where=shlex.join(argv))
    return found[0]


def answers(done: Completed, kind: type[A], where: str) -> tuple[A, ...]:
    """Return what a program that has ended answered."""
    if done.status not in (0, _STATUS_DIFFERS):
        told = _ERRNO.search(done.output) if done.status == _STATUS_ERRNO else None
        what = done.output.strip() or "no word of why"
        raise ProgramError(
            f"status {done.status}: {what}", errno_name=told["name"] if told else "", where=where
        )
    lines = [line for line in done.output.splitlines() if line.startswith("{")]
    try:
        return tuple(kind.model_validate_json(line) for line in lines)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"not a {kind.__name__}: {first['msg']} {list(first['loc']) or ''}"
        raise ProgramError(what, where=where) from error
