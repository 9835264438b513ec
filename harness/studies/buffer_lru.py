"""Buffers that a CPU remembers hold their page where it is, unless migration takes them back."""

from __future__ import annotations

from dataclasses import dataclass, fields

from pydantic import JsonValue

from harness.cma.answers import Answer, ask
from harness.config import MIB, Area, Layout
from harness.results.study import Chart, Check, Claim, Row
from harness.studies.lab import Lab
from harness.studies.study import Finding, Study

_AREA = "dsp"
_LAYOUT = Layout(
    name="buffer-lru",
    description="One area of 56 MiB, as in 2012",
    cmdline="cma=0",
    area=(Area(name=_AREA, size=56 * MIB, device="cma-test"),),
)
_SECONDS = 600.0
_THEN = 450 / 8500  # of the allocations failed
_UNDONE = "8cc621d2f45d undone"
_PATCHES = "buffer-lru-5.13.toml"


class _Tried(Answer):
    """Allocations of the whole area, with `pages` of metadata in it where they were counted."""

    tried: int
    failed: int
    pages: int | None = None
    passes: int | None = None

    @property
    def share(self) -> float:
        return self.failed / self.tried

    def __str__(self) -> str:
        return f"{self.failed} of {self.tried} ({self.share:.1%})"


@dataclass(frozen=True, slots=True)
class _Found:
    """When the file system was read; changed, synced, its journal emptied; and while it is read."""

    quiet: _Tried
    changed: _Tried
    synced: _Tried
    emptied: _Tried
    busy: _Tried


def measure(lab: Lab) -> Finding:
    """Allocate all of an area again and again while metadata comes and goes in it."""
    found = {"as it is": _run(lab)}
    here = found["as it is"]
    if not here.quiet.failed and lab.is_for(_PATCHES):
        found[_UNDONE] = _run(lab.changed(_UNDONE, [_PATCHES]))
    return Finding(
        checks=tuple(_checks(here)),
        rows=tuple(_rows(found)),
        reason=(
            "Each CPU remembers the last 16 buffers that it looked up, by a reference to each. "
            "Migration finds buffers in use then. Since 5.0 (88dbcbb3a484, block devices; "
            "89cb0888ca14) it empties the lists when that happens and looks again, but "
            "somebody may have looked the buffer up meanwhile. Since 5.13 (8cc621d2f45d) the lists "
            "are emptied before, and stay empty until migration is done. A journal's own reference "
            "(struct journal_head) stays until the block is written to its place and the "
            "transaction is checkpointed: no migration can take that back."
        ),
        drawings=(_chart(found), _journal(found)),
        raw={what: dict[str, JsonValue](_plain(each)) for what, each in found.items()},
    )


def _plain(found: _Found) -> dict[str, JsonValue]:
    return {each.name: getattr(found, each.name).model_dump() for each in fields(found)}


def _run(lab: Lab) -> _Found:
    with lab.boot(_LAYOUT) as guest:
        return _Found(*ask(guest, ["cma-buffers", _AREA], _Tried, _SECONDS))


def _checks(here: _Found) -> list[Check]:
    quiet, changed, busy = here.quiet, here.changed, here.busy
    return [
        Check(
            what="metadata lies in the area before it is allocated",
            seen=f"{quiet.pages} pages, in {quiet.tried} rounds",
            held=(quiet.pages or 0) >= 8 * quiet.tried,
        ),
        Check(
            what="buffers that a CPU remembers do not defeat the allocation",
            seen=f"{quiet} failed",
            held=not quiet.failed,
        ),
        Check(
            what="what is in ext4's journal does: it holds the buffers",
            seen=f"{changed} failed, with {changed.pages} pages of metadata",
            held=2 * changed.failed > changed.tried,  # now and then none of it lies there
        ),
        Check(
            what="until the journal is empty",
            seen=f"{here.emptied} failed",
            held=not here.emptied.failed,
        ),
        Check(
            what=f"while a file system is read, fewer fail than in 2012 ({_THEN:.1%})",
            seen=f"{busy} failed",
            held=busy.share < _THEN,
        ),
    ]


def _rows(found: dict[str, _Found]) -> list[Row]:
    return [
        row
        for what, each in found.items()
        for row in (
            Row(what=f"failed, {what}: the file system was read", then="", now=str(each.quiet)),
            Row(
                what=f"failed, {what}: it was changed, nothing committed",
                then="",
                now=str(each.changed),
            ),
            Row(what=f"failed, {what}: the same, behind a sync", then="", now=str(each.synced)),
            Row(
                what=f"failed, {what}: the same, with the journal empty",
                then="",
                now=str(each.emptied),
            ),
            Row(
                what=f"failed, {what}: it is read meanwhile",
                then=f"450 of 8500 ({_THEN:.1%})",
                now=str(each.busy),
            ),
        )
    ]


def _chart(found: dict[str, _Found]) -> Chart:
    names = ("2012, before the patch", *found)
    busy = (_THEN, *(each.busy.share for each in found.values()))
    return Chart.bars(
        "Allocations of all of a busy area that fail",
        "",
        "%",
        names,
        {"file system busy": (100 * share for share in busy)},
    )


def _journal(found: dict[str, _Found]) -> Chart:
    return Chart.bars(
        "Allocations that fail when 101 directories were made",
        "",
        "%",
        ("not committed", "behind a sync", "the journal empty"),
        {
            what: (100 * tried.share for tried in (each.changed, each.synced, each.emptied))
            for what, each in found.items()
        },
    )


STUDY = Study(
    name="buffer-lru",
    title="Buffers that a CPU remembers are let go of before their page is migrated",
    claim=Claim(
        text="When a buffer is added to the LRU list, a reference is taken which is not dropped "
        "until the buffer is evicted. Its page cannot be migrated for very long; CMA relies on "
        "being able to migrate a specific range of pages. Remove the buffer from the list when "
        "trying to drop it.",
        source="Laura Abbott, fs/buffer.c: Revoke LRU when trying to drop buffers, 2012; merged in "
        "another form as 8cc621d2f45d (mm: fs: invalidate BH LRU during page migration, 5.13)",
        figure="about 450 failures in about 8500 loops, of 56 MB",
    ),
    setup="The metadata of an ext4 on zram is read into an area of 56 MiB, and all of the area is "
    "allocated: five times with nothing else going on; five times with 101 new directories that "
    "the journal has not committed, again behind a sync, and again when fsfreeze has emptied the "
    "journal; and 1000 times while another process drops the caches and lists the file system. "
    "From 6.0 on, where there is a patch that undoes 8cc621d2f45d, once more with that.",
    today="Her patch took the buffers of a page off the lists when they could not be dropped. Two "
    "others came in its place: block devices' pages, which is what the lists remember, are "
    "migrated with their buffers since 5.0, and since 5.13 the lists are emptied beforehand. 5.10 "
    "has the first alone. What a journal holds was not touched by it, and is so today: a buffer "
    "belongs to a transaction until that is checkpointed, which a sync does not wait for.",
    measure=measure,
    without="buffer-lru.toml",
)
