r"""Marks around a command's output on the console, where the kernel writes between any two bytes.

A mark is a random text. The shell prints it before a command and, with the exit status, behind it.
The shell that runs commands has the terminal's output processing turned off, so programs end lines
with \n alone, while the kernel's console writes \r\n (uart_console_write): that tells the kernel's
own messages from those that a `dmesg` prints.
"""

from __future__ import annotations

import re
import secrets

_MESSAGE = rb"\[ *\d+\.\d{6}\][^\n]*\r\n"
_MESSAGES = re.compile(_MESSAGE)


def fresh() -> bytes:
    """Make a text that no program prints by chance."""
    return b"~" + secrets.token_hex(6).encode()


def typed(mark: bytes) -> bytes:
    """Spell a mark for the shell so that the echo of what is typed does not look like it."""
    return mark[:4] + b"''" + mark[4:]


def woven(text: bytes) -> bytes:
    """Make a pattern that finds `text` although kernel messages may stand between its bytes."""
    between = rb"(?:" + _MESSAGE + rb")*"
    return between.join(re.escape(text[i : i + 1]) for i in range(len(text)))


def ending(mark: bytes) -> re.Pattern[bytes]:
    """Make the pattern of `<mark>:<status>.`, the end of a command's output."""
    return re.compile(woven(mark + b":") + rb"((?:\d|" + _MESSAGE + rb")+)" + woven(b".\n"))


def split(mark: bytes, text: bytes) -> tuple[int, bytes]:
    """Split text that ends with the ending of `mark` into exit status and the command's output."""
    found = ending(mark).search(text)
    if not found:
        raise ValueError(f"{mark!r} does not end this text")
    return int(without_messages(found[1])), without_messages(text[: found.start()])


def messages(text: bytes) -> bytes:
    """Give the kernel's messages alone, a line each."""
    return b"".join(_MESSAGES.findall(text))


def without_messages(text: bytes) -> bytes:
    """Drop the kernel's messages; a line of a program that they cut in two is whole again."""
    return _MESSAGES.sub(b"", text)
