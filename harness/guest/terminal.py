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

from harness.errors import UsageError
from harness.guest.stream import Stream

LEAVE = b"\x1d"  # Ctrl-], as telnet has it; Ctrl-C and all others go to the guest
_SANE = b"\x1b[0m\x1b[?25h\r\n"  # what a killed guest program may have left: colour, no cursor


def bridge(stream: Stream, transcript: Path) -> bool:
    """Join standard input and output to the guest until Ctrl-] or the console's end.

    Tells the guest's shell the size of the window first. What the guest says goes to the screen
    and to the file `transcript`. Returns whether the console is still open. Raises
    UsageError when standard input or output is no terminal; the terminal is restored in any case.
    """
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    if not (os.isatty(keyboard) and os.isatty(screen)):
        raise UsageError(
            "an interactive console needs a terminal",
            next_step="run it without a pipe, or use 'cma-harness ssh' with a command",
        )
    size = os.get_terminal_size(screen)
    with _raw(keyboard, screen), transcript.open("ab", buffering=0) as file:
        stream.send(f"stty rows {size.lines} cols {size.columns}\n".encode())
        while not stream.ended:
            ready, _, _ = select.select([keyboard, stream.fileno()], [], [])
            if stream.fileno() in ready:
                data = stream.take(0)
                file.write(data)
                _write(screen, data)
            if keyboard in ready and not _type(keyboard, stream):
                return True
    return False


def _type(keyboard: int, stream: Stream) -> bool:
    """Pass on what was typed; False when it asks to leave, or the terminal is gone."""
    typed, leave, _ = os.read(keyboard, 4096).partition(LEAVE)
    if typed and not stream.ended:
        stream.send(typed)
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
