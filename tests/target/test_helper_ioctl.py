"""The ioctls and the mmap of /dev/cma_test, as kmod/cma_test/cma_test_uapi.h describes them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from placement import outside, overlapping, pages

from harness import process
from harness.cell import Prepared
from harness.cma.answers import ProgramError
from harness.cma.areas import PAGE, LiveArea
from harness.cma.helper import Buffer, Helper, LiveBuffer
from harness.guest.guest import Guest
from harness.kernel.modules import KMOD

KIB, MIB = 1 << 10, 1 << 20
SIZE_MAX = (1 << 32) - 1

Log = Callable[[], tuple[str, ...]]


def errno_of(call: Callable[[], object]) -> str:
    """The errno that a call of the helper gets, or "ok"."""
    try:
        call()
    except ProgramError as error:
        return error.errno_name
    return "ok"


def test_version_tells_the_kernel_s_alignment(helper: Helper, cell: Prepared) -> None:
    helper.alloc(PAGE)
    info = helper.info()
    assert (info.abi, info.page_size, info.live) == (1, PAGE, 1)
    assert info.natural_align == PAGE << int(cell.kernel.option("CONFIG_CMA_ALIGNMENT"))


def test_list_tells_what_alloc_told(helper: Helper, area: LiveArea) -> None:
    made = [helper.alloc(size) for size in (1, PAGE, 5000, MIB)]
    listed = helper.list()
    assert [(one.handle, one.dma_address, one.size) for one in listed] == [
        (one.handle, one.dma_address, one.size) for one in made
    ]
    assert [one.allocated for one in listed] == [PAGE, PAGE, 2 * PAGE, MIB]
    assert [(one.mappings, one.attrs) for one in listed] == [(0, ())] * 4
    assert outside(listed, area) == []


def test_buffers_share_no_page_and_take_no_more(helper: Helper, used: Callable[[], int]) -> None:
    before = used()
    for size, align in ((1, 0), (5000, 0), (300 * KIB, 0), (PAGE, 4 * MIB), (MIB, 2 * MIB)):
        helper.alloc(size, align=align)
    listed = helper.list()
    assert len({one.handle for one in listed} - {0}) == 5
    assert overlapping(listed) == []
    assert used() - before == sum(pages(one.allocated) for one in listed)


def test_free_frees_that_buffer(helper: Helper, used: Callable[[], int]) -> None:
    before = used()
    first, second, third = (helper.alloc(size) for size in (PAGE, 64 * KIB, PAGE))
    helper.free(second.handle)
    assert [one.handle for one in helper.list()] == [first.handle, third.handle]
    assert used() - before == 2


def test_buffers_are_aligned_as_asked(helper: Helper) -> None:
    helper.alloc(PAGE)  # so that the area's next free page has no alignment of its own
    asked = {align: helper.alloc(PAGE, align=align) for align in (8 * KIB, 64 * KIB, MIB, 4 * MIB)}
    assert {align: made.dma_address % align for align, made in asked.items()} == dict.fromkeys(
        asked, 0
    )


@pytest.mark.usefixtures("area")
def test_alignment_beyond_the_natural_one_costs_its_slack(helper: Helper) -> None:
    helper.alloc(MIB, align=MIB)  # what a buffer of 1 MiB has by itself
    helper.alloc(MIB, align=4 * MIB)
    assert [one.allocated for one in helper.list()] == [MIB, 5 * MIB - PAGE]


def test_buffers_with_attributes_work(helper: Helper, area: LiveArea) -> None:
    single = [("write-combine",), ("no-kernel-mapping",), ("force-contiguous",), ("no-warn",)]
    sets = [*single, tuple(attr for attrs in single for attr in attrs)]
    made = [helper.alloc(64 * KIB, attrs=attrs).handle for attrs in sets]
    listed = helper.list()
    assert [(one.handle, one.attrs) for one in listed] == list(zip(made, sets, strict=True))
    assert outside(listed, area) == []
    for pattern, handle in enumerate(made, start=1):
        helper.fill(handle, pattern)
    assert all(helper.check(handle, pattern).good for pattern, handle in enumerate(made, start=1))


@pytest.mark.parametrize(("attrs", "told"), [((), True), (("no-warn",), False)], ids=["", "not"])
def test_the_kernel_tells_a_failure_unless_asked_not_to(
    helper: Helper, area: LiveArea, kernel_log: Log, attrs: tuple[str, ...], told: bool
) -> None:
    helper.alloc(PAGE)
    assert errno_of(lambda: helper.alloc(area.size, attrs=attrs)) == "ENOSPC"
    assert any("alloc failed" in line for line in kernel_log()) is told


def test_nowait_never_takes_from_the_area(helper: Helper, used: Callable[[], int]) -> None:
    before = used()
    helper.alloc(16 * KIB, nowait=True)
    assert used() == before
    # ARM's atomic pool has 256 KiB; the area itself could serve 1 MiB.
    assert errno_of(lambda: helper.alloc(MIB, nowait=True)) == "ENOSPC"
    helper.alloc(MIB)


def test_the_atomic_pool_has_all_that_the_kernel_said_at_boot(
    guest: Guest, helper: Helper, area: LiveArea
) -> None:
    """One buffer of just that size, and then no page more: atomic_pool_init() of
    arch/arm/mm/dma-mapping.c gives the pages to the pool, and the area has them as in use."""
    boot = guest.console.text(0, guest.console.position).decode("utf-8", "replace")
    told = re.search(r"DMA: preallocated (\d+) KiB pool for atomic coherent allocations", boot)
    assert told
    buffer = helper.alloc(int(told[1]) * KIB, nowait=True)
    assert area.base <= buffer.dma_address
    assert buffer.dma_address + buffer.size <= area.end
    assert errno_of(lambda: helper.alloc(PAGE, nowait=True, attrs=("no-warn",))) == "ENOSPC"
    helper.free(buffer.handle)
    helper.alloc(PAGE, nowait=True)


def test_a_refused_alloc_has_its_errno_and_takes_nothing(
    helper: Helper, used: Callable[[], int]
) -> None:
    before = used()
    due = {
        (0, 0): "EINVAL",
        (PAGE, 3): "EINVAL",
        (PAGE, 3 * PAGE): "EINVAL",
        (SIZE_MAX + 1, 0): "EOVERFLOW",
        (PAGE, SIZE_MAX + 1): "EOVERFLOW",
        (SIZE_MAX, 0): "ENOSPC",  # rounded up to pages it wraps to zero
        (SIZE_MAX - PAGE, 1 << 31): "ENOSPC",  # it wraps with the slack for its alignment
        (1 << 30, 0): "ENOSPC",
    }
    got = {(size, align): errno_of(partial(helper.alloc, size, align=align)) for size, align in due}
    assert got == due
    assert (helper.list(), used()) == ((), before)


def test_a_handle_that_is_not_alive_is_enoent(helper: Helper) -> None:
    handle = helper.alloc(PAGE).handle
    calls = {
        "never": lambda: helper.free(handle + 1),
        "zero": lambda: helper.free(0),
        "alive": lambda: helper.free(handle),
        "freed": lambda: helper.free(handle),
        "mapped": lambda: helper.fill(handle, 0),
    }
    assert {name: errno_of(call) for name, call in calls.items()} == {
        "never": "ENOENT",
        "zero": "ENOENT",
        "alive": "ok",
        "freed": "ENOENT",
        "mapped": "ENOENT",
    }


@pytest.mark.usefixtures("area")
def test_what_is_filled_stays_in_its_buffer(helper: Helper) -> None:
    patterns = {
        helper.alloc(size, align=align).handle: index
        for index, (size, align) in enumerate(((5000, 0), (MIB, 0), (12 * KIB, 4 * MIB)), start=1)
    }
    filled = [helper.fill(handle, pattern) for handle, pattern in patterns.items()]
    assert filled == [5000, MIB, 12 * KIB]
    results = [helper.check(handle, pattern) for handle, pattern in patterns.items()]
    assert [(result.size, result.bad) for result in results] == [(size, 0) for size in filled]
    other = helper.check(next(iter(patterns)), 0x7F)
    assert (other.bad, other.first_bad) == (5000, 0)


@pytest.mark.usefixtures("area")
def test_a_new_buffer_is_zero(helper: Helper) -> None:
    """Nothing else zeroes it: the kernel is configured without CONFIG_INIT_ON_ALLOC_DEFAULT_ON."""
    old = helper.alloc(256 * KIB)
    helper.fill(old.handle, 0xFF)
    helper.free(old.handle)
    new = helper.alloc(256 * KIB)
    assert new.dma_address == old.dma_address, "first fit gives the same pages again"
    assert helper.check(new.handle, 0).good


@contextmanager
def held_mapping(guest: Guest, buffer: Buffer) -> Iterator[None]:
    """Hold a mapping of the buffer from another process."""
    handle = buffer.handle
    pid = guest.run(
        f"cma-ctl map {handle} 60 >/tmp/held 2>&1 & echo $!; until [ -s /tmp/held ]; do :; done"
    ).checked("mapping")
    try:
        yield
    finally:
        mapped = f'cma-ctl list | grep -q \'"handle": {handle},.*"mappings": [1-9]\''
        guest.run(f"kill {pid.strip()}; while {mapped}; do :; done").checked("unmapping")


def test_a_mapped_buffer_is_busy_until_it_is_unmapped(guest: Guest, helper: Helper) -> None:
    made = helper.alloc(64 * KIB)
    with held_mapping(guest, made):
        assert [one.mappings for one in helper.list()] == [1]
        assert errno_of(lambda: helper.free(made.handle)) == "EBUSY"
        assert errno_of(helper.read_oldest) == "EBUSY"
        assert guest.run("rmmod cma_test").status != 0
        assert [one.handle for one in helper.list()] == [made.handle]
    helper.free(made.handle)
    assert helper.list() == ()


CHURN, ROUNDS, LIVE = 2, 25, 12
AT_ONCE = f"""
churn() {{ i=0; while [ $i -lt {ROUNDS} ]
    do cat /dev/cma_test && echo 16 >/dev/cma_test; i=$((i+1)); done 2>/dev/null; }}
