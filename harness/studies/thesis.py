"""Memory that no driver has is everybody's: an idle area takes nothing away from the system."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from harness.cma.areas import PAGE
from harness.config import MIB, Area, Layout
from harness.guest.guest import Guest
from harness.results.study import Chart, Check, Claim, Curve, Row
from harness.studies.device import loaded
from harness.studies.lab import Lab
from harness.studies.study import Finding, Study
from harness.studies.taking import take_all

_MEMORY = 512 * MIB
_AREA = 256 * MIB
_STEP = 64 * MIB
_PARTS = tuple(range(0, _AREA + 1, _STEP))
_FILE = 420 * MIB  # a little less than is to be had
_SECONDS = 300.0
_TOLERANCE = 4 * MIB  # a sixteenth of a step
_THEN = (964, 837, 710, 582, 455)  # MiB, at 0, 128, 256, 384 and 512 of 512 MiB
_NONE = Layout(name="none", description="No CMA", cmdline="cma=0")
_LAYOUT = Layout(
    name="thesis",
    description="Half of the memory is one area",
    cmdline="cma=0",
    area=(Area(name="half", size=_AREA, at=0x50000000, device="cma-test"),),
)


@dataclass(frozen=True, slots=True)
class _Read:
    """A file read a second time: pages that came from the disk again, and how long it took."""

    pages: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Found:
    """Pages that malloc had: without CMA, by bytes allocated of the area, with half the memory."""

    without: int
    parts: dict[int, int]
    half: int
    reads: dict[str, _Read]


def measure(lab: Lab) -> Finding:
    """Take all memory, and read a file twice, while more and more of the area is a driver's."""
    reads = {}
    with lab.boot(_NONE) as guest:
        without = _take(guest)
        reads["no CMA"] = _reread(guest)
    with lab.boot(_LAYOUT) as guest, loaded(guest, "/dev/cma_test-half@50000000") as helper:
        parts = {0: _take(guest)}
        for part in _PARTS[1:]:
            helper.alloc(_STEP)
            parts[part] = _take(guest)
        for buffer in helper.list():
            helper.free(buffer.handle)
        reads["an idle area"] = _reread(guest)
        helper.alloc(_STEP)
        reads[f"{_STEP // MIB} MiB of it allocated"] = _reread(guest)
        helper.free(helper.list()[0].handle)
    with lab.with_memory(_MEMORY - _AREA).boot(_NONE) as guest:
        half = _take(guest)
    found = _Found(without, parts, half, reads)
    return Finding(
        checks=tuple(_checks(found)),
        rows=tuple(_rows(found)),
        reason=(
            "The page allocator gives the pages of an area to whoever asks for movable ones, which "
            "anonymous memory and page cache are. What a driver allocates is missing then, page "
            "for page. A file that just fits is read from the cache; if a little less is left it "
            "is read from the disk as a whole, for the kernel drops the oldest pages first, and "
            "those are the ones that are read next."
        ),
        drawings=(_curve(found), _bars(found)),
        raw={
            "without": without,
            "half": half,
            "parts": {str(part): pages for part, pages in parts.items()},
            "reads": {what: dict[str, JsonValue](_plain(each)) for what, each in reads.items()},
        },
    )


def _take(guest: Guest) -> int:
    """Return the pages that can be had."""
    guest.run("lean-zones").checked("setting the zones' reserves")
    return take_all(guest).pages


def _plain(read: _Read) -> dict[str, JsonValue]:
    return {"pages": read.pages, "seconds": read.seconds}


_DISK = f"""
set -e
set -- /sys/block/zram*
if [ -e "$1" ]; then zram=${{1##*/}}; else zram=zram$(cat /sys/class/zram-control/hot_add); fi
if [ ! -e /tmp/disk ]; then
    echo 1G >/sys/block/$zram/disksize
    mke2fs -q -b 4096 -F /dev/$zram 2>/dev/null
    mkdir /tmp/disk
    mount -t ext4 /dev/$zram /tmp/disk
    dd if=/dev/zero of=/tmp/disk/file bs=1M count={_FILE // MIB} 2>/dev/null
    sync
fi
echo 3 >/proc/sys/vm/drop_caches
cat /tmp/disk/file >/dev/null
"""
_AGAIN = """
read_in() { sed -n 's/^pgpgin //p' /proc/vmstat; }
up() { sed 's/ .*//' /proc/uptime; }
before=$(read_in) began=$(up)
cat /tmp/disk/file >/dev/null
echo $(($(read_in) - before)) $began $(up)
"""


