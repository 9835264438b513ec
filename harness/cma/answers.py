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

# The line that die_of() of images/guest/lib/report.c prints.
_ERRNO = re.compile(r"^[a-z-]+: (?P<what>.*): (?P<name>E[A-Z0-9?]+) \(", re.MULTILINE)
_STATUS_ERRNO = 1
_STATUS_DIFFERS = 3  # answers all the same: the difference is in them
_STATUS_MISSING = (126, 127)  # of a shell: no such program, or none that can be run
_KILLED = re.compile(r"\bsignal 9\b")
_STATUS_KILLED = 137


class ProgramError(GuestError):
    """A program ended badly; `errno_name` is what the kernel answered it ("ENOSPC").

    It is empty when the program failed otherwise: it is missing, was misused or printed something
    else than was due.
    """

    def __init__(
        self, what: str, *, errno_name: str = "", where: str = "", next_step: str = ""
    ) -> None:
        super().__init__(what, where=where, next_step=next_step)
        self.errno_name = errno_name
        # An errno is what the kernel answered; the rest is a defect of the program or the image.
        self.verdict = Verdict.FAIL if errno_name else Verdict.ERROR


class Answer(BaseModel):
    """One JSON object of a program; its fields are the whole of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


A = TypeVar("A", bound=Answer)


def ask(
    shell: Shell,
    argv: Sequence[str],
    kind: type[A],
    timeout: float = 30,
    *,
    lines: Sequence[str] | None = None,
) -> tuple[A, ...]:
    """Run a program in the guest to its end, and return its answers. Raises `ProgramError`.

    `lines` are its standard input.
    """
    where = shlex.join(argv)
    command = where if lines is None else "\n".join([f"{where} <<'end'", *lines, "end"])
    return answers(shell.run(command, timeout), kind, where)


def ask_one(shell: Shell, argv: Sequence[str], kind: type[A], timeout: float = 30) -> A:
    """Return the answer of a program that has one."""
    found = ask(shell, argv, kind, timeout)
    if len(found) != 1:
        raise ProgramError(f"{len(found)} answers where one was due", where=shlex.join(argv))
    return found[0]


def answers(done: Completed, kind: type[A], where: str) -> tuple[A, ...]:
    """Return what a program that has ended answered."""
    if done.status not in (0, _STATUS_DIFFERS):
        raise _failure(done, where)
    return objects(done.output, kind, where)


def objects(text: str, kind: type[A], where: str) -> tuple[A, ...]:
    """Return the JSON objects of a text; kernel messages may stand between its lines."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    try:
        return tuple(kind.model_validate_json(line) for line in lines)
    except ValidationError as error:
        first = error.errors()[0]
        raise ProgramError(
            f"not a {kind.__name__}: {first['msg']} {list(first['loc']) or ''}",
            where=where,
            next_step="use the programs of this checkout in the guest's image",
        ) from error


def _failure(done: Completed, where: str) -> ProgramError:
    """Turn an exit status that is no success into an error, with the errno's name if told."""
    told = _ERRNO.search(done.output) if done.status == _STATUS_ERRNO else None
    if told:
        name = told["name"]
        return ProgramError(f"{told['what']} answered {name}", errno_name=name, where=where)
    return ProgramError(
        f"exit status {done.status}: {done.output.strip()[-500:]!r}",
        where=where,
        next_step=_advice(done),
    )


def _advice(done: Completed) -> str:
    if done.status in _STATUS_MISSING:
        return "use an image of this checkout, which has the program"
    if done.status == _STATUS_KILLED or _KILLED.search(done.output):
        return "see whether the kernel's OOM killer did it: then its report is on the console"
    return "see what it and the kernel said, and how it was called"