for n in $(seq {CHURN}); do churn & done
while jobs | grep -q Running; do cma-ctl list; echo; done
wait
"""


def snapshots(text: str) -> list[list[LiveBuffer]]:
    """What several lists printed, each ended by an empty line."""
    return [
        [LiveBuffer(**{**json.loads(line), "attrs": ()}) for line in one.splitlines()]
        for one in text.split("\n\n")[:-1]
    ]


@pytest.mark.long
def test_a_list_during_frees_is_a_moment_that_was(
    guest: Guest, helper: Helper, area: LiveArea
) -> None:
    for _ in range(LIVE):
        helper.write_kib(16)
    seen = snapshots(guest.run(AT_ONCE).checked("churning and listing"))
    assert len({tuple(one.handle for one in shot) for shot in seen}) > 1, "nothing was churned"
    for shot in seen:
        assert LIVE - CHURN <= len(shot) <= LIVE
        assert len({one.handle for one in shot}) == len(shot)
        assert overlapping(shot) == []
        assert outside(shot, area) == []
    assert len(helper.list()) == LIVE


# attempt: (errno, buffers alive after it)
MISUSES = {
    "unknown-ioctl": ("ENOTTY", 0),
    "write-nowhere": ("EFAULT", 0),
    "version-nowhere": ("EFAULT", 0),
    "alloc-nowhere": ("EFAULT", 0),
    "alloc-reserved": ("EINVAL", 0),
    "alloc-attrs": ("EINVAL", 0),
    "alloc-gfp": ("EINVAL", 0),
    "alloc-unstorable": ("EFAULT", 0),
    "list-nowhere": ("EFAULT", 1),
    "list-unstorable": ("EFAULT", 1),
    "free-nowhere": ("EFAULT", 1),
    "free-reserved": ("EINVAL", 1),
    "free-unstorable": ("EFAULT", 0),  # freed all the same
    "map-private": ("EINVAL", 1),
    "map-too-long": ("EINVAL", 1),
    "map-no-handle": ("ENOENT", 1),
    "map-failed-free": ("ok", 0),
    "free-half-mapped": ("EBUSY", 1),
    "free-mapped-by-child": ("EBUSY", 1),
    "free-unmapped": ("ok", 0),
}


def test_misuse_gets_its_errno_and_changes_nothing(
    guest: Guest, helper: Helper, cell: Prepared, tmp_path: Path, used: Callable[[], int]
) -> None:
    before = used()
    source, program = Path(__file__).with_name("misuse.c"), tmp_path / "misuse"
    flags = ("-O2", "-static", "-s", "-Wall", "-Wextra", "-Werror", f"-I{KMOD / 'cma_test'}")
    compiler = f"{cell.kernel.toolchain.prefix}gcc"
    process.run([compiler, *flags, "-o", str(program), str(source)])
    guest.put(program, "/tmp/misuse")
    told = guest.run("/tmp/misuse").checked("misuse")
    got = {
        attempt: (errno, int(live)) for attempt, errno, live in map(str.split, told.splitlines())
    }
    assert got == MISUSES
    assert used() == before
