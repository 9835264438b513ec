"""What the kernel tells of every area in debugfs, sysfs and /proc/vmstat, at one moment.

One command reads all of it, so that numbers can be compared with each other.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby

import pytest

from harness.cma.areas import DEBUGFS, NODES, PAGE, SYSFS, folders, parse_files
from harness.cma.shell import Shell
from harness.config import numbers

READ = f"{NODES}; grep -rs . {DEBUGFS} {SYSFS}; grep ^cma_alloc /proc/vmstat"
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
    folder: str  # in debugfs
    base_pfn: int
    count: int
    order_per_bit: int
    used: int
    maxchunk: int
    words: tuple[int, ...]
    bits: str
    counters: Mapping[str, int]  # sysfs' files

    @property
    def succeeded(self) -> int:
        return self._counter("alloc_pages_success", "5.13 (43ca106fa8ec)")

    @property
    def failed(self) -> int:
        return self._counter("alloc_pages_fail", "5.13 (43ca106fa8ec)")

    @property
    def released(self) -> int:
        return self._counter("release_pages_success", "6.9 (00ea70196a3b)")

    def _counter(self, name: str, since: str) -> int:
        if name not in self.counters:
            pytest.skip(f"sysfs has no {name}: since {since}")
        return self.counters[name]

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
    vmstat: Mapping[str, int]

    @property
    def success(self) -> int:
        return self._calls("cma_alloc_success")

    @property
    def fail(self) -> int:
        return self._calls("cma_alloc_fail")

    def _calls(self, name: str) -> int:
        if name not in self.vmstat:
            pytest.skip(f"/proc/vmstat has no {name}: since 5.13 (bbb269206f3c)")
        return self.vmstat[name]

    def others(self, name: str) -> dict[str, AreaState]:
        """All areas but that one."""
        return {key: area for key, area in self.areas.items() if key != name}


def read_state(shell: Shell) -> State:
    """Read it all. A number that the kernel does not have skips the case that asks for it."""
    text = shell.run(READ, 30).output
    vmstat = {name: int(value) for name, value in _VMSTAT.findall(text)}
    return State(parse_areas(text), vmstat)


def reading(area: AreaState) -> str:
    """Return the command that prints one area's files, for `parse_areas`."""
    return f"{NODES}; grep -rs . '{area.folder}' '{SYSFS}/{area.name}'"


def no_room(version: str) -> int:
    """What cma_alloc() tells when no place is free.

    cma_range_alloc(), which has the search since areas have ranges (6.15, c009da4258f9), begins
    with EBUSY, and says so although nothing was busy (7.3).
    """
    return -errno.EBUSY if numbers(version) >= (6, 15) else -errno.ENOMEM


def parse_areas(text: str) -> dict[str, AreaState]:
    """Return the areas of which grep printed `path:value` lines."""
    places = folders(text)
    return {name: _area(name, places[name], of) for name, of in parse_files(text).items()}


def _area(name: str, folder: str, fields: Mapping[str, str]) -> AreaState:
    words = tuple(int(word) for word in fields["bitmap"].split())
    return AreaState(
        name=name,
        folder=folder,
        words=words,
        bits="".join(f"{word:0{WORD}b}"[::-1] for word in words),
        counters={key: int(value) for key, value in fields.items() if "_pages_" in key},
        **{
            field: int(fields[field])
            for field in ("base_pfn", "count", "order_per_bit", "used", "maxchunk")
        },
    )
