"""dma-buf heaps, driven through the guest program heap-ctl.

A heap's buffers live as long as somebody holds a file descriptor or a mapping of them, so one
call of `Heap.run` is one process with all its operations; images/guest/heap-ctl.c lists them, and
prints one JSON object for each. An errno or a signal is an answer, not an error.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.cma.shell import Shell
from harness.errors import GuestError
from harness.verdict import Verdict

PROGRAM = "heap-ctl"
DEVICES = "/dev/dma_heap"


class HeapError(GuestError):
    """heap-ctl did not do what it was asked for: a defect of the program, the image or the call."""

    verdict = Verdict.ERROR


@dataclass(frozen=True, slots=True)
class Answer:
    """What one operation answered: a number, or the name of an errno ("ENOMEM") or signal.

    `text` is what `cat` read.
    """

    operation: str
    outcome: int | str
    text: str = ""

    @property
    def number(self) -> int:
        """The number; `GuestError` when it was an errno or a signal."""
        if isinstance(self.outcome, int):
            return self.outcome
        raise GuestError(f"{self.operation} answered {self.outcome}", where=PROGRAM)


class Heap:
    """One heap of a running guest; `name` is that of its node below /dev/dma_heap.

    Lets the shell's own errors (the guest died, the time is over) pass.
    """

    def __init__(self, shell: Shell, name: str, *, timeout: float = 60.0) -> None:
        self._shell = shell
        self._device = f"{DEVICES}/{name}"
        self._timeout = timeout

    def run(self, *operations: str) -> tuple[Answer, ...]:
        """Let one process do the operations in their order; return the answer of each."""
        # A line each: the console limits a line's length, not a command's.
        command = " \\\n".join(shlex.quote(word) for word in operations)
        done = self._shell.run(f"{PROGRAM} -d {shlex.quote(self._device)} {command}", self._timeout)
        if done.status:
            raise HeapError(
                f"exit status {done.status}: {done.output.strip()[-500:]!r}", where=self._device
            )
        answers = tuple(_answers(done.output.splitlines(), self._device))
        asked = [operation.split()[0] for operation in operations]
        if [answer.operation for answer in answers] != asked:
            raise HeapError(f"{len(asked)} operations, other answers", where=self._device)
        return answers


def _answers(lines: Iterable[str], where: str) -> Iterator[Answer]:
    for line in lines:
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise HeapError(f"not JSON: {line!r}", where=where) from error
        answer = _answer(fields)
        if answer is None:
            raise HeapError(f"not an answer: {line!r}", where=where)
        yield answer


def _answer(fields: object) -> Answer | None:
    match fields:
        case {"operation": str(operation), "value": int(value), "text": str(text)}:
            return Answer(operation, value, text)
        case {"operation": str(operation), "value": int(value), **rest} if "text" not in rest:
            return Answer(operation, value)
        case {"operation": str(operation), "errno": str(name)}:
            return Answer(operation, name)
        case {"operation": str(operation), "signal": str(name)}:
            return Answer(operation, name)
    return None
