"""Transcendent memory: what the kernel discards or swaps goes to memory that it cannot address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pydantic import JsonValue

from harness.cma import counters, vmstat
from harness.cma.counters import Area
from harness.cma.helper import Helper
from harness.cma.occupy import COMPRESSIBLE, Fates, Place, occupied
from harness.cma.occupy import Check as Contents
from harness.config import MIB
from harness.guest.guest import Guest
from harness.results.study import Chart, Check, Claim, Map, Row, Strip
from harness.studies.device import loaded, take_ranges
from harness.studies.lab import Lab
from harness.studies.study import Finding, Study
from harness.studies.zram import Transfers, disk_file, swap_space, transfers

_AREA = "linux,cma"
_RANGE = 4 * MIB
_CACHED = 8 * MIB
_SWAPPED = 16 * MIB
_ROOM = 2048  # pages of the backend, as many as are cached
_LESS = 512
_MOST = 0.9  # of the pages, or zswap did nothing
_ZSWAP = "/sys/module/zswap/parameters"
_STORED = "/sys/kernel/debug/zswap/stored_pages"
_MODULE = "/sys/module/cma_tmem/parameters"
_CLEANCACHE = "/sys/kernel/debug/cleancache"
_FATES = {"back": "discarded, and read again", "kept": "left where it was", "moved": "migrated"}


@dataclass(frozen=True, slots=True)
class _Ephemeral:
    """Clean cache that gave way to an allocation, and where it was read again from, in pages.

    `room` is how many pages cleancache's backend may keep; None is without one. `put` and `got`
    are what went to it and came back.
    """

    room: int | None
    fates: Fates
    disk: int
    put: int
    got: int

    @property
    def back(self) -> int:
        """How many pages were read again."""
        return self.fates.counts()["back"]


@dataclass(frozen=True, slots=True)
class _Persistent:
    """Pages of a process that were swapped out, the area allocated, and read back.

    `compressed` are the pages in the area that zsmalloc had, `stored` what zswap took, `disk` what
    the swap space was given and asked for; `idle` and `taken` the ranges that can be had of an
    empty area, and of this one.
    """

    zswap: bool
    held: Place
    compressed: int
    stored: int
    migrated: int
    disk: Transfers
    idle: frozenset[int]
    taken: frozenset[int]
    found: Contents


def measure(lab: Lab) -> Finding:
    """Allocate over clean cache and over compressed pages, with what keeps them and without."""
    with lab.boot() as guest, loaded(guest) as helper:
        area = counters.take(guest).area(_AREA)
        idle = take_ranges(guest, helper, _RANGE)
        ephemeral = _ephemerals(guest, helper, cleancache=_is_set(lab, "CLEANCACHE"))
        persistent = [
            _persistent(guest, helper, idle, zswap=zswap)
            for zswap in (False, *([True] if _is_set(lab, "ZSWAP") else []))
        ]
    return Finding(
        checks=(
            *(check for each in ephemeral for check in _ephemeral_checks(each)),
            *(check for each in persistent for check in _persistent_checks(each)),
        ),
        rows=(*_ephemeral_rows(ephemeral), *_persistent_rows(persistent)),
        reason=(
            "A contiguous allocation drops clean pages (reclaim_clean_pages_from_list()), and what "
            "leaves the page cache clean was put into cleancache by __delete_from_page_cache(). "
            "Compressed pages are zsmalloc's, which lends them as movable "
            "(48b4800a1c6a, 4.8): they move with all that they store (zs_page_migrate())."
        ),
        drawings=(_map(ephemeral, area), _sources(ephemeral), _swap(persistent)),
        raw={
            "ephemeral": [_raw_ephemeral(each) for each in ephemeral],
            "persistent": [_raw_persistent(each) for each in persistent],
        },
    )


def _is_set(lab: Lab, symbol: str) -> bool:
    return lab.option(f"CONFIG_{symbol}") == "y"


def _ephemerals(guest: Guest, helper: Helper, *, cleancache: bool) -> tuple[_Ephemeral, ...]:
    with disk_file(guest) as (device, path):
        without = _ephemeral(guest, helper, device, path, None)
        if not cleancache:
            return (without,)
        guest.run(f"insmod /lib/cma/cma_tmem.ko pages={_ROOM}").checked("loading cma_tmem")
        return (
            without,
            *(_ephemeral(guest, helper, device, path, room) for room in (_ROOM, _LESS)),
        )


def _ephemeral(
    guest: Guest, helper: Helper, device: str, path: str, room: int | None
) -> _Ephemeral:
    if room is not None:
        guest.run(f"echo {room} >{_MODULE}/limit").checked("limiting cma_tmem")
    with occupied(guest.console, "clean", _AREA, _CACHED, file=path) as occupant:
        began = _tmem(guest, room)
        take_ranges(guest, helper, _RANGE)
        disk = transfers(guest, device)
        fates = occupant.fates()
        grown = vmstat.growth(began, _tmem(guest, room))
        return _Ephemeral(
            room,
            fates,
            transfers(guest, device).since(disk).read,
            grown.get("puts", 0),
            grown.get("succ_gets", 0),
        )


def _tmem(guest: Guest, room: int | None) -> Mapping[str, int]:
    """Return cleancache's counters; none without a backend."""
    if room is None:
        return {}
    names = f"for name in puts succ_gets; do echo $name $(cat {_CLEANCACHE}/$name); done"
    return vmstat.parse(guest.run(names).checked("reading cleancache's counters"))


