"""Pages that get_user_pages() holds cannot move: one of them in a range defeats an allocation."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from harness.cma import counters, owner
from harness.cma.answers import ProgramError
from harness.cma.areas import PAGE
from harness.cma.counters import Area
from harness.cma.helper import Helper
from harness.cma.occupy import Occupant, occupied
from harness.cma.owner import Owner
from harness.config import MIB
from harness.guest.guest import Guest
from harness.results.study import Chart, Check, Claim, Curve, Map, Row, Strip
from harness.studies.device import loaded, take_ranges
from harness.studies.lab import Lab
from harness.studies.study import Finding, Study

_AREA = "linux,cma"
_HELD = 56 * MIB
_WANTED = 48 * MIB
_RANGE = 4 * MIB
_NO_NAMES = "movable; whose is told since 5.11 (9cc7e96aa846)"
_BETWEEN = (0, 32, 16, 8, 4)  # MiB from one pinned page to the next; 0: none is pinned


@dataclass(frozen=True, slots=True)
class _Try:
    """What was to be had with so many pages pinned; `errno` is "" when the large buffer was."""

    frames: tuple[int, ...]
    owners: tuple[Owner, ...]
    errno: str
    ranges: frozenset[int]  # addresses of the buffers of 4 MiB that were to be had
    intact: bool
    errno_after: str  # of the large buffer, when nothing was pinned any more

    @property
    def pinned(self) -> frozenset[int]:
        """The addresses of the ranges that have a pinned page."""
        return frozenset(frame * PAGE // _RANGE * _RANGE for frame in self.frames)


def measure(lab: Lab) -> Finding:
    """Pin fewer and more pages of a filled area, and ask for most of it each time."""
    with lab.boot(append="page_owner=on") as guest, loaded(guest) as helper:
        area = counters.take(guest).area(_AREA)
        tries = tuple(_attempt(guest, helper, between) for between in _BETWEEN)
    free, worst = tries[0], tries[-1]
    return Finding(
        checks=tuple(_checks(tries)),
        rows=(
            Row(
                what="an allocation of most of the area, pages pinned",
                then="fails",
                now=worst.errno,
            ),
            Row(what="memory that was pinned for that", then="", now=_kib(worst)),
            Row(what="the same with nothing pinned", then="succeeds", now=free.errno or "succeeds"),
        ),
        reason=(
            "A page that somebody else has a reference to cannot be migrated: "
            "migrate_folio_move_mapping() expects exactly the references it knows of. The range it "
            "is in answers EBUSY, and cma_alloc() goes on behind it until no range is left. Only "
            "long-term pins (FOLL_LONGTERM) move out of CMA first, since 5.1 (9a4e9f3b2d73)."
        ),
        drawings=(_chart(tries), _map(tries, area)),
        raw={
            str(len(each.frames)): {
                "frames": list[JsonValue](each.frames),
                "errno": each.errno,
                "ranges": list[JsonValue](sorted(each.ranges)),
            }
            for each in tries
        },
    )


def _attempt(guest: Guest, helper: Helper, between: int) -> _Try:
    with occupied(guest.console, "anon", _AREA, _HELD) as occupant:
        frames = occupant.pin(every=between * MIB) if between else ()
        owners = owner.of(guest, frames)
        errno = _errno(helper)
        ranges = take_ranges(guest, helper, _RANGE)
        intact = occupant.check().intact
        _unpin(occupant, frames)
        return _Try(frames, owners, errno, ranges, intact, _errno(helper))


def _unpin(occupant: Occupant, frames: tuple[int, ...]) -> None:
    if frames:
        occupant.unpin()


def _errno(helper: Helper) -> str:
    """Ask for the large buffer and give it back; return what the device answered."""
    try:
        buffer = helper.alloc(_WANTED, attrs=("no-warn",))
    except ProgramError as refused:
        return refused.errno_name
    helper.free(buffer.handle)
    return ""


def _checks(tries: tuple[_Try, ...]) -> list[Check]:
    free, *pinned = tries
    worst = pinned[-1]
    owners = sorted({_whose(who) for each in pinned for who in each.owners})
    return [
        Check(
            what=f"{_WANTED // MIB} MiB are to be had while no page is pinned",
            seen=free.errno or "had",
            held=not free.errno,
        ),
        Check(
            what="the pages that were pinned lie in the area",
            seen=f"{', '.join(str(len(each.frames)) for each in pinned)} of them",
            held=all(each.frames for each in pinned),
        ),
        Check(
            what=f"a page in each {_RANGE // MIB} MiB defeats the allocation",
            seen=f"{worst.errno or 'had'} with {_kib(worst)} pinned",
            held=worst.errno == "ENOSPC",
        ),
        Check(
            what="a pinned page takes the range around it, and nothing else",
            seen="; ".join(
                f"{len(e.ranges)} of {len(free.ranges)} are left of {len(e.frames)} pins"
                for e in pinned
            ),
            held=all(each.ranges == free.ranges - each.pinned for each in pinned),
        ),
        Check(
            what="the kernel tells whose the pages are (page_owner)",
            seen=", ".join(owners),
            held=len(owners) == 1 and owners[0] in ("cma-occupy", _NO_NAMES),
        ),
        Check(
            what="released, they give way to the same allocation, with their contents",
            seen=", ".join(each.errno_after or "had" for each in tries),
            held=all(each.intact and not each.errno_after for each in tries),
        ),
    ]


def _whose(owner: Owner) -> str:
    if owner.pid:
        return owner.comm or "of a process that has ended"
    return _NO_NAMES if owner.migratetype == "Movable" else "nobody's"


def _kib(found: _Try) -> str:
    return f"{len(found.frames) * PAGE >> 10} KiB"


def _chart(tries: tuple[_Try, ...]) -> Chart:
    pins = tuple(float(len(each.frames)) for each in tries)
    ranges = tuple(float(len(each.ranges)) for each in tries)
    return Chart(
        kind="lines",
        title="What is left of the area",
        x="pinned pages",
        y="buffers of 4 MiB to be had",
        curves=(Curve(label="buffers", x=pins, y=ranges),),
    )


def _map(tries: tuple[_Try, ...], area: Area) -> Map:
    span = _RANGE // PAGE
    strips = []
    for each in tries:
        blocks = sorted(each.pinned)
        runs = tuple((at // PAGE - area.base_pfn, span, "defeated by its page") for at in blocks)
        pins = tuple(
            (frame - area.base_pfn, 32, "pinned page (drawn wide)") for frame in each.frames
        )
        label = f"{len(each.frames)} pinned"
        strips.append(Strip(label=label, pages=area.count, runs=(*runs, *pins)))
    return Map(title="Pinned pages, and the ranges that they take from CMA", strips=tuple(strips))


STUDY = Study(
    name="pins",
    title="A page that get_user_pages() holds defeats an allocation",
    claim=Claim(
        text="CMA promises that the pages of its area can be moved away. A page that a driver or a "
        "process has pinned with get_user_pages() cannot: a single one of them makes the "
        "allocation of the range that it lies in fail.",
        source="LinuxCon Europe 2012, on CMA and pinned pages; get_user_pages() in mm/gup.c",
        figure="",
    ),
    setup="56 MiB of anonymous memory are brought into an area of 64 MiB. vmsplice() puts some of "
    "its pages into a pipe that nobody reads, which holds a reference to each (FOLL_GET): none, "
    "then one in each 32, 16, 8 and 4 MiB. Each time 48 MiB are asked for, and buffers of 4 MiB "
    "until there is none. page_owner tells whose the pages are.",
    today="Still so on every kernel. What has changed are long-term pins: since 5.1 "
    "(9a4e9f3b2d73) FOLL_LONGTERM moves a page out of CMA before it is pinned, and drivers were "
    "converted to pin_user_pages(). A short-term pin holds its page where it is, as in 2012.",
    measure=measure,
    without="pins.toml",
)
