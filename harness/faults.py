"""The faults a kernel reports on its console: what starts one, where it ends, what it means.

Pure text, no input or output. Lines are bytes as they came from the serial port; what leaves this
module as `str` is UTF-8 with replacement characters and no line ends.

The texts are those of Linux 5.10 to 7.x, read in: arch/arm/kernel/traps.c (die, bad_mode,
handle_bad_stack, __div0), arch/arm/mm/fault.c (die_kernel_fault, in 5.10 __do_kernel_fault),
lib/bug.c, kernel/panic.c (panic, __warn, print_oops_end_marker), kernel/locking/lockdep.c,
kernel/sched/core.c (__might_resched), kernel/hung_task.c, kernel/rcu/tree_stall.h and tree_exp.h,
kernel/watchdog.c, mm/page_alloc.c (bad_page), mm/debug.c (dump_page), mm/slub.c (slab_bug),
mm/kasan/report.c, mm/kfence/report.c, lib/ubsan.c, lib/list_debug.c, lib/refcount.c,
mm/page_poison.c, mm/kmemleak.c, kernel/dma/debug.c (whose errors are WARN()s) and mm/oom_kill.c.
Three are left out on purpose:

* What kmemleak suspects: it does not know. See harness/guest/kmemleak.py for what is made of it.
* "Unhandled fault:", which is also said of a user program. If the kernel did it, "Internal error:"
  follows, and the line becomes that report's headline: a kernel with CONFIG_CPU_SW_DOMAIN_PAN says
  "Unhandled fault: page domain fault (0x01b) at 0x00000000" of a null pointer (seen on 6.12).
* Page dumps for the reason "migration failure", which alloc_contig_range() prints when dynamic
  debug asks for it (alloc_contig_dump_pages, since 5.13): for CMA these are ordinary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from harness.printk import CALLER, TIME, stamped_part, strip_printk


class FaultKind(StrEnum):
    """What sort of fault a report is; its value is the word used in reports."""

    PANIC = "panic"
    OOPS = "oops"
    BUG = "bug"
    WARNING = "warning"
    LOCKDEP = "lockdep"  # a rule of locking or of sleeping is broken
    HUNG_TASK = "hung task"
    RCU_STALL = "rcu stall"
    LOCKUP = "lockup"
    SANITIZER = "sanitizer"  # KASAN, KFENCE, KCSAN, UBSAN; a checker that had to switch itself off
    BAD_PAGE = "bad page"
    CORRUPTION = "corruption"  # a list, a reference count, a slab object, a poisoned page
    OUT_OF_MEMORY = "out of memory"


# Tried in this order, so the general "BUG: " comes last. Each begins with a literal that is rare
# on a console; a full match of the line is not needed, because a wait sees lines half arrived.
_TEXTS: tuple[tuple[FaultKind, str], ...] = (
    (FaultKind.PANIC, r"Kernel panic - not syncing"),
    (
        FaultKind.OOPS,
        r"Unable to handle kernel |Internal error: |Bad mode in [a-z ]+ handler detected"
        r"|Insufficient stack space to handle exception",
    ),
    (
        FaultKind.LOCKDEP,
        r"WARNING: (?:possible (?:circular|recursive|irq)|inconsistent lock state|[\w-]+-safe -> "
        r"|suspicious RCU usage|bad (?:unlock balance|contention) detected|held lock freed"
        r"|Nested lock was not taken|lock held when returning|chain_key collision"
        r"|[^:\s]{1,32}/\d+ still has locks held)"
        r"|INFO: (?:possible recursive locking|trying to register non-static key)"
        r"|\[ BUG: |BUG: (?:sleeping function|scheduling while atomic|scheduling in a non-blocking"
        r"|assuming (?:atomic|non migratable)|using \w+\(?\)? in preemptible|MAX_L|key )",
    ),
    # "CPU: 0 PID: 1 at FILE:LINE f+0x…" in 5.10 to 6.12; "FILE:LINE at f+0x…, CPU#0: …" in 7.x
    # (the order changed in 2025), the file behind "[condition] " if DEBUG_BUGVERBOSE_DETAILED.
    (
        FaultKind.WARNING,
        r"WARNING: (?:CPU: \d|at |\[[^\r\n]{1,200}\] [^\s:]{1,200}:\d|[^\s:\[]{1,200}:\d+ at )",
    ),
    (
        FaultKind.HUNG_TASK,
        r"INFO: task [^\r\n]{1,90}?(?:blocked (?:in I/O wait )?for more than)",
    ),
    (FaultKind.RCU_STALL, r"INFO: rcu\w* (?:self-)?detected "),
    (
        FaultKind.LOCKUP,
        r"BUG: (?:soft lockup|workqueue lockup|spinlock )|Watchdog detected hard LOCKUP",
    ),
    # kmemleak's books contradict an allocation; what it suspects to be lost is another matter.
    (
        FaultKind.SANITIZER,
        r"BUG: K(?:ASAN|FENCE|CSAN|MSAN): |UBSAN: |kmemleak: Cannot insert 0x"
        r"|DMA-API: (?:debugging out of memory|cacheline tracking ENOMEM)",
    ),
    (
        FaultKind.BAD_PAGE,
        r"BUG: (?:Bad page|Bad rss|non-zero pgtables)|page dumped because: VM_(?:BUG|WARN)_ON",
    ),
    (
        FaultKind.CORRUPTION,
        r"list_(?:add|del) (?:corruption|double)|refcount_t: |BUG [^\s(]+ \((?:Not t|T)ainted"
        r"|pagealloc: (?:single bit error|memory corruption)",
    ),
    (FaultKind.OUT_OF_MEMORY, r"Out of memory and no killable processes"),
    (FaultKind.BUG, r"[Kk]ernel BUG at |BUG: |Division by zero in kernel"),
)

_BODY = "(?:rcu: |(?:NMI )?watchdog: )?(?:{})".format(
    "|".join(f"(?P<{kind.name}>{text})" for kind, text in _TEXTS)
)
_START = re.compile(_BODY.encode())

FAULT_PATTERN = re.compile(rf"(?m)(?:^(?:<\d{{1,3}}>)?(?:{CALLER})?|{TIME}){_BODY}".encode())
"""Finds the start of any fault anywhere in console output, for an expect loop.

