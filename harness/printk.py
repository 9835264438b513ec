"""How a message of the kernel's stands on a console: behind a time, or in the middle of a line.

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
