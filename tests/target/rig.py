"""A dma-buf heap and its area, in one hand: operations, and where a buffer has to go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from state import AreaState, Run, parse_areas, read_state

from harness.cell import Prepared
from harness.cma.areas import PAGE, SYSFS
from harness.cma.heap import DEVICES, Answer, Heap
from harness.cma.shell import Shell

DIRT = 0xA5
FILES = ("base_pfn", "count", "order_per_bit", "used", "maxchunk", "bitmap")


@dataclass(frozen=True, slots=True)
class Rig:
    """The heap, its area as the case found it, and the largest alignment CMA gives, in pages."""

    heap: Heap
    before: AreaState
    natural: int

    @property
    def name(self) -> str:
        return self.before.name

    @property
    def state(self) -> tuple[str, ...]:
        """The operations that read the area; `areas` understands their answers."""
        return (
            *(f"cat {self.before.folder}/{file}" for file in FILES),
            *(f"cat {SYSFS}/{self.name}/{file}" for file in self.before.counters),
        )

    def run(self, *operations: str | None) -> tuple[list[int | str], list[AreaState]]:
        """Do the operations; None reads the area. Return the outcomes, and the areas read."""
        each = [(one,) if one is not None else self.state for one in operations]
        answers = list(self.heap.run(*(word for group in each for word in group)))
        outcomes: list[int | str] = []
        areas = []
        for group in each:
            mine, answers = answers[: len(group)], answers[len(group) :]
            if group == self.state:
                areas.append(self._area(mine))
            else:
                outcomes.append(mine[0].outcome)
        return outcomes, areas

    def _area(self, answers: Sequence[Answer]) -> AreaState:
        paths = [operation.removeprefix("cat ") for operation in self.state]
        lines = [f"{path}:{one.text}" for path, one in zip(paths, answers, strict=True)]
        text = f"node:{self.name}\n{''.join(lines)}"
        return parse_areas(text)[self.name]

    def aligned_fit(self, pages: int) -> Run:
        """Where a buffer has to go: the first place that is aligned to the physical address."""
        found = self._aligned(pages)
        assert found, f"no room for {pages} pages"
        return found

    def has_room(self, pages: int) -> bool:
        """Whether there is such a place."""
        return self._aligned(pages) is not None

    def _aligned(self, pages: int) -> Run | None:
        align = min(1 << (pages - 1).bit_length(), self.natural)
        for run in self.before.runs("0"):
            first = -(-(self.before.base_pfn + run.first) // align) * align - self.before.base_pfn
            if first + pages <= run.end:
                return Run(first, pages)
        return None

    def bytes_left(self, size: int) -> int:
        """Return how many bytes are not zero in a buffer whose pages were dirty before.

        The pages are the same ones: first fit finds them again.
        """
        length = -(-size // PAGE) * PAGE
        outcomes, (dirtied, again) = self.run(
            f"alloc {size}", f"map 0 0 {length}", f"fill 0 {DIRT}", None, "unmap 0", "close 0",
            f"alloc {size}", None, f"map 1 0 {length}", "count 1 0",
        )  # fmt: skip
        assert again.bits == dirtied.bits
        left = outcomes[-1]
        assert isinstance(left, int)
        return left


def rig_of(shell: Shell, cell: Prepared, name: str) -> Rig:
    """The heap of an area, as it is now."""
    if cell.kernel.option("CONFIG_DMABUF_HEAPS_CMA") != "y":
        pytest.skip("this kernel has no CONFIG_DMABUF_HEAPS_CMA")
    if shell.run(f"[ -c '{DEVICES}/{name}' ]", timeout=30).status:
        pytest.skip("the default area's heap has another name: default_cma_region since 6.17")
    natural = 1 << int(cell.kernel.option("CONFIG_CMA_ALIGNMENT"))
    return Rig(Heap(shell, name), read_state(shell).areas[name], natural)


def require_dirt_to_stay(shell: Shell, cell: Prepared) -> None:
    """Skip where freed pages are cleared: a kernel that leaves a buffer dirty would not show."""
    words = shell.run("cat /proc/cmdline", timeout=30).output.split()
    for when in ("alloc", "free"):
        given = [word for word in words if word.startswith(f"init_on_{when}=")]
        option = f"CONFIG_INIT_ON_{when.upper()}_DEFAULT_ON"
        if given[-1:] == [f"init_on_{when}=1"] or (not given and cell.kernel.option(option) == "y"):
            pytest.skip(f"this kernel zeroes pages itself: boot it with init_on_{when}=0")
