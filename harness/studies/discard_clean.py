"""Clean page cache in the way of an allocation is dropped, which is cheaper than moving it."""

from __future__ import annotations

from pydantic import JsonValue

from harness.cma.areas import PAGE
from harness.config import MIB, Area, Layout
from harness.errors import GuestError
from harness.results.study import Chart, Check, Claim, Row
from harness.studies.costs import DONE, Figures, read
from harness.studies.lab import Lab
from harness.studies.study import Finding, Study

_AREA = "linux,cma"
_SIZE = "10M"
_PAGES = 10 * MIB // PAGE
_ENOUGH = _PAGES // 8  # of them must have been in use, for a cost of each to mean something
_KINDS = ("nothing", "clean", "clean-mlock", "anon")
_LAYOUT = Layout(
    name="discard-clean",
    description="One area of 40 MiB, as in 2012",
    area=(Area(name=_AREA, size=40 * MIB, default=True),),
)
_NOW = "as it is"
_UNDONE = "02c6de8d757c undone"
_PATCH = "discard-clean.patch"
_PARTS = {
    "contig": "all of it",
    "isolate": "isolate_migratepages_range()",
    "discard": "reclaim_clean_pages_from_list()",
    "migrate": "migrate_pages()",
}

_Counted = dict[str, Figures]
"""By what filled the area."""


def measure(lab: Lab) -> Finding:
    """Count an allocation among pages of each kind, here and with the discarding undone."""
    here = _count(lab)
    undone = _count(lab.changed(_UNDONE, [_PATCH])) if here["clean"]["discarded"] else here
    found = {_NOW: here, _UNDONE: undone}
    return Finding(
        checks=tuple(_checks(here, undone)),
        rows=tuple(_rows(here, undone)),
        reason=(
            "reclaim_clean_pages_from_list() takes clean pages of files out of the list that would "
            "be migrated, and frees them: no page is looked for, none is copied. To isolate each "
            "page and to take it out of its file is left to both ways. The ratio of 2012 is one of "
            "times, and the commit says that finding free pages, which may mean reclaim, is part "
            "of what is saved; this one is of instructions, with pages to spare, and caches and "
            "memory cost nothing."
        ),
        drawings=(_parts(here, undone),),
        raw={what: dict[str, JsonValue](_plain(each)) for what, each in found.items()},
    )


def _count(lab: Lab) -> _Counted:
    program = f"cma-cost -p -k {','.join(_KINDS)} -s {_SIZE} {_AREA}"
    figures = read(lab.counted(program, DONE, _LAYOUT))
    counted = {kind: figures[kind, _SIZE] for kind in _KINDS}
    for kind, of_kind in counted.items():
        if kind != "nothing" and _in_the_way(of_kind) <= _ENOUGH:
            raise GuestError(
                f"cma-cost: {_in_the_way(of_kind)} pages of {kind} were in the way of {_SIZE}, "
                f"and {_ENOUGH} would be too few to tell what each costs"
            )
    return counted


def _plain(counted: _Counted) -> dict[str, JsonValue]:
    return {kind: dict[str, JsonValue](figures) for kind, figures in counted.items()}


def _checks(here: _Counted, undone: _Counted) -> list[Check]:
    clean, locked, before = here["clean"], here["clean-mlock"], undone["clean"]
    discarded = clean["discarded"]
    return [
        Check(
            what="clean pages in the way are discarded, and must be read again",
            seen=f"{discarded} discarded, {clean['absent']} absent afterwards",
            held=discarded > _ENOUGH and clean["absent"] == discarded,
        ),
        Check(
            what="none of them is migrated",
            seen=f"{clean['moved']} moved",
            held=not clean["moved"],
        ),
        Check(
            what="the same file locked in memory is migrated, for it must not go",
            seen=f"{locked['moved']} moved, {locked['absent']} absent",
            held=locked["moved"] > _ENOUGH and not locked["absent"],
        ),
        Check(
            what="without the commit the clean pages are migrated",
            seen=f"{before['moved']} moved, {before['absent']} absent",
            held=before["moved"] > _ENOUGH and not before["absent"],
        ),
        Check(
            what="to discard a page takes fewer instructions than to migrate it",
            seen=f"{_each(clean):,.0f} against {_each(before):,.0f} a page, "
            f"{_each(locked):,.0f} of the locked file",
            held=_each(clean) < min(_each(before), _each(locked)),
        ),
    ]


