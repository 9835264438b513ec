"""Faults: what starts one, what does not, and where a report ends.

The transcripts of tests/data/faults are serial consoles of a 6.12.117 ARM kernel under QEMU (from
the insmod on; the folder of the module's source is shortened). Texts of other versions are written
out below, as their sources print them.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import ktap
from harness.faults import (
    FAULT_PATTERN,
    FaultKind,
    extract,
    kind_of,
    starts_fault,
)
from harness.printk import strip_printk
from harness.verdict import Verdict

DATA = Path(__file__).parent.parent / "data" / "faults"

STARTS = [
    # kernel/panic.c
    (FaultKind.PANIC, "Kernel panic - not syncing: Fatal exception"),
    (FaultKind.PANIC, 'Kernel panic - not syncing: VFS: Unable to mount root fs on "" or (0,0)'),
    (FaultKind.PANIC, "Kernel panic - not syncing: System is deadlocked on memory"),
    (FaultKind.PANIC, "Kernel panic - not syncing: corrupted stack end detected inside scheduler"),
    # arch/arm/mm/fault.c: of 5.10, of 6.12
    (
        FaultKind.OOPS,
        "Unable to handle kernel NULL pointer dereference at virtual address 00000000",
    ),
    (
        FaultKind.OOPS,
        "Unable to handle kernel paging request at virtual address 07ec0000 when read",
    ),
    # arch/arm/kernel/traps.c
    (FaultKind.OOPS, "Internal error: Oops: 5 [#1] SMP ARM"),
    (FaultKind.OOPS, "Internal error: Oops - undefined instruction: 0 [#1] SMP THUMB2"),
    (FaultKind.OOPS, "Internal error: : 1008 [#1] SMP ARM"),
    (FaultKind.OOPS, "Bad mode in prefetch abort handler detected"),
    (FaultKind.OOPS, "Insufficient stack space to handle exception!"),
    (FaultKind.BUG, "Division by zero in kernel."),
    # lib/bug.c
    (FaultKind.BUG, "kernel BUG at mm/cma.c:451!"),
    (FaultKind.BUG, "Kernel BUG at cma_release+0x1/0x2 [verbose debug info unavailable]"),
    (FaultKind.BUG, "BUG: failure at mm/cma.c:1/cma_alloc()!"),
    (FaultKind.BUG, "BUG: mempool element poison mismatch"),
    # kernel/panic.c, __warn: through 6.12, of 7.x, and with CONFIG_DEBUG_BUGVERBOSE_DETAILED
    (FaultKind.WARNING, "WARNING: CPU: 0 PID: 1 at mm/page_alloc.c:4 __alloc_pages+0x1/0x2"),
    (FaultKind.WARNING, "WARNING: CPU: 0 PID: 1 at __alloc_pages+0x1/0x2"),
    (FaultKind.WARNING, "WARNING: mm/cma.c:12 at cma_alloc+0x12/0x34, CPU#0: insmod/51"),
    (
        FaultKind.WARNING,
        "WARNING: [!ptr && 1] kernel/sched/core.c:8511 at sched_init+0x2/0x4, CPU#0",
    ),
    (FaultKind.WARNING, "WARNING: at sched_init+0x20/0x410, CPU#0: swapper/0"),
    # kernel/locking/lockdep.c, kernel/sched/core.c, lib/smp_processor_id.c
    (FaultKind.LOCKDEP, "WARNING: possible circular locking dependency detected"),
    (FaultKind.LOCKDEP, "WARNING: possible recursive locking detected"),
    (FaultKind.LOCKDEP, "INFO: possible recursive locking detected"),
    (FaultKind.LOCKDEP, "WARNING: possible irq lock inversion dependency detected"),
    (FaultKind.LOCKDEP, "WARNING: inconsistent lock state"),
    (FaultKind.LOCKDEP, "WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected"),
    (FaultKind.LOCKDEP, "WARNING: suspicious RCU usage"),
    (FaultKind.LOCKDEP, "WARNING: bad unlock balance detected!"),
    (FaultKind.LOCKDEP, "WARNING: insmod/51 still has locks held!"),
    (FaultKind.LOCKDEP, "INFO: trying to register non-static key."),
    (FaultKind.LOCKDEP, "[ BUG: Invalid wait context ]"),
    (FaultKind.LOCKDEP, "BUG: sleeping function called from invalid context at mm/cma.c:1"),
    (FaultKind.LOCKDEP, "BUG: scheduling while atomic: insmod/53/0x00000200"),
    (FaultKind.LOCKDEP, "BUG: using smp_processor_id() in preemptible [00000000] code: insmod/1"),
    (FaultKind.LOCKDEP, "BUG: MAX_LOCKDEP_KEYS too low!"),
    # kernel/hung_task.c, kernel/rcu/tree_stall.h and tree_exp.h, kernel/watchdog.c
    (FaultKind.HUNG_TASK, "INFO: task insmod:51 blocked for more than 30 seconds."),
    (
        FaultKind.HUNG_TASK,
        "INFO: task kworker/u4:2:51 blocked in I/O wait for more than 30 seconds.",
    ),
    (FaultKind.RCU_STALL, "rcu: INFO: rcu_sched self-detected stall on CPU"),
    (FaultKind.RCU_STALL, "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:"),
    (FaultKind.RCU_STALL, "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: {"),
    (FaultKind.LOCKUP, "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [insmod:51]"),
    (
        FaultKind.LOCKUP,
        "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!",
    ),
    # mm/kasan/report.c, mm/kfence/report.c, lib/ubsan.c
    (FaultKind.SANITIZER, "BUG: KASAN: slab-out-of-bounds in cma_alloc+0x1/0x2"),
    (FaultKind.SANITIZER, "BUG: KFENCE: use-after-free read in cma_alloc+0x1/0x2"),
    (FaultKind.SANITIZER, "UBSAN: shift-out-of-bounds in mm/cma.c:12:3"),
    # mm/kmemleak.c, kernel/dma/debug.c: what they find beside WARN()s, and when they go blind
    (
        FaultKind.SANITIZER,
        "kmemleak: Cannot insert 0xc4b5a180 into the object search tree (overlaps existing)",
    ),
    (FaultKind.SANITIZER, "DMA-API: debugging out of memory - disabling"),
    (FaultKind.SANITIZER, "DMA-API: cacheline tracking ENOMEM, dma-debug disabled"),
    (
        FaultKind.WARNING,
        "WARNING: CPU: 0 PID: 61 at kernel/dma/debug.c:1024 check_unmap+0x4d1/0x7c8",
    ),
    # mm/page_alloc.c, mm/memory.c, mm/debug.c
    (FaultKind.BAD_PAGE, "BUG: Bad page state in process insmod  pfn:40ded"),
    (FaultKind.BAD_PAGE, "BUG: Bad page map in process insmod  pte:1 pmd:2"),
    (FaultKind.BAD_PAGE, "page dumped because: VM_BUG_ON_PAGE(PageTail(page))"),
    # lib/list_debug.c, lib/refcount.c, mm/slub.c
    (FaultKind.CORRUPTION, "list_add corruption. prev->next should be next (c1), but was c2."),
    (FaultKind.CORRUPTION, "list_del corruption, c1->next is LIST_POISON1 (00000100)"),
    (FaultKind.CORRUPTION, "refcount_t: underflow; use-after-free."),
    (FaultKind.CORRUPTION, "BUG kmalloc-64 (Tainted: G    B      ): Poison overwritten"),
    # mm/page_poison.c
    (FaultKind.CORRUPTION, "pagealloc: memory corruption"),
    (FaultKind.CORRUPTION, "pagealloc: single bit error"),
    # mm/oom_kill.c
    (FaultKind.OUT_OF_MEMORY, "Out of memory and no killable processes..."),
]

HARMLESS = [
    "ok 1 warning_test",
    "    ok 3 BUG: the name of a case",
    "    # Subtest: kernel_panic_test",
    "# BUG: quoted by a diagnostic",
    "    # a_case: WARNING: CPU: 0 PID: 1 at mm/cma.c:1 f+0x1/0x2",
    "    # a_case: EXPECTATION FAILED at lib/bug_test.c:12",
    "~ # echo BUG: told to",
    "dmesg | grep 'Kernel panic - not syncing: '",
    "WARNING: the option is deprecated",
    "WARNING: no console will be available to OS",
    "Warning: unable to open an initial console.",
    "INFO: lockdep is turned off.",
    "INFO: task insmod:51 is blocked on a mutex, but the owner is not found.",
    "Unhandled fault: alignment exception (0x001) at 0xb6f0a001",  # a program's; see the module
    "insmod: unhandled page fault (11) at 0x00000000, code 0x005",
    "insmod (51): undefined instruction: pc=b6f0a000",
    "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    "kmemleak: Cannot allocate a kmemleak_object structure",  # under memory pressure: see Blind
    "kmemleak: Kernel memory leak detector disabled",
    "DMA-API: preallocated 65536 debug entries",
    "DMA-API: debugging enabled by kernel config",
    "page dumped because: migration failure",
    "page dumped because: pagealloc: corrupted page details",  # the rest of a report
    "cma: __cma_alloc: pool: alloc failed, req-size: 4096 pages, ret: -12",
    "Out of memory: Killed process 51 (hog) total-vm:965000kB",
    "scratch: BUG: not at the start of the message",
    "---[ end trace 0000000000000000 ]---",
    "",
]

PREFIXES = [
    "",
    "<4>",
    "[    1.234567] ",
    "[12345.678901][   T12] ",
    "[    1.234567][    C0] ",
    "[T1] ",
]


@pytest.mark.parametrize(("kind", "line"), STARTS, ids=[line[:60] for _, line in STARTS])
def test_starts(kind, line):
    assert starts_fault(line.encode()) is kind
    for prefix in PREFIXES:
        console = f"ok 1 before\r\n{prefix}{line}\r\n".encode()
        match = FAULT_PATTERN.search(console)
        assert match, prefix
        assert kind_of(match) is kind
        assert starts_fault(strip_printk(f"{prefix}{line}".encode())) is kind


@pytest.mark.parametrize("line", [line for _, line in STARTS], ids=lambda line: line[:60])
def test_a_fault_in_a_case_is_the_verdict_of_the_case(line):
    log = f"KTAP version 1\n1..1\n[    1.234567] {line}\n[    1.234568] ok 1 a_case\n"
    (case,) = ktap.parse([log.encode()]).leaves()
    assert (case.verdict, case.message) == (Verdict.CRASH, line)


@pytest.mark.parametrize("line", HARMLESS)
def test_does_not_start(line):
    assert starts_fault(line.encode()) is None
    for prefix in PREFIXES:
        assert not FAULT_PATTERN.search(f"x\n{prefix}{line}\r\n".encode()), prefix


def test_a_fault_printed_behind_a_prompt():
    console = b"~ # [   12.345678] Kernel panic - not syncing: asked for\r\n"
    match = FAULT_PATTERN.search(console)
    assert match
    assert kind_of(match) is FaultKind.PANIC
    (fault,) = extract(console)
    assert fault.headline == "Kernel panic - not syncing: asked for"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[    1.234567] KTAP version 1", b"KTAP version 1"),
        (b"[    1.234567]     ok 1 a", b"    ok 1 a"),
        (b"<6>[    1.234567] a", b"a"),
        (b"<6>a", b"a"),
        (b"[    1.234567][   T12] a", b"a"),
        (b"[T1] a", b"a"),
        (b"[    T1]   a", b"  a"),
        (b"[    1.234567]", b""),
        (b"[ BUG: Invalid wait context ]", b"[ BUG: Invalid wait context ]"),
        (b"[<c0123456>] (f) from [<c0123456>] (g)", b"[<c0123456>] (f) from [<c0123456>] (g)"),
        (b"[00000000] *pgd=00000000", b"[00000000] *pgd=00000000"),
        (b"    ok 1 a", b"    ok 1 a"),
        (b"", b""),
    ],
)
def test_strip_printk(line, message):
    assert strip_printk(line) == message


TRANSCRIPTS = tomllib.loads((DATA / "expected.toml").read_text())


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcripts(name):
    console = (DATA / f"{name}.log").read_bytes()
    faults = extract(console)
    seen = [
        {
            "kind": fault.kind,
            "terminal": fault.terminal,
            "headline": fault.headline,
            "first": fault.text.partition("\n")[0],
            "last": fault.text.rpartition("\n")[2],
        }
        for fault in faults
    ]
    assert seen == TRANSCRIPTS[name]
    assert bool(FAULT_PATTERN.search(console)) == bool(faults)


def test_every_transcript_is_tested():
    assert {path.stem for path in DATA.glob("*.log")} == set(TRANSCRIPTS)


def test_a_report_has_no_prefixes_and_no_carriage_returns():
    (fault,) = extract((DATA / "oops-panics.log").read_bytes())
    assert "\r" not in fault.text
    assert "\nPC is at inner_read+0xa/0x32 [broken_oops]\n" in fault.text


def test_ktap_ends_a_report_that_has_no_end_marker():
    (fault,) = extract(b"BUG: Bad page state in process a  pfn:1\n    ok 2 a_case\n[ 1.0] more\n")
    assert fault.text == "BUG: Bad page state in process a  pfn:1"


def test_list_corruption_and_its_bug_are_one_report():
    # lib/list_debug.c with CONFIG_BUG_ON_DATA_CORRUPTION: pr_err(), then BUG().
    (fault,) = extract(
        b"list_add corruption. next is NULL.\n"
        b"------------[ cut here ]------------\n"
        b"kernel BUG at lib/list_debug.c:33!\n"
        b"Internal error: Oops - BUG: 0 [#1] SMP ARM\n"
        b"PC is at __list_add_valid_or_report+0x10/0x20\n"
        b" f from g+0x1/0x2\n"
        b"Code: e7f001f2\n"
        b"---[ end trace 0000000000000000 ]---\n"
        b"Kernel panic - not syncing: Fatal exception\n"
        b"CPU1: stopping\n"
        b"---[ end Kernel panic - not syncing: Fatal exception ]---\n"
        b"after\n"
    )
    assert (fault.kind, fault.terminal) == (FaultKind.CORRUPTION, True)
    assert fault.headline == "list_add corruption. next is NULL."
    assert fault.text.endswith("---[ end Kernel panic - not syncing: Fatal exception ]---")


def test_a_page_dump_belongs_to_the_bug_it_announces():
    (fault,) = extract(
        b"page: refcount:0 mapcount:0 mapping:00000000 index:0x0 pfn:0x40ef4\n"
        b"flags: 0x0(zone=0)\n"
        b"page dumped because: VM_BUG_ON_PAGE(page_ref_count(page) == 0)\n"
        b"------------[ cut here ]------------\n"
        b"kernel BUG at include/linux/mm.h:1134!\n"
        b"Internal error: Oops - BUG: 0 [#1] SMP ARM\n"
        b"---[ end trace 0000000000000000 ]---\n"
    )
    assert fault.kind is FaultKind.BAD_PAGE
    assert fault.text.startswith("page: refcount:0")
    assert "kernel BUG at" in fault.text


def test_panic_on_warn_makes_the_warning_terminal():
    (fault,) = extract(
        b"WARNING: CPU: 0 PID: 1 at mm/cma.c:1 f+0x1/0x2\n"
        b"Modules linked in:\n"
        b"Kernel panic - not syncing: kernel: panic_on_warn set ...\n"
    )
    assert (fault.kind, fault.terminal) == (FaultKind.WARNING, True)
    assert fault.headline == "WARNING: CPU: 0 PID: 1 at mm/cma.c:1 f+0x1/0x2"


def test_a_panic_later_on_is_a_fault_of_its_own():
    first, second = extract(
        b"WARNING: CPU: 0 PID: 1 at mm/cma.c:1 f+0x1/0x2\n---[ end trace 0 ]---\n"
        b"something else\nKernel panic - not syncing: Attempted to kill init!\n"
    )
    assert (first.kind, first.terminal) == (FaultKind.WARNING, False)
    assert (second.kind, second.terminal) == (FaultKind.PANIC, True)


def test_lockdep_goes_on_to_its_last_back_trace():
    report = (
        b"WARNING: possible circular locking dependency detected\n"
        b"insmod/51 is trying to acquire lock:\n"
        b"-> #1 (&b){+.+.}-{3:3}:\n"
        b"       lock_acquire+0x1/0x2\n"
        b"other info that might help us debug this:\n"
        b" *** DEADLOCK ***\n"
        b"stack backtrace:\n"
        b"CPU: 0 PID: 51 Comm: insmod Not tainted 5.10.223 #1\n"
        b"[<c0110000>] (unwind_backtrace) from [<c010c000>] (show_stack+0x10/0x14)\n"
        b"[<c010c000>] (show_stack) from [<c0a00000>] (dump_stack+0x98/0xac)"
    )
    (fault,) = extract(report + b"\ncma_test: loaded\n")
    assert fault.text.encode() == report


def test_two_oopses_in_a_row_are_two():
    oops = b"Internal error: Oops: 5 [#1] SMP ARM\n f from g+0x1/0x2\n---[ end trace 0 ]---\n"
    assert [fault.kind for fault in extract(oops + oops)] == [FaultKind.OOPS, FaultKind.OOPS]


def test_a_warning_after_a_bad_page_is_a_fault_of_its_own():
    page, warning = extract(
        b"BUG: Bad page state in process a  pfn:1\npage:c1 refcount:0\n f from g+0x1/0x2\n"
        b"------------[ cut here ]------------\nWARNING: at f+0x1/0x2, CPU#0: swapper/0\n"
    )
    assert (page.kind, warning.kind) == (FaultKind.BAD_PAGE, FaultKind.WARNING)
    assert page.text.endswith("f from g+0x1/0x2")
    assert warning.text.startswith("------------[ cut here")


def test_a_warning_goes_on_to_its_end_marker():
    # print_irqtrace_events() comes between the back trace and the marker.
    (fault,) = extract(
        b"WARNING: CPU: 0 PID: 1 at mm/cma.c:1 f+0x1/0x2\nCall trace:\n f from g+0x1/0x2\n"
        b"irq event stamp: 1234\nhardirqs last  enabled at (1233): f+0x1/0x2\n"
        b"---[ end trace 0000000000000000 ]---\nafter\n"
    )
    assert fault.text.endswith("---[ end trace 0000000000000000 ]---")


def test_a_reboot_ends_a_panic():
    (fault,) = extract(
        b"Kernel panic - not syncing: x\n[ 0.000000] Booting Linux on physical CPU 0x0\n"
    )
    assert fault.text == "Kernel panic - not syncing: x"


def test_a_report_is_bounded():
    console = b"Kernel panic - not syncing: x\n" + b"noise\n" * 5000
    (fault,) = extract(console)
    assert len(fault.text.split("\n")) == 1000


LINES = st.lists(
    st.one_of(
        st.sampled_from([line.encode() for _, line in STARTS]),
        st.sampled_from([line.encode() for line in HARMLESS]),
        st.sampled_from(
            [b"------------[ cut here ]------------", b"page:c1", b" f from g+0x1/0x2"]
        ),
        st.binary(max_size=40),
    ),
    max_size=30,
)


@given(LINES)
def test_any_console_is_read_and_no_fault_is_lost(lines):
    console = b"\n".join(lines)
    faults = extract(console)
    starts = [
        line for line in console.split(b"\n") if starts_fault(strip_printk(line.strip(b"\r")))
    ]
    assert bool(starts) == bool(faults)
    for fault in faults:
        assert fault.headline
        assert fault.text
    told = "\n".join(fault.text for fault in faults)
    for start in starts:
        assert strip_printk(start.strip(b"\r")).decode("utf-8", "replace") in told


def test_a_match_of_another_pattern_is_refused():
    match = re.search(b"a", b"a")
    assert match
    with pytest.raises(ValueError, match="not a match of FAULT_PATTERN"):
        kind_of(match)
