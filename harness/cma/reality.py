"""Whether the running kernel has the areas that its layout asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from harness.cma.areas import LiveArea, Survey
from harness.config import MIB, Area, Layout
from harness.layout.cmdline import DEFAULT_NAME, CmaParameter, areas_of, cma

_LARGEST_BLOCK = 4 * MIB  # of any 32-bit ARM kernel; a smaller difference is rounding


def differences(layout: Layout, survey: Survey, append: str = "") -> tuple[str, ...]:
    """Return what the kernel has otherwise than the layout says; empty when it was honoured.

    `append` is what followed the layout's own words on the kernel's command line.
    """
    return tuple(_differences(layout, survey, append))


def _differences(layout: Layout, survey: Survey, append: str) -> Iterator[str]:
    asked = cma(f"{layout.cmdline} {append}")
    live = {area.name: area for area in survey.areas}
    for area in layout.area:
        if area.node not in live:
            yield f"area {area.node!r} is missing"
        else:
            yield from _wrong_area(area, live[area.node])
    if asked is not None and asked.size:
        yield from _wrong_default(asked, live.get(DEFAULT_NAME))
    for name in live.keys() - set(areas_of(layout, append)):
        extra = live[name]
        yield f"area {name!r} ({extra.size / MIB:g} MiB at {extra.base:#x}) is not in the layout"
    for low, high in pairwise(survey.areas):
        if low.end > high.base:
            yield f"areas {low.name!r} and {high.name!r} overlap at {high.base:#x}"
    yield from _wrong_total(survey)


def _wrong_default(asked: CmaParameter, live: LiveArea | None) -> Iterator[str]:
    """Compare the area that `cma=` asks for, whose size the kernel rounds up to a pageblock."""
    if live is None:
        yield f"area {DEFAULT_NAME!r}, which 'cma=' asks for, is missing"
        return
    if not asked.size <= live.size < asked.size + _LARGEST_BLOCK:
        yield (
            f"area {live.name!r} is {live.size / MIB:g} MiB, 'cma=' asks for {asked.size / MIB:g}"
        )
    if asked.fixed:
        if live.base != asked.base:
            yield f"area {live.name!r} is at {live.base:#x}, 'cma=' asks for {asked.base:#x}"
    elif asked.limit and not asked.base <= live.base <= live.end <= asked.limit:
        yield (
            f"area {live.name!r} ({live.base:#x}-{live.end:#x}) is not inside "
            f"{asked.base:#x}-{asked.limit:#x}"
        )


def _wrong_area(area: Area, live: LiveArea) -> Iterator[str]:
    if live.size != area.size:
        yield (
            f"area {area.node!r} is {live.size / MIB:g} MiB, the layout says {area.size / MIB:g}"
        )
    if area.at is not None and live.base != area.at:
        yield f"area {area.node!r} is at {live.base:#x}, the layout says {area.at:#x}"
    if area.within is not None and not area.within[0] <= live.base <= live.end <= area.within[1]:
        yield (
            f"area {area.node!r} ({live.base:#x}-{live.end:#x}) is not inside "
            f"{area.within[0]:#x}-{area.within[1]:#x}"
        )
    if area.alignment and live.base % area.alignment:
        yield f"area {area.node!r} at {live.base:#x} is not aligned to {area.alignment:#x}"


def _wrong_total(survey: Survey) -> Iterator[str]:
    total = survey.meminfo.get("CmaTotal")
    counted = sum(area.size for area in survey.areas)
    if total is None:
        yield "/proc/meminfo has no CmaTotal: the kernel was built without CONFIG_CMA"
    elif total != counted:
        yield f"CmaTotal is {total / MIB:g} MiB, the areas together have {counted / MIB:g}"