A fault begins a line, or follows printk's time stamp: the kernel prints into the middle of a
line when a shell has just written its prompt. Text further into a line never matches, so neither
the echo of a command, nor a KTAP diagnostic that quotes a fault ("# case: BUG: …"), nor a case
named "warning_test" does. Pass the match to `kind_of`.
"""

_CUT = re.compile(rb"(?:8<--- cut here ---|-+\[ cut here \]-+|page:)")
_END = re.compile(rb"---\[ end (?:trace|Kernel panic)|Rebooting in \d+ seconds")
_RESTARTED = re.compile(rb"(?:Booting Linux on physical CPU|U-Boot )")
_KTAP = re.compile(rb" *(?:(?:not )?ok \d|1\.\.\d|K?TAP version \d|# )")
_TRACE = re.compile(
    rb"(?:\[<[0-9a-f]{8}>\] \(.*\) from| \S+ from \S|Function entered at| r\d+:[0-9a-f]{8})"
)
# What may follow the first back trace inside one report: registers, dumps, chapters of lockdep's
# and KASAN's.
_AFTER_TRACE = re.compile(
    rb"(?:$|\s|Exception stack|Code: |Backtrace: |Call trace:|Register r|pc : |sp : |r\d+ ?: |"
    rb"[A-Z][A-Za-z]+: |[0-9a-f]{1,8}: [0-9a-f? ]|-> #|other info|stack backtrace|the existing|"
    rb"the shortest|and interrupt|\d+ locks? held|#\d+: |[=-]{10,}|Task dump|Sending NMI|"
    rb"NMI backtrace|rcu: |task:|Stack |\[<[0-9a-f]{8}>\]|Showing all locks|raw: |flags: |"
    rb"page: |page_type: |page dumped because: |Allocated by |Freed by |Last potentially |"
    rb"The buggy |Memory state |>[0-9a-f]{8}: )"
)

_LONGEST = 1000  # lines of one report; an 8 KiB stack in hex is 256 of them
_LONGEST_LEAD = 16  # lines from a cut mark to the line that names the fault

# A line that starts a fault on its own is a part of the report already open if that has announced
# it (before any back trace): what may come after what. A panic may come after anything: it is the
# consequence of whatever report it stands in.
_PART_OF: dict[FaultKind, frozenset[FaultKind]] = {
    FaultKind.OOPS: frozenset(
        {FaultKind.OOPS, FaultKind.BUG, FaultKind.CORRUPTION, FaultKind.BAD_PAGE}
    ),
    FaultKind.BUG: frozenset({FaultKind.CORRUPTION, FaultKind.BAD_PAGE}),
    FaultKind.WARNING: frozenset({FaultKind.CORRUPTION, FaultKind.BAD_PAGE}),
    FaultKind.CORRUPTION: frozenset({FaultKind.WARNING}),
}
# Reports that dump a page behind their back trace (dump_page): "page:" is then their part.
_DUMPING = frozenset({FaultKind.SANITIZER, FaultKind.CORRUPTION})
# Reports that end with "---[ end trace": what follows a back trace inside them is theirs too.
_MARKED = frozenset({FaultKind.OOPS, FaultKind.WARNING, FaultKind.PANIC})


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault report.

    `headline` is the line that names the fault, with the message of a WARN(); `text` is the whole
    report, one line per line, without printk's prefixes. `terminal` says that the kernel cannot
    go on: the report holds a panic (with panic_on_oops an oops does).
    """

    kind: FaultKind
    headline: str
    text: str
    terminal: bool


def starts_fault(line: bytes) -> FaultKind | None:
    """Tell what fault `line`, without printk's prefix, starts; None for any other line."""
    match = _START.match(line)
    return kind_of(match) if match else None


