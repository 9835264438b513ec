"""The counters of /proc/vmstat, by name; which there are differs by version."""

from __future__ import annotations

from collections.abc import Mapping

from harness.cma.shell import Shell
from harness.errors import GuestError

FILE = "/proc/vmstat"
_SECONDS = 30.0


def read(shell: Shell) -> Mapping[str, int]:
    """Return all counters now; raise `GuestError` when they cannot be read."""
    done = shell.run(f"cat {FILE}", _SECONDS)
    if done.status:
        raise GuestError(f"status {done.status}: {done.output.strip()}", where=FILE)
    return parse(done.output)


def parse(text: str) -> Mapping[str, int]:
    """Return the counters in the text of /proc/vmstat."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def growth(before: Mapping[str, int], after: Mapping[str, int]) -> Mapping[str, int]:
    """Return by how much each counter has grown; those of `after` that `before` lacks from 0."""
    return {name: value - before.get(name, 0) for name, value in after.items()}
