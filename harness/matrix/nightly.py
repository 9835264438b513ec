"""What configs/nightly.toml asks for, as the wishes of a matrix. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config import Nightly, Part, require_known
from harness.matrix import plan
from harness.results.plan import PlanRecord, Wish

_MINUTE = 60.0


def wanted(nightly: Nightly, parts: Sequence[str], budget: float | None) -> PlanRecord:
    """Return the plan of those parts, or of all; `budget` (minutes) is instead of the file's.

    Raises `UsageError` for a part that there is not.
    """
    require_known("part", parts, [part.name for part in nightly.part])
    chosen = [part for part in nightly.part if not parts or part.name in parts]
    return PlanRecord(
        wishes=_distinct(sorted(chosen, key=lambda part: -part.worth)),
        budget=(budget or nightly.budget) * _MINUTE,
        build_seconds=nightly.build * _MINUTE,
        parts=tuple(parts),
    )


def _distinct(parts: Sequence[Part]) -> tuple[Wish, ...]:
    """Return the parts' cells; of one that an earlier part has, only the repetitions."""
    found: list[Wish] = []
    known: set[tuple[object, ...]] = set()
    for part in parts:
        again = part.times > 1
        mine = [wish for wish in _wishes(part) if again or _what(wish) not in known]
        known.update(map(_what, mine))
        found.extend(wish for wish in mine for _ in range(part.times))
    return tuple(found)


def _what(wish: Wish) -> tuple[object, ...]:
    return wish.kernel, wish.variant, wish.board, wish.layout, wish.lane, wish.arguments


def _wishes(part: Part) -> tuple[Wish, ...]:
    return plan.wishes(
        part.kernels,
        (part.variant,),
        part.boards,
        part.layouts,
        lane=part.lane,
        arguments=(*part.options, *part.paths),
        part=part.name,
        worth=part.worth,
        seconds=part.minutes * _MINUTE,
    )