def kind_of(match: re.Match[bytes]) -> FaultKind:
    """Give the kind of fault that a match of `FAULT_PATTERN` found."""
    if match.lastgroup is None:
        raise ValueError(f"{match!r} is not a match of FAULT_PATTERN")
    return FaultKind[match.lastgroup]


@dataclass(slots=True)
class _Report:
    """A report while it is being read."""

    kind: FaultKind
    headline: bytes
    lines: list[bytes]
    terminal: bool = False
    marked: bool = False
    traced: bool = False
    ended: bool = False

    def finish(self) -> Fault:
        return Fault(
            self.kind,
            _text(self._headline()).strip(),
            "\n".join(_text(line) for line in self.lines).rstrip("\n"),
            self.terminal,
        )

    def _headline(self) -> bytes:
        """Add the message of WARN(1, …), which __warn() prints on the line after its own."""
        after = self.lines[self.lines.index(self.headline) + 1 :][:1]
        if self.kind is not FaultKind.WARNING or not after:
            return self.headline
        message = after[0]
        if not message or message.startswith((b"Modules linked in:", b"CPU: ", b"---[")):
            return self.headline
        return self.headline + b": " + message

    def takes(self, line: bytes) -> bool:
        """Whether a line that starts no fault still belongs to this report."""
        if self.ended or len(self.lines) >= _LONGEST or _RESTARTED.match(line):
            return False
        if self.terminal or _END.match(line):
            return True
        if _KTAP.match(line):
            return False
        if not self.traced or self.marked or _TRACE.match(line):
            return True
        return bool(_AFTER_TRACE.match(line))

    def add(self, line: bytes) -> None:
        self.lines.append(line)
        self.traced = self.traced or bool(_TRACE.match(line))
        self.ended = bool(_END.match(line))


@dataclass(slots=True)
class _Splitter:
    """Reads a console line by line; a report comes out when the line after it is seen."""

    report: _Report | None = None
    lead: list[bytes] = field(default_factory=list)

    def feed(self, line: bytes) -> Fault | None:
        kind = starts_fault(line)
        if kind is not None:
            return self._start(kind, line)
        if _CUT.match(line) and not self._in_dump():
            self.lead = [line]
            return None
        if self.lead and len(self.lead) < _LONGEST_LEAD and not _KTAP.match(line):
            self.lead.append(line)
            return None
        self.lead = []
        if self.report and not self.report.takes(line):
            return self.close()
        if self.report:
            self.report.add(line)
        return None

    def close(self) -> Fault | None:
        """Give the report that is open, if one is."""
        done, self.report = self.report, None
        return done.finish() if done else None

    def _in_dump(self) -> bool:
        """Whether a page dump is what the open report is made of ("page:" is then its part)."""
        return self.report is not None and (
            self.report.terminal
            or (self.report.kind is FaultKind.BAD_PAGE and not self.report.traced)
            or (self.report.kind in _DUMPING and self.report.traced)
        )

    def _start(self, kind: FaultKind, line: bytes) -> Fault | None:
        lead, self.lead = self.lead, []
        done = None
        if not self._is_part(kind):
            done = self.close()
            self.report = _Report(kind, _naming_line(lead, line), [])
        assert self.report is not None
        for each in (*lead, line):
            self.report.add(each)
        self.report.terminal = self.report.terminal or kind is FaultKind.PANIC
        self.report.marked = self.report.marked or kind in _MARKED
        return done

    def _is_part(self, kind: FaultKind) -> bool:
        """Whether a new start belongs to the report that is open."""
        report = self.report
        if report is None:
            return False
        if report.terminal or (report.ended and kind is not FaultKind.PANIC):
            return report.terminal and not report.ended
        announced = not report.traced and report.kind in _PART_OF.get(kind, frozenset())
        return announced or kind is FaultKind.PANIC


def extract(console: bytes) -> tuple[Fault, ...]:
    """Split the fault reports out of a stretch of console, oldest first.

    A report goes from its cut mark (if it has one) to "---[ end trace", "---[ end Kernel panic",
    or the first line that is no longer part of it; it is never longer than 1000 lines. A panic
    that follows another report at once is its consequence, and makes that report terminal.
    """
    return tuple(_faults(console))


def _faults(console: bytes) -> Iterator[Fault]:
    splitter = _Splitter()
    for line in console.split(b"\n"):
        fault = splitter.feed(_kernel_part(line.strip(b"\r")))
        if fault:
            yield fault
    last = splitter.close()
    if last:
        yield last


def _naming_line(lead: list[bytes], start: bytes) -> bytes:
    """Pick the line that names a fault.

    "Unhandled fault: page domain fault (0x01b) at 0x00000000" says more than the
    "Internal error: : 1b [#1] SMP ARM" that do_DataAbort() makes die() print after it.
    """
    return next((line for line in lead if line.startswith(b"Unhandled ")), start)


def _kernel_part(line: bytes) -> bytes:
    """Drop printk's prefix, and what a program had left on the line before (a shell's prompt)."""
    stamped = stamped_part(line)
    return strip_printk(line if stamped is None or _KTAP.match(line) else stamped)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
