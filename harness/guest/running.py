"""A command that runs on the console while its output, and the kernel's, is read as it comes."""

from __future__ import annotations

from harness.guest import marks
from harness.guest.console import Console
from harness.guest.stream import LONGEST_MATCH


class Running:
    """A command started on a guest's console; `status` is its exit status once it has ended.

    `mark` is what it was begun with (`Console.begin`).
    """

    def __init__(self, console: Console, mark: bytes) -> None:
        self._console = console
        self._mark = mark
        self._end = b""
        self.status: int | None = None
        self.start = console.position

    @property
    def output(self) -> str:
        """What the command itself printed; to be asked when it has ended."""
        _, output = marks.split(self._mark, self._console.text(self.start))
        return output.decode("utf-8", "replace").strip()

    def read(self, timeout: float) -> bytes:
        """Return what has come since, waiting up to `timeout` seconds for something.

        Faults pass through, for a parser to judge. Raises GuestDied when QEMU is gone.
        """
        text = self._console.read(timeout)
        self._end = (self._end + text)[-LONGEST_MATCH:]
        ending = marks.ending(self._mark).search(self._end)
        if ending:
            self.status, _ = marks.split(self._mark, self._end)
        return text
