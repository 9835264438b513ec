"""A guest that was stored while its program cma-case waited for a line: it answers soonest.

A shell forks and executes; in a fresh copy, whose code QEMU has yet to translate, that alone takes
longer than a case. images/guest/cma-case.c says what it understands.
"""

from __future__ import annotations

from harness.errors import UsageError
from harness.guest import marks
from harness.guest.command import Completed
from harness.guest.console import Console

_READY = b"cma-case: waiting\n"
_LONGEST = 4000  # bytes of a line, as for `Console.run`


class Waiting:
    """What cma-case does on a guest's console; a shell for what asks for `cma-snapshot` alone."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @classmethod
    def enter(cls, console: Console, timeout: float) -> Waiting:
        """Have the program wait, in the shell of `Console.run`."""
        console.run("true", timeout)
        console.send(b"cma-case\n")
        console.wait_for(marks.woven(_READY), timeout, "starting cma-case")
        return cls(console)

    def begin(self, command: str, timeout: float) -> bytes:
        """Ask for something, and return the mark that its end will have (`marks.ending`)."""
        del timeout  # there is nothing to wait for: nobody else uses the terminal
        mark = marks.fresh()
        line = b"%s %s\n" % (mark, command.encode())
        if len(line) > _LONGEST or line.count(b"\n") > 1:
            raise UsageError(
                f"a line for cma-case is limited to {_LONGEST} bytes", where=repr(command)
            )
        self._console.send(line)
        return mark

    def run(self, command: str, timeout: float) -> Completed:
        """Ask for something, and wait for its end. Raises what `Console.wait_for` raises."""
        mark = self.begin(command, timeout)
        text = self._console.wait_for(marks.ending(mark), timeout, f"running {command!r}")
        status, output = marks.split(mark, text)
        return Completed(status, output.decode("utf-8", "replace"))

    def leave(self) -> None:
        """End the program; the console has its shell again."""
        self._console.send(b"\n")
