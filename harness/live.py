"""A cell that runs: its guest, booted when first needed, verified, and replaced when damaged."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import ktap
from harness.cell import Prepared
from harness.closing import Closing
from harness.cma import areas, reality
from harness.cma.areas import Survey
from harness.errors import GuestDied, GuestError, KernelFaulted, LayoutMismatch
from harness.faults import Fault, extract
from harness.guest.guest import Guest
from harness.guest.machine import CONSOLE_LOG
from harness.guest.running import Running
from harness.guest.ssh import make_keys
from harness.image.initramfs import MODULES, File
from harness.kernel.kunit_elf import Suite
from harness.kernel.symbols import Symbols
from harness.results import from_ktap
from harness.results.record import Metric, Span
from harness.verdict import Verdict

BOOT_SECONDS = 60.0
_DRAIN_SECONDS = 60.0
_UNLOAD_SECONDS = 30.0
_SLICE = 1.0  # seconds between two looks at a case's deadline


_ABOUT_AREAS = re.compile(r"^\[.*(?:[Rr]eserved mem|\bcma\b|CMA).*\b", re.M)


class Unusable(GuestError):
    """The cell has no guest that counts; what for is in the layout's own verdict."""

    verdict = Verdict.LOST


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a case ended on the guest."""

    verdict: Verdict
    message: str
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    console: Span | None = None


class LiveCell(Closing):
    """Owns the one running guest of a cell; used from one thread."""

    def __init__(
        self, prepared: Prepared, directory: Path, *, append: str = "", gdb: bool = False
    ) -> None:
        self.prepared = prepared
        self.directory = directory.absolute()
        self.boots: list[float] = []
        self.argv: tuple[str, ...] = ()
        self.qemu_version = ""
        self.survey: Survey | None = None
        self._append = append
        self._gdb = gdb
        self._guest: Guest | None = None
        self._why_not: GuestError | None = None
        self._symbols = Symbols(prepared.kernel.vmlinux, dict(prepared.modules))
        self._suites: dict[str, SuiteRun] = {}
        self._active: SuiteRun | None = None

    def guest(self) -> Guest:
        """Return the running guest; boot one, and compare it with the layout, if there is none.

        Raises `Unusable` when the guest did not boot or did not honour the layout, on every call
        from then on: nothing that such a guest says counts.
        """
        if self._active is not None and not self._active.ended:
            self._active.drain(_DRAIN_SECONDS)
        if self._why_not is not None:
            raise Unusable(f"not run: {self._why_not.what}", where=self._why_not.where)
        if self._guest is None:
            try:
                self._guest = self._boot()
                self._compare(self._guest)
            except GuestError as error:
                self._why_not = error
                self.discard()
                raise Unusable(f"not run: {error.what}", where=error.where) from error
        return self._guest

    def verify(self) -> None:
        """Boot if need be; raise what makes the guest unusable, such as `LayoutMismatch`."""
        try:
            self.guest()
        except Unusable:
            assert self._why_not is not None
            raise self._why_not from None

    @property
    def running(self) -> Guest | None:
        """The guest, if one is running."""
        return self._guest

    def log_name(self) -> str:
        """The current console log's path below the cell's directory."""
        number = len(self.boots)
        return CONSOLE_LOG if number <= 1 else f"boot-{number}/{CONSOLE_LOG}"

    def outcome(self, module: str, suite: str, case: str, timeout: float) -> Outcome:
        """Return how a KUnit case ended; the module is loaded when its first case is asked for.

        `timeout` is in seconds, for each case.
        """
        if module not in self._suites:
            guest = self.guest()
            suites = self.prepared.modules.suites(module)
            self._suites[module] = self._active = SuiteRun(self, guest, module, suites)
        return self._suites[module].outcome(suite, case, timeout)

    def explain(self, faults: Sequence[Fault]) -> str:
        """Return what faulted and where, and the first report with its addresses resolved."""
        headline = self._symbols.headline(faults[0]).removeprefix(f"{Verdict.CRASH}: ")
        return f"{headline}\n{self._symbols.symbolise(faults[0].text)}"

    def explain_error(self, error: GuestError) -> str:
        """Return what happened to the guest: the fault if that was it, else the console's end."""
        faults = extract(error.what.encode()) if isinstance(error, KernelFaulted) else ()
        return self.explain(faults) if faults else f"{error}\n{error.tail}".strip()

    def span(self, start: int) -> Span | None:
        """Return the stretch of the running guest's console from `start` to its end so far."""
        if self._guest is None:
            return None
        end = self._guest.console.position
        return Span(log=self.log_name(), start=min(start, end), end=end)

    def discard(self) -> None:
        """End a guest that can no longer be trusted; the next one is booted when needed."""
        if self._guest is not None:
            self._guest.close()
            self._guest = None

    def close(self) -> None:
        """Power the guest off and let go of the symbols."""
        if self._guest is not None:
            self._guest.power_off()
            self._guest = None
        self._symbols.close()

    def _boot(self) -> Guest:
        number = len(self.boots) + 1
        directory = self.directory if number == 1 else self.directory / f"boot-{number}"
        directory.mkdir(parents=True, exist_ok=True)
        launch = self.prepared.launch(self._append)
        with tempfile.TemporaryDirectory(prefix="cma-keys-") as private:
            work = Path(private)
            keys = make_keys(work) if launch.network else None
            files = (
                {path: File(source, 0o600) for path, source in keys.files.items()} if keys else {}
            )
            initrd = directory / "initramfs.cpio"
            self.prepared.image.with_files(files, work, initrd)
            guest = Guest.boot(
                replace(launch, initrd=initrd), directory, keys, timeout=BOOT_SECONDS, gdb=self._gdb
            )
            self.boots.append(guest.boot_seconds)
            self.argv = guest.machine.argv
            self.qemu_version = guest.machine.version()
            if keys:
                assert guest.ssh  # logs in while the key's file is there
        return guest

    def _compare(self, guest: Guest) -> None:
        self.survey = areas.survey(guest)
        wrong = reality.differences(self.prepared.cell.layout, self.survey)
        if wrong:
            raise LayoutMismatch(
                "the kernel did not honour the layout: " + "; ".join(wrong),
                where=self.prepared.cell.name,
                next_step="see what the kernel said of it",
                tail="\n".join(
                    _ABOUT_AREAS.findall(guest.console.text().decode("utf-8", "replace"))
                ),
            )


