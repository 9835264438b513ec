"""Barry Song's interface, v4 (2012): a write allocates, a read frees the oldest.

The errnos, the counts and the log lines are those of his "mm: cma: add a simple kernel module as
the helper to test CMA"; kmod/cma_test/cma_test_uapi.h says what is ours to say about them. ENOMEM
(no memory for the bookkeeping) needs fault injection, which the kernels here are built without.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest
from placement import outside, overlapping

from harness.cma.answers import ProgramError
from harness.cma.areas import LiveArea
from harness.cma.helper import Helper
from harness.guest.guest import Guest

KIB = 1 << 10
DEVICE = "misc cma_test: "
NO_ROOM = "no mem in CMA area"
# Hashed; "(ptrval)" until the kernel has random bytes: lib/vsprintf.c, since 4.15.
HIDDEN = "(ptrval)"
VIRT = rf"([0-9a-f]{{8}}|{re.escape(HIDDEN)})"
ALLOC = re.compile(rf"alloc: virt: {VIRT} dma: (0x[0-9a-f]{{8}}) size: (\d+)K")
FREE = re.compile(rf"free: CM virt: {VIRT} dma: (0x[0-9a-f]{{8}}) size:(\d+)K")

Log = Callable[[], tuple[str, ...]]

REFUSED = {
    "0": "EINVAL",
    "0x0": "EINVAL",
    "": "EINVAL",
    "lots": "EINVAL",
    "12k": "EINVAL",
    "1 2": "EINVAL",
    "-1": "EINVAL",
    "08": "EINVAL",  # octal, by its first digit
    "4194304": "EOVERFLOW",  # SIZE_MAX / 1024 + 1
    "4294967295": "EOVERFLOW",  # ULONG_MAX
    "4294967296": "ERANGE",
    "4194303": "ENOSPC",  # the most that passes; rounded up to pages it wraps to zero
}


def device_lines(log: Log) -> list[str]:
    """What /dev/cma_test said in the kernel's log."""
    return [line.removeprefix(DEVICE) for line in log() if line.startswith(DEVICE)]


def answer(helper: Helper, text: str) -> str:
    """The errno that a write of `text` gets, or what it returned."""
    try:
        return str(helper.write_kib(text))
    except ProgramError as error:
        return error.errno_name


def test_a_wrong_number_gets_its_errno(helper: Helper) -> None:
    assert {text: answer(helper, text) for text in REFUSED} == REFUSED


def test_a_refused_write_allocates_nothing(helper: Helper, used: Callable[[], int]) -> None:
    before = used()
    for text in ("0", "4194304", "4294967296", "4194303"):
        answer(helper, text)
    assert (helper.list(), used()) == ((), before)


def test_a_number_is_in_base_0_and_in_kib(helper: Helper) -> None:
    texts = ("64", "0x40", "0100", "64\n")
    assert [helper.write_kib(text) for text in texts] == [len(text) for text in texts]
    assert [buffer.size for buffer in helper.list()] == [64 * KIB] * len(texts)


def test_a_buffer_takes_its_pages_and_gives_them_back(
    helper: Helper, used: Callable[[], int]
) -> None:
    seen = [used()]
    for kib in (9, 1):
        helper.write_kib(kib)
        seen.append(used())
    helper.read_oldest()
    assert [count - seen[0] for count in (*seen, used())] == [0, 3, 4, 1]


