"""Runs of the same tests on two kernels, in turns, each with a record of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import HostError
from harness.invocation import OUTPUT, invoke
from harness.progress import Progress
from harness.results.record import RunRecord
from harness.verdict import Verdict

_RAN = frozenset(Verdict) - {Verdict.LOST, Verdict.ERROR, Verdict.SKIP}


def take_turns(
    sides: Mapping[str, Sequence[str]],
    arguments: Sequence[str],
    directory: Path,
    repeat: int,
    progress: Progress,
) -> dict[str, tuple[RunRecord, ...]]:
    """Run `cma-harness test` so often for each side; `sides` are the options of each.

    The records are in `directory`/SIDE-NUMBER. Raises what the command failed with when it did not
    come as far as a record.
    """
    found: dict[str, list[RunRecord]] = {side: [] for side in sides}
    for number in range(1, repeat + 1):
        for side, options in sides.items():
            place = (directory / f"{side}-{number}").absolute()
            with progress.phase(side, f"run {number} of {repeat}") as phase:
                found[side].append(_run([*options, *arguments], place))
                phase.note(f"run {number} of {repeat}")
    return {side: tuple(runs) for side, runs in found.items()}


def _run(words: Sequence[str], place: Path) -> RunRecord:
    found = invoke(words, place)
    if not any(case.verdict in _RAN for case in found.cases()):
        raise HostError("no case ran", where=str(place), next_step=f"see {place / OUTPUT}")
    return found
