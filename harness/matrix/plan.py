"""The plan of a matrix: its cells in the order in which they are to run. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from harness.cell import Cell, obstacle
from harness.config import MIB
from harness.results.plan import Wish
from harness.results.record import RunRecord

# What a cell takes of the host beside its guest's memory, in MiB: the Python process that drives it
# (90 were seen), QEMU itself, and the code that it translates.
OVERHEAD = 384


@dataclass(frozen=True, slots=True)
class Planned:
    """A cell of the plan: `seconds` is what it is expected to take; with `obstacle` it cannot be.

    `name` is its own in the run, and that of its folder there.
    """

    name: str
    wish: Wish
    cell: Cell
    seconds: float | None = None
    obstacle: str | None = None

    @property
    def memory(self) -> int:
        """What it takes of the host's memory, in MiB, if its guest touches all of its own.

        A guest that a test boots beside that one is not counted: few touch half of their memory.
        """
        return self.cell.board.memory // MIB + OVERHEAD

    @property
    def kernel(self) -> str:
        """What tells the kernel that it needs from others: cells that share it wait for one build.

        Whatever shapes a kernel is a field of `Kernel`.
        """
        return self.cell.kernel.model_dump_json()

    def facts(self) -> dict[str, Any]:
        """Return what a person or a script is told of it."""
        return {
            "name": self.name,
            **self.wish.model_dump(exclude={"seconds"}),
            "memory_mib": self.memory,
            "seconds": self.seconds,
            "obstacle": self.obstacle,
        }


def wishes(
    kernels: Iterable[str],
    variants: Iterable[str],
    boards: Iterable[str],
    layouts: Iterable[str],
    **shared: Any,
) -> tuple[Wish, ...]:
    """Return every combination of those names; `shared` are the wishes' other fields."""
    return tuple(
        Wish(kernel=kernel, variant=variant, board=board, layout=layout, **shared)
        for kernel, variant, board, layout in product(kernels, variants, boards, layouts)
    )


def plan(wanted: Sequence[tuple[Wish, Cell]], earlier: RunRecord | None) -> tuple[Planned, ...]:
    """Return the cells, the most worth first, with the times that an earlier record knows."""
    known = times(earlier) if earlier else {}
    planned = [
        Planned(
            name=name,
            wish=wish,
            cell=cell,
            seconds=known.get((name, wish.arguments), wish.seconds),
            obstacle=obstacle(cell),
        )
        for name, (wish, cell) in zip(_names(wanted), wanted, strict=True)
    ]
    return tuple(sorted(planned, key=lambda each: -each.wish.worth))


def times(earlier: RunRecord) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the seconds that each finished cell of a matrix took, by its name and arguments."""
    return {
        (cell.name, cell.arguments): cell.seconds
        for cell in earlier.cells
        if cell.seconds is not None
    }


def _names(wanted: Sequence[tuple[Wish, Cell]]) -> list[str]:
    """Name each by its part and cell; the second of a name is NAME.2."""
    seen: Counter[str] = Counter()
    names = []
    for wish, cell in wanted:
        name = f"{wish.part}.{cell.name}" if wish.part else cell.name
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return names