class SuiteRun:
    """One load of a KUnit module: its cases' results, read from the console as they come."""

    def __init__(
        self, live: LiveCell, guest: Guest, module: str, suites: tuple[Suite, ...]
    ) -> None:
        self._live = live
        self._guest = guest
        self._module = module
        self._suites = {suite.name: suite for suite in suites}
        self._log = live.log_name()
        self._parser = ktap.Parser()
        self._results: dict[tuple[str, ...], Outcome] = {}
        self._end = ""  # why there will be no more results, once there will be none
        self._running = Running(guest.console, f"insmod {MODULES}/{module}.ko")

    @property
    def ended(self) -> bool:
        """Whether all results are in that will ever be."""
        return bool(self._end)

    def outcome(self, suite: str, name: str, timeout: float) -> Outcome:
        """Return how a case ended; wait up to `timeout` seconds for each next result.

        A case that never reports is LOST, unless the kernel faulted (CRASH) or the module hung
        (TIMEOUT) while it was the one that ran.
        """
        self._advance(timeout, (suite, name))
        lost = Outcome(Verdict.LOST, f"planned, never reported: {self._end}")
        return self._results.get((suite, name), lost)

    def drain(self, timeout: float) -> None:
        """Read on until the module's load has ended."""
        self._advance(timeout, None)

    def _advance(self, timeout: float, until: tuple[str, str] | None) -> None:
        deadline = time.monotonic() + timeout
        while not self._end and (until is None or until not in self._results):
            try:
                text = self._running.read(min(_SLICE, max(0.0, deadline - time.monotonic())))
            except GuestDied as error:
                self._finish(error.what)
                return
            finished = self._parser.feed(text)
            if finished:
                deadline = time.monotonic() + timeout
            self._keep(case for case in finished if len(case.path) == 2)
            if self._running.status is not None:
                self._finish(f"insmod ended with status {self._running.status}")
            elif time.monotonic() >= deadline:
                late = self._flush()
                if not late:
                    self._time_out(timeout)
                self._keep(late)
                deadline = time.monotonic() + timeout

    def _flush(self) -> tuple[ktap.Case, ...]:
        """Return the results that printk still held back.

        KUnit prints a result without a newline (kunit_log, 6.12), and printk keeps such a line
        until the next message, which a case that hangs may never cause.
        """
        with suppress(GuestError):  # a guest that is too ill to answer has nothing to add
            if self._guest.ssh:
                self._guest.ssh.run("echo cma-harness: a deadline has passed >/dev/kmsg", 5)
                return self._parser.feed(self._running.read(_SLICE))
        return ()

    def _time_out(self, timeout: float) -> None:
        open_case = self._parser.open_case or ()
        self._finish(f"no result came within {timeout:g} s")
        key = self._key(open_case, None)
        if key in self._results or open_case:
            span = self._results[key].console if key in self._results else None
            message = f"did not end within {timeout:g} s\n{self._guest.console.tail()}"
            self._results[key] = Outcome(Verdict.TIMEOUT, message, console=span)
        self._live.discard()

    def _finish(self, why: str) -> None:
        """Close the log, judge what has no result of its own, and leave the guest clean or dead."""
        self._end = why
        report = self._parser.close()
        self._keep(case for suite in report.cases for case in suite.cases)
        damaged = any(outcome.verdict is Verdict.CRASH for outcome in self._results.values())
        if damaged or self._running.status != 0:
            self._live.discard()
        else:
            self._unload()

    def _unload(self) -> None:
        done = self._guest.run(f"rmmod {self._module}", timeout=_UNLOAD_SECONDS)
        if done.status:
            raise GuestError(f"rmmod {self._module} failed: {done.output}", where=self._log)

    def _keep(self, cases: Iterable[ktap.Case]) -> None:
        for case in cases:
            self._results.setdefault(self._key(case.path, case.number), self._judge(case))

    def _key(self, path: tuple[str, ...], number: int | None) -> tuple[str, ...]:
        """Return suite and case; a case that did not say its name is known by its number."""
        if len(path) != 2 or path[0] not in self._suites:
            return path
        suite, name = path
        planned = self._suites[suite].cases
        if name == str(number) or (number is None and name.isdecimal()):
            index = int(name) - 1
            return (suite, planned[index].name) if index < len(planned) else path
        return path

    def _judge(self, case: ktap.Case) -> Outcome:
        start, end = self._running.start + case.span.start, self._running.start + case.span.end
        message = from_ktap.message(case)
        if case.verdict is Verdict.CRASH:
            faults = extract(self._guest.console.text(start, end))
            message = self._live.explain(faults) if faults else message
        if case.verdict is Verdict.LOST:
            message = f"planned, never reported: {self._end}"
        span = Span(log=self._log, start=start, end=end)
        return Outcome(case.verdict, message, from_ktap.metrics(case), span)
