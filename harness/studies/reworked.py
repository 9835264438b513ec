"""What an idle area costs those who allocate memory: nothing, to the instruction."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from pydantic import JsonValue

from harness.config import MIB, Area, Layout
from harness.guest.qemu import NS_PER_INSTRUCTION
from harness.results.study import Chart, Check, Claim, Row
from harness.studies.lab import Lab
from harness.studies.study import Finding, Study
from harness.studies.taking import PROGRAM, Taken, taken

_MEMORY = 512 * MIB
_END = 0x60000000  # of the memory
_SHARES = (0, 25, 50)  # % of memory that is an area
_SIZES = {"anonymous": (16, 64, 320), "shared": (16, 64)}
"""MiB that are taken; 320 are more than there are outside an area of half the memory."""
_FLAGS = {"anonymous": "", "shared": "--shared "}
_MOST = 0.02  # more instructions than that, as a share, are a price
_DONE = "all was taken"

_Runs = Mapping[int, Mapping[str, tuple[Taken, ...]]]
"""By share and kind; a run for each size."""


def measure(lab: Lab) -> Finding:
    """Take memory of several sizes on guests with no area, a small and a large one."""
    runs = {share: _run(lab, share) for share in _SHARES}
    return Finding(
        checks=tuple(_checks(runs)),
        rows=tuple(_rows(runs)),
        reason=(
            "A free page of an area lies on a free list as any other. All that the page allocator "
            "does for it is to compare two counters when it refills a CPU's list, to decide which "
            "list to take from: once for dozens of pages."
        ),
        drawings=tuple(_chart(runs, kind) for kind in _SIZES),
        raw={
            f"{share} %, {kind}": [dict[str, JsonValue](each.model_dump()) for each in found]
            for share, kinds in runs.items()
            for kind, found in kinds.items()
        },
    )


def _layout(share: int) -> Layout:
    size = _MEMORY * share // 100
    areas = (Area(name="idle", size=size, at=_END - size),) if size else ()
    return Layout(
        name=f"idle-{share}", description=f"{share} % idle area", cmdline="cma=0", area=areas
    )


def _run(lab: Lab, share: int) -> dict[str, tuple[Taken, ...]]:
    commands = [
        f"{PROGRAM} {_FLAGS[kind]}{size}M" for kind, sizes in _SIZES.items() for size in sizes
    ]
    program = "; ".join([*commands, f"echo {_DONE}"])
    console = lab.counted(program, rf"\n{_DONE}".encode(), _layout(share))
    found = iter(taken(console.decode("utf-8", "replace")))
    return {kind: tuple(islice(found, len(sizes))) for kind, sizes in _SIZES.items()}


def _each(run: Taken) -> float:
    """Return the instructions for each page."""
    return (run.took_ns or 0) / NS_PER_INSTRUCTION / run.pages


def _dearest(runs: _Runs, share: int, kind: str) -> float:
    """Return the greatest price of all sizes that were had, as a share of what there is without."""
    pairs = zip(runs[share][kind], runs[0][kind], strict=True)
    return max(_each(run) / _each(none) - 1 for run, none in pairs if not run.oom)


def _checks(runs: _Runs) -> list[Check]:
    all_runs = [run for kinds in runs.values() for found in kinds.values() for run in found]
    largest = [runs[share]["anonymous"][-1] for share in _SHARES[1:]]
    return [
        Check(
            what="whatever the area's share of memory, all that is asked for is had",
            seen=f"{sum(not run.oom for run in all_runs)} of {len(all_runs)} runs",
            held=not any(run.oom for run in all_runs),
        ),
        Check(
            what="pages of the idle area are given to whoever asks",
            seen=", ".join(f"{run.in_cma} of {run.pages}" for run in largest),
            held=all(run.in_cma for run in largest),
        ),
        *(
            Check(
                what=f"a page of {kind} memory costs the same with {share} % an idle area (2 %)",
                seen=f"{_dearest(runs, share, kind):+.2%} instructions at most",
                held=_dearest(runs, share, kind) <= _MOST,
            )
            for share in _SHARES[1:]
            for kind in _SIZES
        ),
    ]


def _rows(runs: _Runs) -> list[Row]:
    return [
        Row(
            what=f"instructions for a page of {kind} memory, {size} MiB of them, "
            f"{' / '.join(map(str, _SHARES))} % of memory an idle area",
            then="",
            now=" / ".join(_said(runs[share][kind][number]) for share in _SHARES),
        )
        for kind in _SIZES
        for number, size in enumerate(_SIZES[kind])
    ]


def _said(run: Taken) -> str:
    return "killed" if run.oom else f"{_each(run):.1f}"


def _chart(runs: _Runs, kind: str) -> Chart:
    had = [n for n in range(len(_SIZES[kind])) if not any(runs[s][kind][n].oom for s in _SHARES)]
    none = runs[0][kind]
    return Chart.bars(
        f"What a page of {kind} memory costs more where a part of memory is an idle area",
        "taken",
        "% of the instructions",
        (f"{_SIZES[kind][number]} MiB" for number in had),
        {
            f"{share} % is an area": (
                100 * (_each(runs[share][kind][n]) / _each(none[n]) - 1) for n in had
            )
            for share in _SHARES[1:]
        },
    )


STUDY = Study(
    name="reworked",
    title="Whoever allocates memory does not pay for an idle area",
    claim=Claim(
        text="Instead of memory that is set aside for drivers, and lost when they do not use it, "
        "the reworked allocator marks pageblocks (MIGRATE_CMA), out of which the page allocator "
        "serves movable allocations: idle, it costs nothing.",
        source="Marek Szyprowski and Michał Nazarewicz, the Contiguous Memory Allocator as it was "
        "reworked in 2011; 47118af076f6 (mm: mmzone: MIGRATE_CMA migration type added, 3.5)",
        figure="",
    ),
    setup="Guests of 512 MiB of which 0, 25 and 50 % are an area that no driver uses; their clock "
    "counts instructions. mem-take touches 16 to 320 MiB page by page, of anonymous and of shared "
    "memory, and tells how many of the pages lie in the area.",
    today="Still so: what differs is under one percent, and goes both ways. The rule has changed "
    "once: since 5.8 (16867664936e) pages of an area are taken first as long as they are more than "
    "half of what is free, and not only when nothing else is left.",
    measure=measure,
    without="reworked.toml",
)
