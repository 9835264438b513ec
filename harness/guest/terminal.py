"""A person's terminal joined to the guest's console: raw in both directions, until Ctrl-]."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from harness.errors import UsageError

LEAVE = b"\x1d"  # Ctrl-], as telnet has it; Ctrl-C and all others go to the guest
_SANE = b"\x1b[0m\x1b[?25h\r\n"  # what a killed guest program may have left: colour, no cursor


class Remote(Protocol):
    """A guest's end of a terminal: the console, or a shell over ssh."""

    @property
    def ended(self) -> bool:
        """Whether it has hung up, and all was taken."""

    def fileno(self) -> int:
        """A descriptor for select(): readable when `take` has something, or the end, to tell."""

    def take(self, timeout: float) -> bytes:
        """Return what it said; empty for nothing, or the end."""

    def send(self, data: bytes) -> int:
        """Type `data`."""


def require() -> os.terminal_size:
    """Return the size of the terminal; raise UsageError when there is none on both sides."""
    if not (os.isatty(sys.stdin.fileno()) and os.isatty(sys.stdout.fileno())):
        raise UsageError(
            "an interactive console needs a terminal",
            next_step="run it without a pipe, or use 'cma-harness ssh' with a command",
        )
    return os.get_terminal_size(sys.stdout.fileno())


def bridge(remote: Remote, transcript: Path) -> bool:
    """Join standard input and output to the guest until Ctrl-] or the remote's end.

    What the guest says goes to the screen and to the file `transcript`. Returns whether the
    remote is still there. Raises UsageError without a terminal, which is restored in any case.
    """
    require()
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    with _raw(keyboard, screen), transcript.open("ab", buffering=0) as file:
        while not remote.ended:
            ready, _, _ = select.select([keyboard, remote.fileno()], [], [])
            if remote.fileno() in ready:
                data = remote.take(0)
                file.write(data)
                _write(screen, data)
            if keyboard in ready and not _type(keyboard, remote):
                return True
    return False


def _type(keyboard: int, remote: Remote) -> bool:
    """Pass on what was typed; False when it asks to leave, or the terminal is gone."""
    typed, leave, _ = os.read(keyboard, 4096).partition(LEAVE)
    if typed and not remote.ended:
        remote.send(typed)
    return bool(typed) and not leave


def _write(screen: int, data: bytes) -> None:
    while data:
        data = data[os.write(screen, data) :]


@contextmanager
def _raw(keyboard: int, screen: int) -> Iterator[None]:
    before = termios.tcgetattr(keyboard)
    try:
        tty.setraw(keyboard)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        _write(screen, _SANE)
