"""One load of a module: its cases' results as they come, how the load went, and how it ended.

A module of the user's may have no cases that are known before; then the load has a verdict, which
rests on insmod's status, the kernel's faults, and KTAP where it prints any.

The end has a verdict of its own. insmod's status, a suite that says "not ok" over good cases, a
result that nobody planned, a fault outside every case and an rmmod that fails belong to no case,
and must not be lost with that.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from harness import ktap
from harness.cma import counters
from harness.cma.counters import Snapshot
from harness.errors import GuestDied, GuestError
from harness.faults import Fault, extract
from harness.guest import marks
from harness.guest.guest import Guest
from harness.guest.kmemleak import Blind
from harness.guest.running import Running
from harness.guest.waiting import Waiting
from harness.kernel.kunit_elf import Suite
from harness.ktap.tree import worse
from harness.results import from_ktap
from harness.results.record import Metric, Span
from harness.verdict import Verdict

# Modules heed it where it can be written to (harness.kernel.kunit_elf.chooses_cases).
KUNIT_FILTER = "/sys/module/kunit/parameters/filter_glob"
_START_SECONDS = 30.0
_UNLOAD_SECONDS = 30.0
_PRINT_SECONDS = 60.0  # a slow console prints 10 KiB a second
_OURS = "cma-harness: printed up to here "  # images/guest/cma-case.c says it too
_SLICE = 1.0  # seconds between two looks at a case's deadline
_NONE = "none.of-them"  # a filter that lets no case through
Key = tuple[str, int]  # a case: its suite's name, and its number in the suite's plan


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a case ended on the guest."""

    verdict: Verdict
    message: str
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    console: Span | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """A module to be loaded: its name, its place in the guest, and what is known of it before.

    `behind` are modules that it brings along, because it needs them. `lasting`: the kernel never
    unloads it. `external`: it is a user's own. `only`: KUnit runs this case alone, "SUITE.CASE".
    `shares_guest`: its cases need no guest of their own.
    """

    module: str
    place: str
    suites: tuple[Suite, ...] = ()
    parameters: tuple[str, ...] = ()
    behind: tuple[Load, ...] = ()
    lasting: bool = False
    external: bool = False
    only: str = ""
    shares_guest: bool = False

    def names(self, suite: str, number: int) -> bool:
        """Whether a case's name is its alone."""
        named = [each.cases for each in self.suites if each.name == suite]
        if len(named) != 1:
            return False
        (cases,) = named
        return [case.name for case in cases].count(cases[number - 1].name) == 1

    def alone(self, suite: str, number: int) -> Load:
        """Return the same with one case, which has the number 1 then."""
        (planned,) = (each for each in self.suites if each.name == suite)
        case = planned.cases[number - 1]
        return replace(self, suites=(replace(planned, cases=(case,)),), only=f"{suite}.{case.name}")

    def empty(self) -> Load:
        """Return the same without a case, for its load and its end alone."""
        return replace(self, suites=(), only=_NONE)

    @property
    def insmod(self) -> str:
        """What loads it."""
        own = shlex.join(["insmod", self.place, *self.parameters])
        filtered = [f"printf %s {shlex.quote(self.only)} >{KUNIT_FILTER}"] if self.only else []
        return " && ".join([*(other.insmod for other in self.behind), *filtered, own])

    @property
    def line(self) -> str:
        """What asks cma-case to load it, with nothing behind it."""
        return " ".join(["load", self.only, self.place, *self.parameters])

    @property
    def rmmod(self) -> str:
        """What unloads it."""
        names = (self.module, *(other.module for other in reversed(self.behind)))
        return " && ".join(f"rmmod {name}" for name in names)


