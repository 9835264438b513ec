"""Whether the running kernel has the areas that its layout asked for. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from harness.cma.areas import LiveArea, Survey
from harness.config import MIB, Area, Layout


def differences(layout: Layout, survey: Survey) -> tuple[str, ...]:
    """Return what the kernel has otherwise than the layout says; empty when it was honoured."""
    return tuple(_differences(layout, survey))


def _differences(layout: Layout, survey: Survey) -> Iterator[str]:
    live = {area.name: area for area in survey.areas}
    for area in layout.area:
        if area.node not in live:
            yield f"area {area.node!r} is missing"
        else:
            yield from _wrong_area(area, live[area.node])
    wanted = Counter(area.node for area in layout.area)
    for name in live.keys() - wanted.keys():
        extra = live[name]
        yield f"area {name!r} ({extra.size / MIB:g} MiB at {extra.base:#x}) is not in the layout"
    for low, high in pairwise(survey.areas):
        if low.end > high.base:
            yield f"areas {low.name!r} and {high.name!r} overlap at {high.base:#x}"
    yield from _wrong_total(survey)


def _wrong_area(area: Area, live: LiveArea) -> Iterator[str]:
    if live.size != area.size:
        yield (
            f"area {area.node!r} is {live.size / MIB:g} MiB, the layout says {area.size / MIB:g}"
        )
    if area.at is not None and live.base != area.at:
        yield f"area {area.node!r} is at {live.base:#x}, the layout says {area.at:#x}"
    if area.alignment and live.base % area.alignment:
        yield f"area {area.node!r} at {live.base:#x} is not aligned to {area.alignment:#x}"


def _wrong_total(survey: Survey) -> Iterator[str]:
    total = survey.meminfo.get("CmaTotal")
    counted = sum(area.size for area in survey.areas)
    if total is None:
        yield "/proc/meminfo has no CmaTotal: the kernel was built without CONFIG_CMA"
    elif total != counted:
        yield f"CmaTotal is {total / MIB:g} MiB, the areas together have {counted / MIB:g}"
