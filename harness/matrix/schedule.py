"""What of a matrix starts next, within the host's limits and a budget of time. Pure.

`run.Matrix` asks it with real jobs, and `forecast` with imagined ones.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from harness.matrix.plan import Planned

# A cell starts only when so many times its expected seconds are left: hosts are sometimes busy.
_MARGIN = 1.25


@dataclass(frozen=True, slots=True)
class Limits:
    """So many cells at a time, which take so much memory of the host together (MiB)."""

    cells: int
    memory: int


class Schedule:
    """The cells that wait and run. One kernel is built at a time, beside cells that run already.

    `builds` has the seconds that the build of each `Planned.kernel` is expected to take.
    """

    def __init__(
        self, plan: Sequence[Planned], limits: Limits, builds: Mapping[str, float]
    ) -> None:
        self.waiting = list(plan)
        self.running: list[Planned] = []
        self.building: Planned | None = None
        self._limits = limits
        self._builds = builds
        self._ready: set[str] = set()

    def too_large(self) -> tuple[Planned, ...]:
        """Let go of the cells that this host has no memory for, and return them."""
        return self._drop([each for each in self.waiting if each.memory > self._limits.memory])

    def late(self, left: float) -> tuple[Planned, ...]:
        """Let go of the cells that would not end within `left` seconds, and return them."""
        late = [each for each in self.waiting if left <= 0 or self.needs(each) > left]
        return self._drop(late)

    def needs(self, planned: Planned) -> float:
        """Return the seconds that must be left for a cell to start, its kernel's build included."""
        build = 0.0 if self._is_ready(planned) else self._builds.get(planned.kernel, 0.0)
        return build + _MARGIN * (planned.seconds or 0.0)

    def next_build(self) -> Planned | None:
        """Return a cell whose kernel is to be built now, if there is one; it counts as begun."""
        if self.building is None:
            missing = (each for each in self.waiting if not self._is_ready(each))
            self.building = next(missing, None)
            return self.building
        return None

    def next_cell(self) -> Planned | None:
        """Return the first cell that may start now, if there is one; it counts as begun."""
        used = sum(each.memory for each in self.running)
        if len(self.running) >= self._limits.cells:
            return None
        for each in self.waiting:
            if self._is_ready(each) and used + each.memory <= self._limits.memory:
                self.waiting.remove(each)
                self.running.append(each)
                return each
        return None

    def built(self, *, well: bool) -> tuple[Planned, ...]:
        """End the build; when it did not end well, let go of the cells that waited for it."""
        assert self.building is not None
        kernel, self.building = self.building.kernel, None
        if well:
            self._ready.add(kernel)
            return ()
        return self._drop([each for each in self.waiting if each.kernel == kernel])

    def ended(self, planned: Planned) -> None:
        """Take note that a running cell has ended."""
        self.running.remove(planned)

    def _is_ready(self, planned: Planned) -> bool:
        return planned.kernel in self._ready

    def _drop(self, those: Sequence[Planned]) -> tuple[Planned, ...]:
        self.waiting = [each for each in self.waiting if each not in those]
        return tuple(those)


def forecast(
    plan: Sequence[Planned], limits: Limits, builds: Mapping[str, float], budget: float
) -> dict[str, float | None]:
    """Return when each cell is expected to start (seconds from the beginning), None: it will not.

    All takes exactly as long as expected.
    """
    schedule = Schedule(plan, limits, builds)
    starts: dict[str, float | None] = dict.fromkeys(each.name for each in schedule.too_large())
    ends: list[tuple[float, int, Planned | None]] = []
    clock, number = 0.0, count()  # the number decides between ends at one time
    while True:
        starts |= dict.fromkeys(each.name for each in schedule.late(budget - clock))
        if (build := schedule.next_build()) is not None:
            took = builds.get(build.kernel, 0.0)
            heapq.heappush(ends, (clock + took, next(number), None))
        while (cell := schedule.next_cell()) is not None:
            starts[cell.name] = clock
            heapq.heappush(ends, (clock + (cell.seconds or 0.0), next(number), cell))
        if not ends:
            return starts
        clock, _, ended = heapq.heappop(ends)
        if ended is None:
            schedule.built(well=True)
        else:
            schedule.ended(ended)