class ModuleRun:
    """A module that was loaded on a guest. `explain` resolves faults; `log` names the console's.

    `lost` looks for memory that was lost and says what it found; it is told whether what it looks
    for is old enough to be seen at once. `doing` says what the guest does. With `waiting`,
    cma-case loads the module.
    """

    def __init__(
        self,
        guest: Guest,
        load: Load,
        log: str,
        explain: Callable[[Sequence[Fault]], str],
        lost: Callable[[bool], str],
        doing: Callable[[], str],
        waiting: Waiting | None = None,
    ) -> None:
        self.guest = guest
        self._load = load
        self._planned = {suite.name: [case.name for case in suite.cases] for suite in load.suites}
        self._log = log
        self._explain = explain
        self._lost = lost
        self._doing = doing
        self._waiting = waiting
        self._parser = ktap.Parser()
        self._results: dict[Key, Outcome] = {}
        self._why = ""  # why there will be no more results, once there will be none
        self._problems: list[str] = []
        self._loaded: Outcome | None = None
        self._ended: Outcome | None = None
        self._broke = Verdict.LOST  # what a load that never ended is
        self._report: ktap.Report | None = None
        self.damaged = False  # whether the guest must be replaced
        shell, command = (waiting, load.line) if waiting else (guest.console, load.insmod)
        self._mark = shell.begin(command, _START_SECONDS)
        self._running = Running(guest.console, self._mark)

    def outcome(self, suite: str, number: int, timeout: float) -> Outcome:
        """Return how a case ended; wait up to `timeout` seconds for each next result.

        A case that never reports is LOST, unless the kernel faulted (CRASH) or the module hung
        (TIMEOUT) while it was the one that ran.
        """
        self._advance(timeout, (suite, number))
        lost = Outcome(Verdict.LOST, f"planned, never reported: {self._why}")
        return self._results.get((suite, number), lost)

    def loaded(self, timeout: float) -> Outcome:
        """Wait for the end of the load, and return how it went; its message is what it said.

        For a module whose cases were not known before, and for one that stays while others run.
        """
        self._advance(timeout, None)
        if self._loaded is None:
            self._loaded = self._judge_load()
            self.damaged |= not self._loaded.verdict.good
        return self._loaded

    @property
    def ended(self) -> bool:
        """Whether `end` has an outcome already."""
        return self._ended is not None

    def end(self, timeout: float) -> Outcome:
        """Wait for the end of the load, unload the module, and return how all that went."""
        self._advance(timeout, None)
        if self._ended is None:
            self._ended = self._unload()
            self.damaged |= not self._ended.verdict.good
        return self._ended

    def spotless(self, timeout: float) -> bool:
        """Whether the load ended as it should, and said and did nothing that is not a case's."""
        self._advance(timeout, None)
        return self._running.status == 0 and not self._problems and not self._strays()

    def reading(self) -> Snapshot:
        """Return what cma-case read of CMA when the load had ended, which is to be well."""
        return counters.parse(self._running.output)

    def leave(self) -> None:
        """Have the console's shell unload the module that cma-case has loaded."""
        if self._waiting is not None:
            self._waiting.leave()
            self._waiting = None

    def _advance(self, timeout: float, until: Key | None) -> None:
        deadline = time.monotonic() + timeout
        while not self._why and (until is None or until not in self._results):
            try:
                text = self._running.read(min(_SLICE, max(0.0, deadline - time.monotonic())))
            except GuestDied as error:
                self.damaged = True
                self._finish(error.what)
                return
            finished = self._parser.feed(text)
            self._keep(finished)
            if self._running.status is not None:
                self._keep(self._catch_up())
                self._finish(f"insmod ended with status {self._running.status}")
            elif finished or self._flushed(deadline):
                deadline = time.monotonic() + timeout
            elif time.monotonic() >= deadline:
                self._time_out(timeout)

    def _catch_up(self) -> tuple[ktap.Case, ...]:
        """Return the cases whose results the kernel has still to print when insmod has ended.

        A console may have a thread that prints (nbcon, since 6.13; amba-pl011 of 7.3 has). Messages
        keep their order: one that is ours comes behind all that were said before.
        """
        late: tuple[ktap.Case, ...] = ()
        deadline = time.monotonic() + _PRINT_SECONDS
        with suppress(GuestDied):  # what it had said is there, and the next wait tells the rest
            last = self._last_words()
            while last not in self.guest.console.text(self._running.start):
                if time.monotonic() >= deadline:
                    self._problems.append(f"printk did not get on within {_PRINT_SECONDS:g} s")
                    break
                late += self._parser.feed(self.guest.console.read(_SLICE))
        return late

    def _last_words(self) -> bytes:
        """Return what the kernel logs behind all of the load's; cma-case has it log that."""
        if self._waiting is not None:
            return _OURS.encode() + self._mark
        text = _OURS.encode() + marks.fresh()
        self.guest.console.send(b"echo '%s' >/dev/kmsg\n" % text)
        return text

    def _flushed(self, deadline: float) -> bool:
        """Whether, at the deadline, printk still held back a result.

        KUnit prints a result without a newline (kunit_log, 6.12), and printk keeps such a line
        until the next message, which a case that hangs may never cause.
        """
        if time.monotonic() < deadline:
            return False
        late: tuple[ktap.Case, ...] = ()
        with suppress(GuestError):  # a guest that is too ill to answer has nothing to add
            self.guest.sysrq(b"h")  # its help is a message
            late = self._parser.feed(self._running.read(_SLICE))
        self._keep(late)
        return bool(late)

    def _time_out(self, timeout: float) -> None:
        self.damaged = True
        self._broke = Verdict.TIMEOUT
        open_case = self._parser.open_case or ()
        why = f"did not end within {timeout:g} s"
        self._finish(f"{self._load.module} {why}")
        if len(open_case) == 2 and open_case[1].isdecimal():
            key = (open_case[0], int(open_case[1]))
            before = self._results.get(key, Outcome(Verdict.LOST, ""))
            if before.verdict is Verdict.CRASH:
                hung = replace(before, message=f"{before.message}\nand {why}")
            else:
                message = f"{why}\n{self.guest.console.tail()}\n{self._doing()}"
                hung = replace(before, verdict=Verdict.TIMEOUT, message=message)
            self._results[key] = hung

    def _finish(self, why: str) -> None:
        """Close the log, and judge what has no result of its own."""
        self._why = why
        self._report = report = self._parser.close()
        for suite in report.cases:
            self._keep(suite.cases)
        if self._planned:
            self._problems += report.problems
            self._problems += (doubt for suite in report.cases for doubt in self._doubts(suite))
            if self._running.status not in (None, 0):
                self._problems.append(why)
        crashed = any(outcome.verdict is Verdict.CRASH for outcome in self._results.values())
        self.damaged |= crashed

    def _doubts(self, suite: ktap.Case) -> Iterator[str]:
        """Yield what a suite said that none of the planned cases can answer for."""
        planned = self._planned.get(suite.name)
        if planned is None:
            yield f"suite {suite.name!r}, which nobody planned, is {suite.verdict}"
            return
        yield from (f"suite {suite.name}: {problem}" for problem in suite.problems)
        if not suite.verdict.good and all(case.verdict.good for case in suite.cases):
            yield f"suite {suite.name} is {suite.verdict}, but none of its cases"
        for case in suite.cases:
            name = planned[case.number - 1] if 0 < case.number <= len(planned) else None
            if case.name not in (name, str(case.number)):
                wanted = f"{name!r} was planned" if name else "nobody planned it"
                yield f"result {case.number} of {suite.name} is {case.name!r}, {wanted}"

    def _judge_load(self) -> Outcome:
        """Judge the stretch of console from insmod on that no case answers for."""
        said = self._said(self._running.start)
        span = Span(log=self._log, start=self._running.start, end=self.guest.console.position)
        stray = self._strays()
        status = self._running.status
        if stray:
            return Outcome(Verdict.CRASH, self._explain(stray), console=span)
        if status is None:
            return Outcome(self._broke, f"{self._why}\n{self.guest.console.tail()}", console=span)
        if status:
            return Outcome(Verdict.FAIL, f"{self._running.output}\n{said}".strip(), console=span)
        if self._planned or self._report is None or not self._report.cases:
            return Outcome(Verdict.PASS, said, console=span)
        told = (f"{self._load.module} printed KTAP", *_told(self._report), said)
        return Outcome(self._report.verdict, "\n".join(told), console=span)

    def _strays(self) -> Sequence[Fault]:
        """Return the faults since insmod, or since the load was judged, that no case tells of."""
        if self._loaded is not None:
            return self.guest.console.take_faults()
        stray = [fault for text in self._between() for fault in extract(text)]
        self.guest.console.take_faults()  # those of the cases are told by the cases
        return stray

    def _unload(self) -> Outcome:
        if self._running.status is None:
            return Outcome(Verdict.LOST, f"not unloaded: {self._why}")
        if self._running.status and not self._planned:
            return Outcome(Verdict.SKIP, "not unloaded: it did not load")
        stray = self._strays()
        if stray:
            return Outcome(Verdict.CRASH, f"outside every case: {self._explain(stray)}")
        if self._load.lasting:
            self.damaged = True
            return Outcome(Verdict.SKIP, "not unloaded: it has no exit function, so it stays")
        start = self.guest.console.position
        try:
            # Before rmmod, while the functions of the module have names in a back trace; what its
            # variables still held is lost only behind it.
            blind = self._look_for_leaks(aged=False)
            if self._running.status == 0:
                done = self.guest.console.run(self._load.rmmod, _UNLOAD_SECONDS)
                if done.status:
                    self._problems.append(f"{self._load.rmmod}: {done.output.strip()}")
                blind = blind or self._look_for_leaks(aged=True)
        except GuestError as error:
            faults = extract(error.what.encode())
            told = self._explain(faults) if faults else f"{error}\n{error.tail}".strip()
            return Outcome(error.verdict, f"while it was unloaded: {told}")
        if self._problems:
            return Outcome(Verdict.FAIL, "\n".join(dict.fromkeys(self._problems)))
        if blind:
            return Outcome(Verdict.SKIP, blind)
        return Outcome(Verdict.PASS, self._said(start) if self._load.external else "")

    def _said(self, start: int) -> str:
        """Return the kernel's messages from an offset of console.log on."""
        found = marks.messages(self.guest.console.text(start)).splitlines(keepends=True)
        text = b"".join(line for line in found if _OURS.encode() not in line)
        return text.decode("utf-8", "replace").replace("\r", "").strip()

    def _look_for_leaks(self, *, aged: bool) -> str:
        """Note what was lost; return why the kernel does not look, where it does not."""
        try:
            self._problems += filter(None, [self._lost(aged)])
        except Blind as error:
            return error.what
        return ""

    def _between(self) -> Iterator[bytes]:
        """Yield the stretches of console that belong to no case."""
        at = self._running.start
        spans = [outcome.console for outcome in self._results.values() if outcome.console]
        for span in sorted(spans, key=lambda span: span.start):
            if span.start > at:
                yield self.guest.console.text(at, span.start)
            at = max(at, span.end)
        yield self.guest.console.text(at)

    def _keep(self, cases: Iterable[ktap.Case]) -> None:
        """Keep the results of cases; of two with one number the worse."""
        for case in cases:
            if len(case.path) == 2:
                key, outcome = (case.path[0], case.number), self._judge(case)
                known = self._results.get(key)
                if known is None or worse(known.verdict, outcome.verdict) is not known.verdict:
                    self._results[key] = outcome

    def _judge(self, case: ktap.Case) -> Outcome:
        start, end = self._running.start + case.span.start, self._running.start + case.span.end
        message = from_ktap.message(case)
        if case.verdict is Verdict.CRASH:
            faults = extract(self.guest.console.text(start, end))
            message = self._explain(faults) if faults else message
        if case.verdict is Verdict.LOST:
            message = f"planned, never reported: {self._why}"
        span = Span(log=self._log, start=start, end=end)
        return Outcome(from_ktap.verdict(case), message, from_ktap.metrics(case), span)


def _told(report: ktap.Report) -> Iterator[str]:
    """Yield how many cases ended how, what is wrong with the log, and what failed."""
    counts = report.counts
    yield ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict])
    yield from report.problems
    for case in report.leaves():
        if not case.verdict.good:
            yield f"{'.'.join(case.path)}: {from_ktap.message(case) or case.verdict}"
