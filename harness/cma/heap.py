"""dma-buf heaps, driven through the guest program heap-ctl.

A heap's buffers live as long as somebody holds a file descriptor or a mapping of them, so one
call of `Heap.run` is one process with all its operations; images/guest/heap-ctl.c lists them, and
prints one JSON object for each. An errno or a signal is an answer, not an error.
"""

from __future__ import annotations

import shlex

from pydantic import model_validator

from harness.cma import answers
from harness.cma.shell import Shell
from harness.errors import GuestError

PROGRAM = "heap-ctl"
DEVICES = "/dev/dma_heap"


class Answer(answers.Answer):
    """What one operation answered: a number, or the name of an errno ("ENOMEM") or a signal.

    `text` is what `cat` read.
    """

    operation: str
    value: int | None = None
    errno: str | None = None
    signal: str | None = None
    text: str = ""

    @model_validator(mode="after")
    def _is_one(self) -> Answer:
        if [self.value, self.errno, self.signal].count(None) != 2:
            raise ValueError("a value, an errno or a signal is due")
        return self

    @property
    def outcome(self) -> int | str:
        """Whichever it was."""
        return self.value if self.value is not None else self.errno or self.signal or ""

    @property
    def number(self) -> int:
        """The number; `GuestError` when it was an errno or a signal."""
        if self.value is not None:
            return self.value
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
        """Let one process do the operations in their order; return the answer of each.

        Raises `ProgramError` when it did not do what it was asked for.
        """
        # A line each: the console limits a line's length, not a command's.
        words = " \\\n".join(shlex.quote(word) for word in operations)
        done = self._shell.run(f"{PROGRAM} -d {shlex.quote(self._device)} {words}", self._timeout)
        found = answers.answers(done, Answer, self._device)
        asked = [operation.split()[0] for operation in operations]
        if [answer.operation for answer in found] != asked:
            raise answers.ProgramError(
                f"{len(asked)} operations, other answers", where=self._device
            )
        return found
