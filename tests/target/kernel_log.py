"""The kernel's messages of a stretch of time."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

from harness.guest.guest import Guest


def marked(guest: Guest) -> Callable[[], tuple[str, ...]]:
    """Return what reads the kernel's messages since now, without their times.

    A line of our own marks the place: the ring buffer has no position that a shell could keep.
    """
    mark = f"cma-harness: the log from here on, {secrets.token_hex(8)}"
    guest.run(f"echo '{mark}' >/dev/kmsg").checked("marking the kernel's log")

    def since() -> tuple[str, ...]:
        _before, found, after = guest.run("dmesg").checked("dmesg").partition(mark)
        assert found, "the kernel's ring buffer has turned over within one test"
        lines = after.splitlines()[1:]
        return tuple(re.sub(r"^\[ *\d+\.\d+\] ", "", line) for line in lines)

    return since