def _in_the_way(figures: Figures) -> int:
    """Return how many pages of the holder were in the range that was allocated."""
    return figures["moved"] + figures["absent"]


def _each(figures: Figures, part: str = "contig") -> float:
    """Return the instructions for each page that was in the way."""
    return figures[part] / _in_the_way(figures)


def _rows(here: _Counted, undone: _Counted) -> list[Row]:
    clean, before = here["clean"], undone["clean"]
    idle = here["nothing"]["alloc"]
    return [
        Row(
            what="__alloc_contig_migrate_range(), migrating 10 MiB",
            then="146 ms",
            now=f"{_each(before) * _PAGES / 1e6:.1f} million instructions",
        ),
        Row(
            what="the same, discarding",
            then="7 ms",
            now=f"{_each(clean) * _PAGES / 1e6:.1f} million instructions",
        ),
        Row(what="ratio", then="21", now=f"{_each(before) / _each(clean):.1f}"),
        Row(
            what="ratio, against the same file locked in memory",
            then="",
            now=f"{_each(here['clean-mlock']) / _each(clean):.1f}",
        ),
        Row(
            what="ratio of all that dma_alloc_attrs() does more than in an empty area",
            then="",
            now=f"{_more(before, idle) / _more(clean, idle):.1f}",
        ),
    ]


def _more(figures: Figures, idle: int) -> float:
    return (figures["whole"] - idle) / _in_the_way(figures)


def _parts(here: _Counted, undone: _Counted) -> Chart:
    runs = {
        "clean": here["clean"],
        "clean, commit undone": undone["clean"],
        "clean, locked": here["clean-mlock"],
        "anonymous": here["anon"],
    }
    return Chart.bars(
        "Where __alloc_contig_migrate_range() spends its instructions",
        "pages in the way",
        "instructions a page",
        runs,
        {
            label: [round(_each(each, part)) for each in runs.values()]
            for part, label in _PARTS.items()
        },
    )


STUDY = Study(
    name="discard-clean",
    title="Clean page cache is discarded instead of migrated",
    claim=Claim(
        text="Drop clean cache pages instead of migration during alloc_contig_range() to minimise "
        "allocation latency by reducing the amount of migration that is necessary.",
        source="Minchan Kim, 02c6de8d757c (mm: cma: discard clean pages during contiguous "
        "allocation instead of migration), October 2012, Linux 3.7",
        figure="__alloc_contig_migrate_range(), 10M in a 40M movable zone in QEMU: before 146 ms, "
        "after 7 ms",
    ),
    setup="An area of 40 MiB holds 32.5 MiB of a file's page cache, as it is on the disk, and 10 "
    "MiB are allocated there; then the same with that file locked in memory (mlock), with "
    "anonymous memory, and with nothing. The guest's clock counts instructions. kretprobes stand "
    "in isolate_migratepages_range(), reclaim_clean_pages_from_list() and migrate_pages(), of "
    "which the function that was measured in 2012 consists; they are part of the cost. Not all of "
    "the 10 MiB are in use each time, but 2.5 at least, so that figures are for each page that is, "
    "and for 10 MiB of them. All of it again on the same kernel with the commit undone.",
    today="It still is as the commit made it, function name included. How much is won depends on "
    "what migrating costs, and that has become much less than in 2012.",
    measure=measure,
    without="discard-clean.toml",
)
