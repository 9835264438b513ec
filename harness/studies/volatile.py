"""Volatile ranges: memory that a process can do without was never merged, its heirs are here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pydantic import JsonValue

from harness.cma import counters, vmstat
from harness.cma.answers import ProgramError
from harness.cma.areas import PAGE
from harness.cma.counters import Area, Run
from harness.cma.helper import Helper
from harness.cma.occupy import Fates, Occupant, occupied
from harness.config import MIB
from harness.guest.guest import Guest
from harness.results.study import Chart, Check, Claim, Map, Row, Strip
from harness.studies.device import loaded, take_ranges
from harness.studies.lab import Lab
from harness.studies.study import Finding, Study
from harness.studies.zram import swap_space

_AREA = "linux,cma"
_HELD = 32 * MIB
_PAGED_OUT = 8 * MIB
_RANGE = 4 * MIB
_KNOWN = range(6)  # POSIX_FADV_NORMAL to POSIX_FADV_NOREUSE
_ASKED = range(32)
_VOLATILE = 8  # the first advice that was free
_KINDS = {
    "anon": "not volatile",
    "lazyfree": "after MADV_FREE",
    "half": "every other written to again",
}
_FATES = {
    "zero": "discarded: reads as zeroes",
    "moved": "migrated with its content",
    "kept": "left where it was",
    "back": "read back",
    "lost": "lost",
}


@dataclass(frozen=True, slots=True)
class _Try:
    """What became of a kind's pages when all ranges of the area were allocated over them.

    `taken` are the addresses of the ranges, `grown` by how much the counters of vmstat grew.
    """

    kind: str
    fates: Fates
    taken: frozenset[int]
    grown: Mapping[str, int]

    def inside(self, fate: str) -> int:
        """How many of the pages in ranges that were taken have this fate."""
        return sum(self._taken_of(run) for run in self._runs(fate))

    def outside(self, fate: str) -> int:
        """How many of the others."""
        return sum(count for _, count in self._runs(fate)) - self.inside(fate)

    @property
    def pages(self) -> int:
        """How many pages lay in ranges that were taken."""
        return sum(self.inside(fate) for fate in _FATES)

    def _runs(self, fate: str) -> tuple[Run, ...]:
        return dict(self.fates.by_name())[fate]

    def _taken_of(self, run: Run) -> int:
        frames = range(run[0], sum(run))
        return sum(frame * PAGE // _RANGE * _RANGE in self.taken for frame in frames)


@dataclass(frozen=True, slots=True)
class _PagedOut:
    pages: int
    absent: int
    intact: bool


def measure(lab: Lab) -> Finding:
    """Ask for the advice that never came; then allocate over what MADV_FREE makes volatile."""
    with lab.boot() as guest, loaded(guest) as helper:
        area = counters.take(guest).area(_AREA)
        errnos = _advices(guest)
        tries = {kind: _attempt(guest, helper, kind) for kind in _KINDS}
        ashmem = _attempt(guest, helper, "ashmem", purge=True) if _has_ashmem(lab) else None
        with swap_space(guest):
            paged_out = _page_out(guest)
    shown = [*tries.values(), *([ashmem] if ashmem else [])]
    lazy = tries["lazyfree"]
    return Finding(
        checks=(
            *_advice_checks(errnos),
            *_checks(tries),
            *_paged_out_checks(paged_out),
            *(_ashmem_checks(ashmem) if ashmem else ()),
        ),
        rows=(
            Row(
                what=f"posix_fadvise() with advice {_VOLATILE}",
                then="POSIX_FADV_VOLATILE, proposed",
                now=errnos[_VOLATILE] or "done",
            ),
            Row(
                what="volatile pages that an allocation discarded, of those in its way",
                then="all, was the plan",
                now=f"{lazy.inside('zero')} of {lazy.pages} (MADV_FREE)",
            ),
            Row(
                what="of them migrated",
                then="none",
                now=str(lazy.inside("moved")),
            ),
            Row(
                what="pages that were not volatile: migrated",
                then="all",
                now=f"{tries['anon'].inside('moved')} of {tries['anon'].pages}",
            ),
            Row(
                what="MADV_PAGEOUT: pages gone at once, contents back when read",
                then="",
                now=f"{paged_out.absent} of {paged_out.pages}",
            ),
            Row(
                what="ashmem (ASHMEM_UNPIN): migrated by the allocation, zero after a shrink",
                then="Android's, in staging",
                now=_ashmem_figure(ashmem),
            ),
        ),
        reason=(
            "MADV_FREE cleans the pages' table entries and puts them on the list of file pages "
            "(PG_swapbacked off), so that reclaim_clean_pages_from_list(), which an allocation "
            "calls on what it isolated, takes them for clean cache and drops them; a write "
            "dirties the entry again, and the page is migrated like any other."
        ),
        drawings=(_map(shown, area), _chart(shown)),
        raw={
            "advices": list[JsonValue](errnos),
            "paged out": asdict(paged_out),
            **{each.kind: _raw(each) for each in shown},
        },
    )


def _raw(each: _Try) -> JsonValue:
    return {
        "fates": each.fates.model_dump(mode="json"),
        "ranges": list[JsonValue](sorted(each.taken)),
        "vmstat": {name: grown for name, grown in each.grown.items() if grown},
    }


def _advices(guest: Guest) -> tuple[str, ...]:
    """Return what posix_fadvise() answers to each advice on a memory file; "" is done."""
    with occupied(guest.console, "memfd", _AREA, _RANGE) as occupant:
        return tuple(_errno(occupant, advice) for advice in _ASKED)


def _errno(occupant: Occupant, advice: int) -> str:
    try:
        occupant.advise(advice)
    except ProgramError as refused:
        return refused.errno_name
    return ""


def _attempt(guest: Guest, helper: Helper, kind: str, *, purge: bool = False) -> _Try:
    with occupied(guest.console, kind, _AREA, _HELD) as occupant:
        before = vmstat.read(guest)
        taken = take_ranges(guest, helper, _RANGE)
        grown = vmstat.growth(before, vmstat.read(guest))
        if purge:  # its shrinker is that of a slab
            guest.run("echo 2 >/proc/sys/vm/drop_caches").checked("shrinking")
        return _Try(kind, occupant.fates(), taken, grown)


def _page_out(guest: Guest) -> _PagedOut:
    with occupied(guest.console, "swapped", _AREA, _PAGED_OUT) as occupant:
        after = occupant.check()
        return _PagedOut(after.pages, occupant.held.absent, after.intact)


def _has_ashmem(lab: Lab) -> bool:
    return lab.option("CONFIG_ASHMEM") == "y"


def _advice_checks(errnos: tuple[str, ...]) -> tuple[Check, ...]:
    known = [advice for advice in _ASKED if not errnos[advice]]
    other = sorted({errno for errno in errnos if errno})
    return (
        Check(
            what="posix_fadvise() knows the six advices of POSIX, and no other",
            seen=f"{', '.join(map(str, known))}; {', '.join(other)} for the others up to "
            f"{_ASKED[-1]}",
            held=known == list(_KNOWN) and other == ["EINVAL"],
        ),
    )


def _checks(tries: Mapping[str, _Try]) -> tuple[Check, ...]:
    plain, lazy, half = (tries[kind] for kind in _KINDS)
    least = _HELD // PAGE // 2
    return (
        Check(
            what="most of the memory lies where the allocation wants to be",
            seen=", ".join(f"{each.pages} pages" for each in tries.values()),
            held=all(each.pages >= least for each in tries.values()),
        ),
        Check(
            what="memory that is not volatile is migrated with its content",
            seen=f"{plain.inside('moved')} of {plain.pages}, {_discards(plain)} discarded",
            held=plain.inside("moved") == plain.pages and not _discards(plain),
        ),
        Check(
            what="volatile memory is discarded",
            seen=f"{lazy.inside('zero')} of {lazy.pages} read as zeroes",
            held=lazy.inside("zero") == lazy.pages,
        ),
        Check(
            what="none of it is migrated",
            seen=str(lazy.inside("moved")),
            held=not lazy.inside("moved"),
        ),
        Check(
            what="the kernel counts as many pages (pglazyfreed)",
            seen="; ".join(f"{_discards(e)} for {e.inside('zero')}" for e in (lazy, half)),
            held=all(_discards(e) == e.inside("zero") > 0 for e in (lazy, half)),
        ),
        Check(
            what="what was written to again is migrated, the rest discarded, and nothing lost",
            seen=f"{half.inside('moved')} and {half.inside('zero')} of {half.pages}",
            held=half.inside("moved") + half.inside("zero") == half.pages
            and half.inside("moved") > half.pages // 4,
        ),
        Check(
            what="volatile memory elsewhere stays",
            seen=f"{lazy.outside('kept')} pages, {lazy.outside('zero')} discarded",
            held=not lazy.outside("zero") and not half.outside("zero"),
        ),
    )


def _discards(each: _Try) -> int:
    return each.grown["pglazyfreed"]


def _paged_out_checks(found: _PagedOut) -> tuple[Check, ...]:
    return (
        Check(
            what="MADV_PAGEOUT frees memory at once, and loses nothing",
            seen=f"{found.absent} of {found.pages} went, "
            f"{'all' if found.intact else 'not all'} came back",
            held=found.absent == found.pages and found.intact,
        ),
    )


def _ashmem_checks(found: _Try) -> tuple[Check, ...]:
    pages = sum(found.fates.counts().values())
    return (
        Check(
            what="unpinned ashmem is migrated by the allocation: only its shrinker discards it",
            seen=f"{found.grown['pgmigrate_success']} migrated for {found.pages}; "
            f"{found.fates.counts()['zero']} of {pages} zero after that",
            held=found.grown["pgmigrate_success"] >= found.pages
            and found.fates.counts()["zero"] == pages,
        ),
    )


def _ashmem_figure(found: _Try | None) -> str:
    if found is None:
        return "gone since 5.18 (721412ed3d81), or not built in"
    return f"{found.grown['pgmigrate_success']}, {found.fates.counts()['zero']}"


def _map(tries: list[_Try], area: Area) -> Map:
    strips = []
    for each in tries:
        runs = tuple(
            (first - area.base_pfn, count, _FATES[fate])
            for fate, found in each.fates.by_name()
            for first, count in found
        )
        label = _KINDS.get(each.kind, "ashmem, unpinned")
        strips.append(Strip(label=label, pages=area.count, runs=runs))
    return Map(title="What became of each page, where it was before", strips=tuple(strips))


def _chart(tries: list[_Try]) -> Chart:
    curves = {
        "discarded (pglazyfreed)": "pglazyfreed",
        "migrated (pgmigrate_success)": "pgmigrate_success",
    }
    return Chart.bars(
        "What the kernel counts during the allocation",
        "pages in its way",
        "pages",
        (_KINDS.get(each.kind, "ashmem") for each in tries),
        {label: [each.grown[name] for each in tries] for label, name in curves.items()},
    )


STUDY = Study(
    name="volatile",
    title="Volatile memory is discarded instead of being moved",
    claim=Claim(
        text="A process should be able to mark memory that it can make anew as volatile "
        "(POSIX_FADV_VOLATILE): when the kernel needs memory it throws those pages away, without "
        "writing or copying them, and the process is told when it takes them back.",
        source="John Stultz, [PATCH] fadvise: Add _VOLATILE,_ISVOLATILE, and _NONVOLATILE flags, "
        'November 2011, and "Volatile Ranges (v14)", April 2014 (LWN 596770); J. Corbet, '
        '"POSIX_FADV_VOLATILE", LWN 468896, November 2011',
        figure="",
    ),
    setup="Each advice from 0 to 31 is given to posix_fadvise() on a memory file. Then 32 MiB of "
    "anonymous memory are brought into an area of 64 MiB: as they are, after MADV_FREE, and after "
    "MADV_FREE with every other page written to again. Each time all ranges of 4 MiB of the area "
    "are allocated, and then each page is looked up and read. 8 MiB more are paged out with "
    "MADV_PAGEOUT into zram, and ashmem is unpinned where there is one.",
    today="Never merged: not as posix_fadvise(), nor as fallocate(), madvise() or a system call of "
    "its own. What came of it is MADV_FREE (854e9ed09ded, 4.5): private anonymous memory alone, "
    "and a process learns that pages went by reading zeroes. A contiguous allocation discards "
    "them as it does clean cache. MADV_PAGEOUT (1a4e58cce84e, 5.4) keeps the contents. Android's "
    "ashmem, which it was to replace, left with 5.18 (721412ed3d81).",
    measure=measure,
    without="volatile.toml",
    variant="study",
)
