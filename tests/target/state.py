"""What the kernel tells of every area in debugfs, sysfs and /proc/vmstat, at one moment.

One command reads all of it, so that numbers can be compared with each other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby

import pytest

from harness.cma.areas import DEBUGFS, PAGE, SYSFS, parse_files
from harness.cma.shell import Shell

READ = f"grep -rs . {DEBUGFS} {SYSFS}; grep ^cma_alloc /proc/vmstat"
WORD = 32

_VMSTAT = re.compile(r"^(cma_alloc_\w+) (\d+)$", re.M)


@dataclass(frozen=True, slots=True)
class Run:
    """Pages next to each other: the number of the first in the area, and how many."""

    first: int
    pages: int

    @property
    def end(self) -> int:
        return self.first + self.pages


@dataclass(frozen=True, slots=True)
class AreaState:
    """An area's files. Counters are pages, `bits` has one character a page: 1 where it is used."""

    name: str
    base_pfn: int
    count: int
    order_per_bit: int
    used: int
    maxchunk: int
    words: tuple[int, ...]
    bits: str
    succeeded: int
    failed: int
    released: int

    @property
    def base(self) -> int:
        return self.base_pfn * PAGE

    @property
    def end(self) -> int:
        return self.base + self.count * PAGE

    def runs(self, bit: str) -> tuple[Run, ...]:
        """The runs of used ("1") or free ("0") pages, in the order of their addresses."""
        found, at = [], 0
        for value, group in groupby(self.bits[: self.count]):
            length = len(list(group))
            if value == bit:
                found.append(Run(at, length))
            at += length
        return tuple(found)

    @property
    def longest(self) -> int:
        """Pages of the longest free run."""
        return max((run.pages for run in self.runs("0")), default=0)

    def first_fit(self, pages: int) -> Run:
        """Where an allocation without alignment has to go."""
        return next(Run(run.first, pages) for run in self.runs("0") if run.pages >= pages)

    def taken_since(self, before: AreaState) -> tuple[Run, ...]:
        """The pages in use now that were free before; fails when others were given back."""
        pairs = list(zip(before.bits, self.bits, strict=True))
        assert ("1", "0") not in pairs, "pages that were in use were given back"
        changed = "".join("1" if new > old else "0" for old, new in pairs)
        return replace(self, bits=changed).runs("1")


@dataclass(frozen=True, slots=True)
class State:
    """All areas by name, and /proc/vmstat's cma_alloc_success and cma_alloc_fail: calls."""

    areas: Mapping[str, AreaState]
    success: int
    fail: int

    def others(self, name: str) -> dict[str, AreaState]:
        """All areas but that one."""
        return {key: area for key, area in self.areas.items() if key != name}


def read_state(shell: Shell) -> State:
    """Read it all; skips on kernels whose files are others."""
    text = shell.run(READ, 30).output
    vmstat = {name: int(value) for name, value in _VMSTAT.findall(text)}
    if not vmstat:
        pytest.skip("no cma_alloc_success in /proc/vmstat: 'mm: vmstat: add cma statistics'")
    return State(parse_areas(text), vmstat["cma_alloc_success"], vmstat["cma_alloc_fail"])


def reading(name: str) -> str:
    """Return the command that prints one area's files, for `parse_areas`."""
    return f"grep -s . '{DEBUGFS}/{name}'/* '{SYSFS}/{name}'/*"


def parse_areas(text: str) -> dict[str, AreaState]:
    """Return the areas of which grep printed `path:value` lines."""
    return {name: _area(name, fields) for name, fields in parse_files(text).items()}


def _area(name: str, fields: Mapping[str, str]) -> AreaState:
    if "release_pages_success" not in fields:
        pytest.skip(
            "no release_pages_success in sysfs: since 6.9 (ABI/testing/sysfs-kernel-mm-cma)"
        )
    if "bitmap" not in fields:
        pytest.skip("debugfs has each range's bitmap in a folder of its own, since 6.15")
    words = tuple(int(word) for word in fields["bitmap"].split())
    return AreaState(
        name=name,
        words=words,
        bits="".join(f"{word:0{WORD}b}"[::-1] for word in words),
        succeeded=int(fields["alloc_pages_success"]),
        failed=int(fields["alloc_pages_fail"]),
        released=int(fields["release_pages_success"]),
        **{
            field: int(fields[field])
            for field in ("base_pfn", "count", "order_per_bit", "used", "maxchunk")
        },
    )