def test_reads_free_the_oldest_first_and_return_zero(helper: Helper) -> None:
    for kib in (4, 8, 12):
        helper.write_kib(kib)
    left = []
    while buffers := helper.list():
        left.append([buffer.size // KIB for buffer in buffers])
        assert helper.read_oldest() == 0
    assert left == [[4, 8, 12], [8, 12], [12]]


def test_reads_free_what_the_ioctl_made_in_its_turn(helper: Helper) -> None:
    helper.write_kib(4)
    helper.alloc(8 * KIB)
    helper.write_kib(12)
    helper.read_oldest()
    helper.read_oldest()
    assert [buffer.size for buffer in helper.list()] == [12 * KIB]


def test_a_read_without_buffers_is_eidrm(helper: Helper) -> None:
    for _ in range(2):  # a device that never had one, and one whose last was freed
        with pytest.raises(ProgramError, match=r"answered EIDRM$"):
            helper.read_oldest()
        helper.write_kib(4)
        helper.read_oldest()


def test_a_shell_is_all_it_takes(guest: Guest, helper: Helper) -> None:
    done = guest.run("echo 16 >/dev/cma_test && wc -c </dev/cma_test && wc -c </dev/cma_test")
    assert (done.status, done.output.splitlines()[0]) == (1, "0"), done.output
    assert "Identifier removed" in done.output


def test_loading_registers_the_device(guest: Guest, helper: Helper, kernel_log: Log) -> None:
    guest.run("rmmod cma_test && insmod /lib/cma/cma_test.ko").checked("loading again")
    assert device_lines(kernel_log) == ["registered."]


def test_the_log_tells_the_address_that_list_tells(helper: Helper, kernel_log: Log) -> None:
    for kib in (1024, 7):
        helper.write_kib(kib)
    told = [ALLOC.fullmatch(line) for line in device_lines(kernel_log)]
    assert [one and (int(one[2], 16), int(one[3]) * KIB) for one in told] == [
        (buffer.dma_address, buffer.size) for buffer in helper.list()
    ]


def test_the_log_tells_a_free_as_its_allocation(helper: Helper, kernel_log: Log) -> None:
    helper.write_kib(1024)
    helper.read_oldest()
    alloc, free = device_lines(kernel_log)
    made, freed = ALLOC.fullmatch(alloc), FREE.fullmatch(free)
    assert made, alloc
    assert freed, free
    assert freed.groups()[1:] == made.groups()[1:]
    assert made[1] in (freed[1], HIDDEN)


def test_the_log_tells_a_failed_allocation_only(helper: Helper, kernel_log: Log) -> None:
    answers = [answer(helper, text) for text in ("0", "4194304", "4194303")]
    assert answers == ["EINVAL", "EOVERFLOW", "ENOSPC"]
    assert device_lines(kernel_log) == [NO_ROOM]


def test_buffers_lie_in_the_default_area(helper: Helper, area: LiveArea) -> None:
    for kib in (4, 1024, 100):
        helper.write_kib(kib)
    assert outside(helper.list(), area) == []


def test_unloading_frees_what_is_left(
    guest: Guest, helper: Helper, used: Callable[[], int]
) -> None:
    before = used()
    for kib in (4, 100, 2048):
        helper.write_kib(kib)
    helper.alloc(64 * KIB, align=1 << 22)
    held = used()
    guest.run("rmmod cma_test").checked("unloading with live buffers")
    after = used()
    guest.run("insmod /lib/cma/cma_test.ko").checked("loading again, as `helper` left it")
    assert held > before
    assert after == before
    assert helper.list() == ()


def test_an_exhausted_area_recovers(
    guest: Guest, helper: Helper, area: LiveArea, kernel_log: Log, used: Callable[[], int]
) -> None:
    kib = area.size // 16 // KIB
    told = guest.run(f"while echo {kib} >/dev/cma_test; do :; done").output
    assert "No space left on device" in told
    assert device_lines(kernel_log)[-1] == NO_ROOM
    first, *others = helper.list()
    assert overlapping([first, *others]) == []
    helper.read_oldest()
    helper.write_kib(kib)
    assert answer(helper, str(kib)) == "ENOSPC"
    *before, last = helper.list()
    assert (before, last.dma_address) == (others, first.dma_address)
    guest.run("while cat /dev/cma_test; do :; done")
    assert (helper.list(), used()) == ((), area.used)


WRITERS, WRITES = 3, 16
READERS, READS = 2, 12
AT_ONCE = f"""
write() {{ i=0; while [ $i -lt {WRITES} ]
    do echo 64 >/dev/cma_test || echo lost; i=$((i+1)); done; }}
read_() {{ i=0; while [ $i -lt {READS} ]
    do cat /dev/cma_test 2>/dev/null && i=$((i+1)); done; }}
for n in $(seq {WRITERS}); do write & done
for n in $(seq {READERS}); do read_ & done
wait
"""


def test_writers_and_readers_at_once_lose_nothing(
    guest: Guest, helper: Helper, kernel_log: Log, used: Callable[[], int]
) -> None:
    before = used()
    assert guest.run(AT_ONCE, timeout=30).checked("writers and readers") == ""
    buffers = helper.list()
    assert len(buffers) == WRITERS * WRITES - READERS * READS
    assert overlapping(buffers) == []
    assert len({buffer.handle for buffer in buffers}) == len(buffers)
    assert used() - before == len(buffers) * 16
    # Each address was handed out once more than it came back if it is alive, else as often.
    lines = device_lines(kernel_log)
    balance = Counter(found[2] for line in lines if (found := ALLOC.fullmatch(line)))
    balance.subtract(found[2] for line in lines if (found := FREE.fullmatch(line)))
    assert {int(address, 16): n for address, n in balance.items() if n} == {
        buffer.dma_address: 1 for buffer in buffers
    }
