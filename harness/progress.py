"""What a run says while it works: one line a phase, with its time.

On a terminal the running phase is a live line; in a log it is two plain lines, start and end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.status import Status


class Phase:
    """A phase that is running; `note` replaces what its closing line says."""

    def __init__(self, name: str, status: Status | None) -> None:
        self.name = name
        self.text = ""
        self._status = status

    def note(self, text: str) -> None:
        """Set the text of the closing line, such as what was found in the cache."""
        self.text = text

    def step(self, text: str) -> None:
        """Show the current step on a terminal; logs stay quiet."""
        if self._status:
            self._status.update(f"{self.name}: {escape(text)}")


class Progress:
    """Prints phases to a console; `seconds` keeps how long each took."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, quiet=quiet)
        self.seconds: dict[str, float] = {}

    def say(self, text: str) -> None:
        """Print one plain line."""
        self.console.print(escape(text), soft_wrap=True)

    @contextmanager
    def phase(self, name: str, doing: str) -> Iterator[Phase]:
        """Time what runs inside, and print it with its duration in seconds."""
        started = time.monotonic()
        with self._live(f"{name}: {doing}") as status:
            phase = Phase(name, status)
            yield phase
        took = time.monotonic() - started
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        self.say(f"{name:<8} {phase.text or doing}  {took:.1f} s")

    @contextmanager
    def _live(self, text: str) -> Iterator[Status | None]:
        if not self.console.is_terminal:
            yield None
            return
        with self.console.status(escape(text)) as status:
            yield status
