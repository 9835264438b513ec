"""Barry Song's module of 2012: a write takes KiB from CMA, a read gives the oldest back."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from pydantic import JsonValue

from harness.cma import counters
from harness.cma.areas import PAGE
from harness.cma.counters import Area, Run
from harness.guest.guest import Guest
from harness.results.study import Check, Claim, Map, Row, Sequence, Step, Strip
from harness.studies.lab import Lab
from harness.studies.study import Finding, Study

_AREA = "linux,cma"
_DEVICE = "/dev/cma_test"
_LOAD = "insmod /lib/cma/cma_test.ko"
_READ = f"cat {_DEVICE}"
_LARGEST = 16384  # KiB: more than the page allocator has in one piece, 4 MiB
_NO_ROOM = "no mem in CMA area"
_REGISTERED = "registered."
# v4's own text, with the address for devices, which he printed as a pointer, in the width of one.
# A hashed pointer is "(ptrval)" until the kernel has random bytes: lib/vsprintf.c, since 4.15.
_ALLOC = re.compile(r"alloc: virt: \S+ dma: (0x[0-9a-f]+) size: (\d+)K")
_FREE = re.compile(r"free: CM virt: \S+ dma: (0x[0-9a-f]+) size:(\d+)K")
_ERRNOS = (errno.EINVAL, errno.EOVERFLOW, errno.ENOSPC, errno.EIDRM)


def _write(kib: int) -> str:
    return f"echo {kib} >{_DEVICE}"


SESSION: Mapping[str, str] = {
    _LOAD: "",
    _write(1024): "",
    _write(2048): "",
    _write(_LARGEST): "",
    f"{_READ} # 1": "",
    f"{_READ} # 2": "",
    f"{_READ} # 3": "",
    f"{_READ} # 4": "EIDRM",
    _write(0): "EINVAL",
    _write(4194304): "EOVERFLOW",  # SIZE_MAX / 1024 + 1
    _write(131072): "ENOSPC",  # twice the area
}
"""The commands of the session, and the errno that each is to get. Numbers tell the reads apart."""


@dataclass(frozen=True, slots=True)
class Told:
    """A command, its errno's name or "", what the device logged, and the bitmap behind it."""

    command: str
    errno: str
    log: tuple[str, ...]
    used: int
    taken: tuple[Run, ...]

    def buffers(self, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
        """Return (address, bytes) of each line that fits."""
        found = (pattern.fullmatch(line) for line in self.log)
        return [(int(one[1], 16), int(one[2]) << 10) for one in found if one]

    @property
    def allocated(self) -> list[tuple[int, int]]:
        """What it allocated."""
        return self.buffers(_ALLOC)

    @property
    def freed(self) -> list[tuple[int, int]]:
        """What it freed."""
        return self.buffers(_FREE)


def measure(lab: Lab) -> Finding:
    """Type the session at the guest's console, and look at log and area behind each command."""
    with lab.boot() as guest:
        area = counters.take(guest).area(_AREA)
        told = tuple(_type(guest, command) for command in SESSION)
        guest.run("rmmod cma_test").checked("unloading cma_test")
        after = counters.take(guest).area(_AREA)
    largest = max((size for each in told for _, size in each.allocated), default=0) >> 10
    return Finding(
        checks=tuple(checks(told, area, after)),
        rows=tuple(_rows(told, largest)),
        reason=(
            "dma_alloc_coherent() of a device without an area of its own goes to the default area "
            "(dev_get_cma_area()), whose bitmap has a bit for each page; so what a buffer takes "
            "can be counted, and where it lies can be seen."
        ),
        drawings=(_sequence(told, area), _map(told, area)),
        raw={
            each.command: {
                "errno": each.errno,
                "log": list[JsonValue](each.log),
                "used": each.used,
                "taken": [list[JsonValue](run) for run in each.taken],
            }
            for each in told
        },
    )


def _type(guest: Guest, command: str) -> Told:
    """Run a command with the kernel's log emptied before it."""
    done = guest.run(f"dmesg -c >/dev/null; {command}")
    said = guest.run("dmesg").checked("reading the log")
    area = counters.take(guest).area(_AREA)
    log = tuple(re.findall(r"misc cma_test: (.*)", said))
    return Told(command, errno_of(done.output), log, area.used, area.set)


def errno_of(output: str) -> str:
    """Return the name of the errno that a shell told in words; "" when it told none."""
    found = (errno.errorcode[code] for code in _ERRNOS if os.strerror(code) in output)
    return next(found, "")


def checks(told: tuple[Told, ...], before: Area, after: Area) -> Iterator[Check]:
    """Yield what the session must show; the area is idle `before` it, and again `after` it."""
    wanted = list(SESSION.values())
    errnos = [each.errno for each in told]
    yield Check(
        what="each command is answered as in v4: EIDRM, EINVAL, EOVERFLOW, ENOSPC or nothing",
        seen=", ".join(each or "done" for each in errnos),
        held=errnos == wanted,
    )
    yield _lines(told)
    made = [buffer for each in told for buffer in each.allocated]
    freed = [buffer for each in told for buffer in each.freed]
    yield Check(
        what="a read frees the oldest buffer",
        seen=f"{_sizes(freed)} KiB freed of {_sizes(made)} KiB",
        held=len(made) == 3 and freed == made,
    )
    yield Check(
        what="each buffer is a run of the area's pages, as large as asked for, and nothing else is",
        seen="; ".join(_place(buffer, before) for buffer in made),
        held=bool(made) and all(_fits(each, before) for each in _with_live(told)),
    )
    steps = [now.used - then.used for then, now in pairwise(told)]
    moved = [_moved(each) for each in told[1:]]
    yield Check(
        what="the pages in use rise and fall by exactly the KiB",
        seen=", ".join(f"{step:+}" for step in steps) + " pages",
        held=steps == moved and any(moved),
    )
    yield Check(
        what="the area is idle again when the module is gone",
        seen=f"{after.used} pages in use, {before.used} before",
        held=(after.used, after.set) == (before.used, before.set),
    )


def _lines(told: tuple[Told, ...]) -> Check:
    """Whether the log is v4's: a line for each success, one for no room, none for a wrong call."""
    kinds = [_kind(line) for each in told for line in each.log]
    wanted = [_wanted_kind(command, name) for command, name in SESSION.items()]
    return Check(
        what="the kernel's log has v4's lines, in order",
        seen=", ".join(kinds),
        held=kinds == [kind for kind in wanted if kind],
    )


def _kind(line: str) -> str:
    for kind, pattern in (("alloc", _ALLOC), ("free", _FREE)):
        if pattern.fullmatch(line):
            return kind
    return line


def _wanted_kind(command: str, name: str) -> str:
    if name:
        return _NO_ROOM if name == "ENOSPC" else ""
    if command == _LOAD:
        return _REGISTERED
    return "free" if command.startswith(_READ) else "alloc"


def _moved(each: Told) -> int:
    """Return by how many pages the log says that the area's use has changed."""
    made, freed = (sum(size for _, size in some) for some in (each.allocated, each.freed))
    return (made - freed) // PAGE


def _with_live(told: tuple[Told, ...]) -> Iterator[tuple[Told, list[tuple[int, int]]]]:
    """Yield each command with the buffers that were alive behind it, by the log."""
    live: list[tuple[int, int]] = []
    for each in told:
        live = [buffer for buffer in (*live, *each.allocated) if buffer not in each.freed]
        yield each, live


def _fits(state: tuple[Told, list[tuple[int, int]]], idle: Area) -> bool:
    """Whether the bits that are set are the idle area's and those of the live buffers."""
    each, live = state
    taken = _pages(each.taken)
    buffers = [_run(buffer, idle) for buffer in live]
    return taken == _pages(idle.set) | _pages(buffers) and not _pages(idle.set) & _pages(buffers)


def _pages(runs: tuple[Run, ...] | list[Run]) -> set[int]:
    return {page for first, count in runs for page in range(first, first + count)}


def _run(buffer: tuple[int, int], area: Area) -> Run:
    address, size = buffer
    return address // PAGE - area.base_pfn, size // PAGE


def _place(buffer: tuple[int, int], area: Area) -> str:
    first, count = _run(buffer, area)
    inside = first >= 0 and first + count <= area.count
    return f"{buffer[1] >> 10} KiB {'at page ' + str(first) if inside else 'outside of it'}"


def _sizes(buffers: list[tuple[int, int]]) -> str:
    return ", ".join(str(size >> 10) for _, size in buffers) or "none"


def _rows(told: tuple[Told, ...], largest: int) -> Iterator[Row]:
    then = {
        _LOAD: _REGISTERED,
        _write(1024): "alloc: virt: %p dma: %p size: %zuK",
        f"{_READ} # 1": "free: CM virt: %p dma: %p size:%zuK",
        _write(131072): _NO_ROOM,
    }
    for each in told:
        if each.command in then:
            line = "; ".join(each.log) or each.errno or "nothing"
            yield Row(what=each.command.partition(" #")[0], then=then[each.command], now=line)
    yield Row(what="largest buffer of the session, KiB", then="", now=str(largest))


def _sequence(told: tuple[Told, ...], area: Area) -> Sequence:
    steps = []
    for number, each in enumerate(told, 1):
        command = each.command.partition(" #")[0]
        steps.append(Step(lane="shell", at=number, what=f"{command} {each.errno}".strip()))
        steps += [Step(lane="dmesg", at=number, what=line) for line in each.log]
        used = (each.used - area.used) * PAGE >> 10
        steps.append(Step(lane="area", at=number, what=f"{used} KiB in use"))
    return Sequence(title="The session", at="", steps=tuple(steps))


def _map(told: tuple[Told, ...], area: Area) -> Map:
    names: dict[tuple[int, int], str] = {}
    strips = []
    for each, live in _with_live(told):
        names |= {buffer: f"buffer of {buffer[1] >> 10} KiB" for buffer in live}
        runs = [(*_run(buffer, area), names[buffer]) for buffer in live]
        inside = [run for run in runs if 0 <= run[0] < area.count]
        pool = [(first, count, "the kernel's atomic pool") for first, count in area.set]
        if each.allocated or each.freed:
            label = each.command.partition(" #")[0].removesuffix(f" >{_DEVICE}")
            strips.append(Strip(label=label, pages=area.count, runs=(*pool, *inside)))
    return Map(title="The default area behind each command", strips=tuple(strips))


STUDY = Study(
    name="helper",
    title="A module to test CMA: write KiB to get them, read to give them back",
    claim=Claim(
        text="Any write request to /dev/cma_test allocates coherent memory from CMA, as many KiB "
        "as were written (`echo 1024 > /dev/cma_test`); any read request frees the first of what "
        "is allocated (`cat /dev/cma_test`). The kernel's log tells where each buffer lies.",
        source="Barry Song, mm: cma: add a simple kernel module as the helper to test CMA, v4, "
        "linux-mm and linux-arm-kernel, 2012",
        figure="",
    ),
    setup="The session that the author describes, typed at a guest with a default area of 64 MiB: "
    "buffers of 1, 2 and 16 MiB, which are freed in their turn, then one read too many and three "
    "writes that cannot be served. kmod/cma_test has his interface. Behind each command the "
    "area's bitmap is read.",
    today="The session runs as he described it, on every kernel: it is the DMA API alone that it "
    "uses. What has changed is the log: %p has been hashed since 4.15 (ad67b74d2469), so the "
    "kernel's address tells nothing any more, and the device's is printed with %pad. The module "
    "itself was never merged; debugfs has had files `alloc` and `free` of its own since 4.1.",
    measure=measure,
    without="helper.toml",
)
