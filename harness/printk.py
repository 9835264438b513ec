"""How the kernel's messages stand on a console: each with its time, between what programs wrote.

Pure text; lines are bytes as they came from the serial port.
"""

from __future__ import annotations

import re

CALLER = r"\[ *[TC]\d+\] ?"  # with CONFIG_PRINTK_CALLER, since 5.1
TIME = r"\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? "

_STAMP = re.compile(TIME.encode())
_PREFIX = re.compile(rb"(?:<\d{1,3}>)?(?:\[ *\d+\.\d{1,6}\](?:\[ *[TC]\d+\])? ?|\[ *[TC]\d+\] ?)?")


def strip_printk(line: bytes) -> bytes:
    """Drop the level, the time and the caller before a message: `<6>[    1.234567][   T12] `.

    One space behind the prefix goes with it, further ones are the message's (KTAP indents). The
    level stands there in `dmesg -r`.
    """
    match = _PREFIX.match(line)
    return line[match.end() :] if match else line


def stamped_part(line: bytes) -> bytes | None:
    """Return a line from its time on, without what a program had left before it; None without."""
    stamp = _STAMP.search(line)
    return line[stamp.start() :] if stamp else None


def messages(console: bytes) -> tuple[str, ...]:
    """Return the kernel's messages of a stretch of console, with their times; all else is left out.

    A message that begins before the stretch is left out too: it is somebody else's.
    """
    parts = (stamped_part(line.strip(b"\r")) for line in console.split(b"\n"))
    return tuple(part.decode("utf-8", "replace") for part in parts if part is not None)