def _reread(guest: Guest) -> _Read:
    """Read a file of zeroes, which takes no room on its zram, and read it once more."""
    guest.run(_DISK, _SECONDS).checked("reading a file")
    kib, began, ended = guest.run(_AGAIN, _SECONDS).checked("reading it again").split()
    return _Read(int(kib) * 1024 // PAGE, round(float(ended) - float(began), 2))


def _checks(found: _Found) -> list[Check]:
    idle, file = found.parts[0], _FILE // PAGE
    lost = {part: idle - pages for part, pages in found.parts.items() if part}
    none, empty, some = (read.pages for read in found.reads.values())
    return [
        Check(
            what="an idle area costs malloc() nothing, but for what describes it (2 %)",
            seen=f"{_mib(idle)} MiB against {_mib(found.without)} MiB without CMA",
            held=abs(idle - found.without) <= found.without // 50,
        ),
        Check(
            what=f"what is allocated from it is what malloc() then lacks ({_TOLERANCE // MIB} MiB)",
            seen=", ".join(f"{_mib(have)} of {part // MIB}" for part, have in lost.items()),
            held=all(abs(have * PAGE - part) <= _TOLERANCE for part, have in lost.items()),
        ),
        Check(
            what="all of it allocated, the machine is one with that much less memory (5 %)",
            seen=f"{_mib(found.parts[_AREA])} MiB against {_mib(found.half)} MiB",
            held=abs(found.parts[_AREA] - found.half) <= found.half // 20,
        ),
        Check(
            what="a file that fits into memory stays there, also where half of that is an area",
            seen=f"{none} pages read again without CMA, {empty} with an idle area, of {file}",
            held=max(none, empty) <= file // 50,
        ),
        Check(
            what="and does no more when a part of the area is allocated",
            seen=f"{some} pages read again",
            held=some > file // 2,
        ),
    ]


def _mib(pages: int) -> int:
    return pages * PAGE // MIB


def _rows(found: _Found) -> list[Row]:
    parts = zip(found.parts.items(), _THEN, strict=True)
    then = ("0.035 s", "0.037 s", "17.1 s")
    return [
        Row(what="malloc(), no CMA", then="965 MiB", now=f"{_mib(found.without)} MiB"),
        *(
            Row(
                what=f"malloc(), {part * 100 // _AREA} % of the area allocated",
                then=f"{old} MiB",
                now=f"{_mib(pages)} MiB",
            )
            for (part, pages), old in parts
        ),
        Row(what="malloc(), half the memory", then="477 MiB", now=f"{_mib(found.half)} MiB"),
        *(
            Row(
                what=f"reading a file again, {what}",
                then=old,
                now=f"{read.seconds} s, {read.pages} pages from the disk",
            )
            for (what, read), old in zip(found.reads.items(), then, strict=True)
        ),
    ]


def _curve(found: _Found) -> Chart:
    share = tuple(part * 100 / _AREA for part in found.parts)
    level = (0.0, 100.0)
    return Chart(
        kind="lines",
        title="What malloc() gets, as a share of the machine's memory",
        x="% of the area that is allocated",
        y="% of memory",
        curves=(
            Curve(label="2013, of 1 GiB", x=share, y=tuple(mib / 10.24 for mib in _THEN)),
            Curve(
                label="today, of 512 MiB",
                x=share,
                y=tuple(map(_share, found.parts.values())),
            ),
            Curve(label="today, no CMA", x=level, y=(100 * found.without * PAGE / _MEMORY,) * 2),
            Curve(
                label="today, half the memory", x=level, y=(100 * found.half * PAGE / _MEMORY,) * 2
            ),
        ),
    )


def _share(pages: int) -> float:
    return 100 * pages * PAGE / _MEMORY


def _bars(found: _Found) -> Chart:
    return Chart.bars(
        f"Reading a file of {_FILE // MIB} MiB again",
        "",
        "pages from the disk",
        found.reads,
        {"pages": (read.pages for read in found.reads.values())},
    )


STUDY = Study(
    name="thesis",
    title="An idle area costs nothing, an allocated one what is allocated",
    claim=Claim(
        text="The memory of an area that no driver uses is there for the rest of the system, for "
        "processes as for the page cache; what drivers allocate is missing, and not more.",
        source="Michał Nazarewicz's thesis, SDI 2013, of a machine with 1 GiB and an area of "
        "512 MiB",
        figure="malloc() until out of memory: 965 MiB without CMA; 964, 837, 710, 582 and 455 MiB "
        "with 0, 128, 256, 384 and 512 MiB of the area allocated; 477 MiB with mem=512m. Reading "
        "a file of 900 MiB again: 0.035 s without CMA, 0.037 s with an idle area, 17.1 s after "
        "128 MiB were allocated",
    ),
    setup="Half of everything: a guest of 512 MiB with an area of 256 MiB. mem-take touches "
    "anonymous memory page by page until the OOM killer ends it, while 0, 64, 128, "
    "192 and 256 MiB of the area are allocated, and the kernel keeps as little back as it can "
    "(vm.percpu_pagelist_high_fraction and vm.watermark_boost_factor); also in guests without CMA, "
    "of 512 and of 256 MiB. A file of 420 MiB on zram is read twice, and pgpgin tells what the "
    "second time came from the disk.",
    today="The figures are those of 2013, scaled. The seconds are not: the disk of this guest is "
    "memory, so that what counts are the pages that are read from it.",
    measure=measure,
    without="thesis.toml",
)