def _persistent(guest: Guest, helper: Helper, idle: frozenset[int], *, zswap: bool) -> _Persistent:
    with swap_space(guest) as device:
        _switch(guest, on=zswap)
        before = transfers(guest, device)
        with occupied(guest.console, "swapped", _AREA, _SWAPPED, seed=COMPRESSIBLE) as occupant:
            helper.free(
                helper.alloc(1).handle
            )  # empties the CPUs' lists: no flag tells their pages
            pages = counters.take(guest, pages=True).area(_AREA).open
            stored = int(guest.run(f"cat {_STORED}").checked("zswap's pages")) if zswap else 0
            counted = vmstat.read(guest)
            taken = take_ranges(guest, helper, _RANGE)
            grown = vmstat.growth(counted, vmstat.read(guest))
            found = occupant.check()
        disk = transfers(guest, device).since(before)
        _switch(guest, on=False)
    return _Persistent(
        zswap,
        occupant.held,
        pages.unnamed + pages.movable if pages else 0,
        stored,
        grown["pgmigrate_success"],
        disk,
        idle,
        taken,
        found,
    )


def _switch(guest: Guest, *, on: bool) -> None:
    """Switch zswap, where there is one."""
    command = f"[ ! -e {_ZSWAP} ] || echo {'Y' if on else 'N'} >{_ZSWAP}/enabled"
    guest.run(command).checked("switching zswap")


def _with(each: _Ephemeral) -> str:
    return "no cleancache" if each.room is None else f"cleancache of {each.room} pages"


def _ephemeral_checks(each: _Ephemeral) -> tuple[Check, ...]:
    name = _with(each)
    counts = each.fates.counts()
    held = Check(
        what=f"{name}: clean cache is discarded, not migrated, and nothing of it lost",
        seen=f"{counts['back']} read again, {counts['moved']} migrated",
        held=counts["back"] > 0 and counts["moved"] == counts["zero"] == counts["lost"] == 0,
    )
    if each.room is None:
        disk = Check(
            what=f"{name}: all that was discarded is read from the disk",
            seen=f"{each.disk} pages for {each.back}",
            held=each.disk >= each.back,
        )
        return held, disk
    wanted = min(each.back, each.room)
    return (
        held,
        Check(
            what=f"{name}: what is discarded is put there",
            seen=f"{each.put} put for {each.back}",
            held=each.put >= each.back,
        ),
        Check(
            what=f"{name}: as much as it has room for comes back without the disk, the rest not",
            seen=f"{each.got} from there, {each.disk} from the disk, of {each.back}",
            held=each.got == wanted and each.disk == each.back - wanted,
        ),
    )


def _persistent_checks(each: _Persistent) -> tuple[Check, ...]:
    name = "zswap" if each.zswap else "zram"
    out = each.held.absent
    return (
        Check(
            what=f"{name}: compressed pages lie in the area",
            seen=f"{each.compressed} pages for {out} swapped out",
            held=each.compressed > out // 8,
        ),
        Check(
            what=f"{name}: they move out of the way: each range of an empty area is to be had",
            seen=f"{len(each.taken)} of {len(each.idle)}, {each.migrated} migrated",
            held=each.taken >= each.idle and each.migrated >= each.compressed // 2,
        ),
        Check(
            what=f"{name}: what they store comes back whole",
            seen=f"{each.found.bad + each.found.zero} bad of {each.found.pages}",
            held=each.found.intact,
        ),
        *([_spared(each)] if each.zswap else []),
    )


def _spared(each: _Persistent) -> Check:
    """Now and then zswap refuses a page: zsmalloc may not wait for memory then."""
    out, disk = each.held.absent, each.disk
    return Check(
        what="zswap: what it took is neither written to the swap space nor read from it",
        seen=f"{each.stored} stored of {out}, {disk.written} written, {disk.read} read",
        held=each.stored + disk.written == out
        and disk.read == disk.written
        and each.stored >= out * _MOST,
    )


