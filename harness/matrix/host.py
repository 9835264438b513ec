"""What this host has for cells: processors, and memory that is free."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.errors import UsageError
from harness.matrix.schedule import Limits

AUTO = "auto"
_KEPT_FREE = 512  # MiB


def limits(at_once: str) -> Limits:
    """Return how many cells may run at a time: a number, or "auto" for one on each processor.

    Either way they share the memory that is available now, but for what a host keeps to breathe.
    Raises `UsageError` for what is neither.
    """
    meminfo = Path("/proc/meminfo").read_text()
    available = re.search(r"^MemAvailable: +(\d+) kB$", meminfo, re.M)  # since Linux 3.14
    assert available is not None
    memory = int(available[1]) // 1024 - _KEPT_FREE
    if at_once == AUTO:
        return Limits(len(os.sched_getaffinity(0)), memory)
    if not at_once.isdigit() or int(at_once) == 0:
        raise UsageError(
            f"-n {at_once}: give a number of cells at a time, or {AUTO}",
            next_step=f"cma-harness test … -n {AUTO}",
        )
    return Limits(int(at_once), memory)
