"""The kernel's messages of a stretch of time."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

from harness.guest.guest import Guest

LIMITED = "alloc failed"  # what mm/cma.c says of a failure, with pr_err_ratelimited()
_BURST, _INTERVAL = 10, 5.0  # messages, s: DEFAULT_RATELIMIT_*, linux/ratelimit_types.h
_TOLD = f"cut -d' ' -f1 /proc/uptime; dmesg | sed -n 's/^\\[ *\\([0-9.]*\\)\\] .*{LIMITED}.*/\\1/p'"


def await_interval(guest: Guest) -> None:
    """Wait until the next failure is told for sure: what came before may have used the limit up.

    An interval begins with the first message behind the one before it.
    """
    now, *told = map(float, guest.run(_TOLD).checked("looking for failures").split())
    recent = [at for at in told if now - at < 2 * _INTERVAL]
    if len(recent) >= _BURST // 2:
        guest.run(f"sleep {max(0.0, recent[-1] + _INTERVAL - now) + 0.1:.1f}").checked("waiting")


def marked(guest: Guest) -> Callable[[], tuple[str, ...]]:
    """Return what reads the kernel's messages since now, without their times.

    A line of our own marks the place: the ring buffer has no position that a shell could keep.
    """
    await_interval(guest)
    mark = f"cma-harness: the log from here on, {secrets.token_hex(8)}"
    guest.run(f"echo '{mark}' >/dev/kmsg").checked("marking the kernel's log")

    def since() -> tuple[str, ...]:
        _before, found, after = guest.run("dmesg").checked("dmesg").partition(mark)
        assert found, "the kernel's ring buffer has turned over within one test"
        lines = after.splitlines()[1:]
        return tuple(re.sub(r"^\[ *\d+\.\d+\] ", "", line) for line in lines)

    return since