def _ephemeral_rows(found: tuple[_Ephemeral, ...]) -> tuple[Row, ...]:
    gone = (
        Row(
            what="clean pages got back from cleancache",
            then="fewer reads of the disk",
            now="no cleancache since 5.17 (0a4ee518185e), or not built in",
        ),
    )
    rows = tuple(
        Row(
            what=f"{_with(each)}: pages discarded; read again from there, from the disk",
            then="",
            now=f"{each.back}; {each.got}, {each.disk}",
        )
        for each in found
    )
    return rows if len(found) > 1 else (*rows, *gone)


def _persistent_rows(found: list[_Persistent]) -> tuple[Row, ...]:
    return tuple(
        Row(
            what=f"{'zswap' if each.zswap else 'zram'}: pages swapped out; compressed in the "
            "area, migrated; written to the swap space",
            then="",
            now=f"{each.held.absent}; {each.compressed}, {each.migrated}; {each.disk.written}",
        )
        for each in found
    )


def _raw_ephemeral(each: _Ephemeral) -> JsonValue:
    return {
        "room": each.room,
        "fates": each.fates.model_dump(mode="json"),
        "disk": each.disk,
        "put": each.put,
        "got": each.got,
    }


def _raw_persistent(each: _Persistent) -> JsonValue:
    return {
        "zswap": each.zswap,
        "held": each.held.model_dump(),
        "compressed": each.compressed,
        "stored": each.stored,
        "migrated": each.migrated,
        "disk": asdict(each.disk),
        "idle": list[JsonValue](sorted(each.idle)),
        "taken": list[JsonValue](sorted(each.taken)),
        "found": each.found.model_dump(),
    }


def _map(found: tuple[_Ephemeral, ...], area: Area) -> Map:
    return Map(
        title="What became of the clean cache in the area",
        strips=tuple(
            Strip(
                label=_with(each),
                pages=area.count,
                runs=tuple(
                    (first - area.base_pfn, count, _FATES.get(fate, fate))
                    for fate, runs in each.fates.by_name()
                    for first, count in runs
                ),
            )
            for each in found
        ),
    )


def _sources(found: tuple[_Ephemeral, ...]) -> Chart:
    return Chart.bars(
        "Where the discarded pages were read again from",
        "",
        "pages",
        map(_with, found),
        {"disk": [each.disk for each in found], "cleancache": [each.got for each in found]},
    )


def _swap(found: list[_Persistent]) -> Chart:
    figures = {
        "swapped out": [each.held.absent for each in found],
        "written to the swap space": [each.disk.written for each in found],
        "compressed, in the area": [each.compressed for each in found],
        "migrated by the allocation": [each.migrated for each in found],
    }
    return Chart.bars(
        "Swapped pages, and the allocation over what they were compressed into",
        "",
        "pages",
        ("zswap before zram" if each.zswap else "zram alone" for each in found),
        figures,
    )


STUDY = Study(
    name="transcendent",
    title="What is discarded can be kept elsewhere, and what is compressed moves out of the way",
    claim=Claim(
        text="Memory that the kernel does not address itself can keep what it would discard: clean "
        "pages of files that may vanish at any time (cleancache, ephemeral), and swapped pages "
        "that may not (frontswap, persistent). Reads and writes of the disk are spared.",
        source='D. Magenheimer, "Transcendent memory in a nutshell", LWN 454795, August 2011; '
        "cleancache (3.0) and frontswap (3.5)",
        figure="",
    ),
    setup="8 MiB of clean cache are brought into an area of 64 MiB, all its ranges of 4 MiB are "
    "allocated, and the file is read again: as it is, then with a backend of cleancache "
    "(kmod/cma_tmem) that has room for all, then for 512 pages. 16 MiB of a process are swapped "
    "out inside the area into zram, then into zswap before it, the ranges allocated, and the pages "
    "read back.",
    today="Cleancache went with 5.17 (0a4ee518185e): the only backend, Xen's tmem, had gone with "
    "5.3 (814bbf49dcd0). Frontswap went with 6.6 (42c06a0e8ebe); zswap, its only user, is called "
    "directly since. Both zswap and zram keep their pages in zsmalloc, which lends them as movable "
    "(48b4800a1c6a, 4.8): in an area they are migrated. A new cleancache, with CMA's own "
    "free memory as its place, was proposed in October 2025 (S. Baghdasaryan, linux-mm).",
    measure=measure,
    without="transcendent.toml",
    variant="study",
)
