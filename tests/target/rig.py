"""A dma-buf heap and its area, in one hand: operations, and where a buffer has to go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from state import AreaState, Run, parse_areas, read_state

from harness.cma.areas import DEBUGFS, SYSFS
from harness.cma.heap import Answer, Heap
from harness.cma.shell import Shell

FILES = ("base_pfn", "count", "order_per_bit", "used", "maxchunk", "bitmap")
COUNTERS = ("alloc_pages_success", "alloc_pages_fail", "release_pages_success")


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
            *(f"cat {DEBUGFS}/{self.name}/{file}" for file in FILES),
            *(f"cat {SYSFS}/{self.name}/{file}" for file in COUNTERS),
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
        text = "".join(f"{path}:{one.text}" for path, one in zip(paths, answers, strict=True))
        return parse_areas(text)[self.name]

    def aligned_fit(self, pages: int) -> Run:
        """Where a buffer has to go: the first place that is aligned to the physical address."""
        align = min(1 << (pages - 1).bit_length(), self.natural)
        for run in self.before.runs("0"):
            first = -(-(self.before.base_pfn + run.first) // align) * align - self.before.base_pfn
            if first + pages <= run.end:
                return Run(first, pages)
        raise AssertionError(f"no room for {pages} pages")


def rig_of(shell: Shell, name: str, natural: int) -> Rig:
    """The heap of an area, as it is now."""
    return Rig(Heap(shell, name), read_state(shell).areas[name], natural)
