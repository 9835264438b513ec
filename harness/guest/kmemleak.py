"""Memory that the kernel lost: kmemleak's scan, and what it found (mm/kmemleak.c, 6.12).

A piece of memory is lost when nothing points to it. kmemleak tells of one only when it is five
seconds old (MSECS_MIN_AGE), and when two scans in a row found it with the same content, since a
list in motion hides its members for a moment (update_checksum).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from harness.errors import GuestError
from harness.guest.console import Console
from harness.verdict import Verdict

OPTION = "CONFIG_DEBUG_KMEMLEAK"

_FILE = "/sys/kernel/debug/kmemleak"
_AGE = 6  # seconds, one more than MSECS_MIN_AGE: busybox's sleep counts whole ones
_SCAN_SECONDS = 60.0
# What is listed is told once: `clear` greys it. A write fails with EPERM once kmemleak has
# switched itself off, which it does for ever when it cannot allocate (kmemleak_disable).
_SCAN = (
    f"echo scan >{_FILE} && sleep {{seconds}} && echo scan >{_FILE} && cat {_FILE}"
    f" && echo clear >{_FILE}"
)
_OBJECT = re.compile(r"^unreferenced object (0x[0-9a-f]+) \(size (\d+)\):$", re.M)


@dataclass(frozen=True, slots=True)
class Leak:
    """A lost piece: where it is, its size in bytes, and all that the kernel says of it."""

    address: int
    size: int
    text: str


class Blind(GuestError):
    """kmemleak does not look: it had no memory for its own books, and switched itself off."""

    verdict = Verdict.SKIP


def parse(listing: str) -> tuple[Leak, ...]:
    """Split what /sys/kernel/debug/kmemleak shows; each piece ends where the next one begins."""
    found = list(_OBJECT.finditer(listing))
    bounds = pairwise([*(match.start() for match in found), len(listing)])
    return tuple(
        Leak(int(match[1], 16), int(match[2]), listing[start:end].rstrip())
        for match, (start, end) in zip(found, bounds, strict=True)
    )


def scan(console: Console, *, aged: bool = False) -> tuple[Leak, ...]:
    """Return what was lost and has not been told of yet.

    `aged` says that what is looked for is old enough already; else the guest waits until it is.
    Raises `Blind`, and what the console raises.
    """
    done = console.run(_SCAN.format(seconds=0 if aged else _AGE), _SCAN_SECONDS)
    if done.status:
        raise Blind(f"kmemleak does not scan: {done.output.strip()}", where=_FILE)
    return parse(done.output)


def explain(leaks: tuple[Leak, ...]) -> str:
    """Return how much was lost, and each piece with the back trace of its allocation."""
    size = sum(leak.size for leak in leaks)
    pieces = "1 piece" if len(leaks) == 1 else f"{len(leaks)} pieces"
    told = "\n".join(leak.text for leak in leaks)
    return f"{pieces} of memory lost, {size} bytes\n{told}"
