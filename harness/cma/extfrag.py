"""How fragmented free memory is: the unusable free space index of each zone and order.

/sys/kernel/debug/extfrag/unusable_index: the share of free memory that is in blocks too small for
an allocation of that order, 0 (all can be used) to 1 (none can). Needs CONFIG_COMPACTION.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.cma.shell import Shell
from harness.errors import GuestError

FILE = "/sys/kernel/debug/extfrag/unusable_index"
_SECONDS = 30.0
_LINE = re.compile(r"^Node +\d+, +zone +(\w+) +([\d. ]+)$", re.M)


def unusable(shell: Shell) -> Mapping[str, tuple[float, ...]]:
    """Return the index of each order from 0, by zone; raise `GuestError` when there is none."""
    done = shell.run(f"cat {FILE}", _SECONDS)
    if done.status:
        raise GuestError(f"status {done.status}: {done.output.strip()}", where=FILE)
    return parse_unusable(done.output)


def parse_unusable(text: str) -> Mapping[str, tuple[float, ...]]:
    """Return what the file's text says."""
    return {
        zone: tuple(float(value) for value in values.split())
        for zone, values in _LINE.findall(text)
    }
