"""The one guest of a cell that runs: had when first needed, verified, and replaced when damaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import beginning, boots
from harness.beginning import Beginning
from harness.cell import Prepared
from harness.closing import Closing
from harness.cma import counters, reality
from harness.cma.areas import Survey
from harness.cma.audit import audit, audited
from harness.cma.counters import Snapshot
from harness.copies import Copies
from harness.coverage import counters as executed
from harness.errors import GuestError, KernelFaulted, LayoutMismatch
from harness.faults import Fault, extract
from harness.guest import kmemleak, marks
from harness.guest.guest import Guest
from harness.guest.machine import CONSOLE_LOG
from harness.kernel.symbols import Symbols
from harness.results.record import Span
from harness.verdict import Verdict


class Unusable(GuestError):
    """The cell has no guest that counts; what for is in the layout's own verdict."""

    verdict = Verdict.LOST


@dataclass(frozen=True, slots=True)
class How:
    """How a cell's guest is had.

    `append` is added to the kernel's command line, `gdb` lets a debugger join, with `force` a guest
    whose areas are not the layout's counts, and of `copies` it is one instead of booting.
    """

    append: str = ""
    gdb: bool = False
    force: bool = False
    copies: Copies | None = None


class CurrentGuest(Closing):
    """Owns the one running guest of a cell; used from one thread."""

    def __init__(self, prepared: Prepared, directory: Path, how: How) -> None:
        self.prepared = prepared
        self.directory = directory.absolute()
        self.boots: list[float] = []
        self.restored = how.copies is not None  # whether those are copies of a stored guest
        self.argv: tuple[str, ...] = ()
        self.qemu_version = ""
        self._how = how
        self._otherwise: LayoutMismatch | None = None
        self._guest: Guest | None = None
        self._since = 0  # where the running guest's console was when it was had
        self._why_not: GuestError | None = None
        own = {module.name: module.ko for module in prepared.external}
        self._symbols = Symbols(prepared.kernel.vmlinux, {**prepared.modules, **own})
        self._boots_tried = 0
        self._before: Snapshot | None = None  # what the case before left
        self._begun: Beginning | None = None  # what the guest had when it was verified

    def prepare(self) -> None:
        """Have what the first guest is restored from, if it is to be restored."""
        if self._how.copies is not None:
            self._how.copies.prepare(self.directory)

    def bare(self) -> Guest:
        """Return the running guest, which was compared with the layout; start one if need be.

        That is a copy of one that was, or one that boots now.

        Raises `Unusable` when the guest did not boot or did not honour the layout, on every call
        from then on: nothing that such a guest says counts. With `force` a guest whose areas are
        not the layout's is what was asked for.
        """
        if self._guest is not None and not self._guest.machine.alive:
            self.discard()
        if self._guest is None:
            self._tried(self._start)
        assert self._guest is not None
        return self._guest

    def _tried(self, step: Callable[[], object]) -> None:
        """Take a step towards a guest; if it fails there will be none."""
        if self._why_not is None:
            try:
                step()
            except GuestError as error:
                self._why_not = error
                self.discard()
        if (why := self._why_not) is not None:
            raise Unusable(f"not run: {why.what}", where=why.where) from why

    def verify(self) -> None:
        """Raise what makes the guest unusable, such as `LayoutMismatch`; boot it if none is stored.

        A mismatch is told here too when it was forced upon the guest, and others may use it.
        """
        try:
            self._tried(self._know) if self._how.copies else self.bare()
            if self._otherwise is not None:
                raise self._otherwise
        except Unusable:
            assert self._why_not is not None
            raise self._why_not from None

    def first_audit(self) -> tuple[str, ...]:
        """Return what was broken already when the guest had booted."""
        assert self._begun is not None
        return audit(None, self._begun.snapshot)

    def audited(self) -> tuple[str, ...]:
        """Return the names of the invariants that this kernel's files let us audit."""
        return audited(self._begun.snapshot) if self._begun else ()

    def audit(self, *, pages: bool) -> tuple[str, ...]:
        """Return what the case that has ended broke, or left behind; empty without a guest.

        `pages`: look at every page of the areas too, which takes longer.
        """
        guest = self._guest
        if guest is None or not guest.machine.alive:
            return ()
        before, self._before = self._before, None
        self._before = counters.take(guest.console, pages=pages)
        return audit(before, self._before)

    @property
    def survey(self) -> Survey | None:
        """The areas of the guest when it was verified."""
        return self._begun.survey if self._begun else None

    @property
    def running(self) -> Guest | None:
        """The guest, if one is running."""
        return self._guest

    def log_name(self) -> str:
        """The current console log's path below the cell's directory."""
        return str((self._boot_directory / CONSOLE_LOG).relative_to(self.directory))

    @property
    def _boot_directory(self) -> Path:
        number = self._boots_tried
        return self.directory if number <= 1 else self.directory / f"boot-{number}"

    @property
    def finds_leaks(self) -> bool:
        """Whether the kernel looks for memory that was lost."""
        return self.prepared.kernel.option(kmemleak.OPTION) == "y"

    def lost(self, aged: bool) -> str:
        """Return what the running guest's kernel has lost of its memory, "" for nothing.

        `aged` as for `kmemleak.scan`. Raises `Blind` where it was to look and does not.
        """
        if self._guest is None or not self.finds_leaks:
            return ""
        leaks = kmemleak.scan(self._guest.console, aged=aged)
        return self._symbols.symbolise(kmemleak.explain(leaks)) if leaks else ""

    def explain(self, faults: Sequence[Fault]) -> str:
        """Return what faulted and where, and the first report with its addresses resolved."""
        headline = self._symbols.headline(faults[0]).removeprefix(f"{Verdict.CRASH}: ")
        return f"{headline}\n{self._symbols.symbolise(faults[0].text)}"

    def doing(self) -> str:
        """Return what the guest does that does not get on, its addresses resolved."""
        assert self._guest is not None
        at, said = self._guest.doing()
        names = map(self._symbols.name, at)
        lines = [f"processor {n}: PC is at {name}" for n, name in enumerate(names)]
        return self._symbols.symbolise("\n".join([*lines, said]).strip())

    def explain_error(self, error: GuestError) -> str:
        """Return what happened to the guest: the fault if that was it, else the console's end."""
        faults = extract(error.what.encode()) if isinstance(error, KernelFaulted) else ()
        return self.explain(faults) if faults else f"{error}\n{error.tail}".strip()

    def span(self, start: int) -> Span | None:
        """Return the stretch of the running guest's console from `start` to its end so far."""
        if self._guest is None:
            return None
        end = self._guest.console.told
        return Span(log=self.log_name(), start=min(start, end), end=end)

    def said(self, start: int) -> tuple[str, ...]:
        """Return what the running guest's kernel has said from `start` on, but not as it booted."""
        if self._guest is None:
            return ()
        found = marks.messages(self._guest.console.text(max(start, self._since)))
        return tuple(found.decode("utf-8", "replace").splitlines())

    def discard(self) -> None:
        """End a guest that can no longer be trusted; the next one is booted when needed."""
        if self._guest is not None:
            executed.keep(self._guest, self.prepared.kernel, self._boot_directory)
            self._guest.close()
            self._guest = None
            self._before = None

    def close(self) -> None:
        """Power the guest off, and let go of the symbols.

        A copy is just ended.
        """
        if self._how.copies is not None:
            self.discard()
        if self._guest is not None:
            executed.keep(self._guest, self.prepared.kernel, self._boot_directory)
            self._guest.power_off()
            self._guest = None
        self._symbols.close()

    def _start(self) -> None:
        """Restore a copy of a guest that was verified; or boot one, and verify it."""
        if self._how.copies is not None:
            self._know()
            self._copy()
        else:
            self._have(self._boot())
            self._know()

    def _copy(self, *, waiting: bool = False) -> Guest:
        assert self._how.copies is not None
        guest = self._how.copies.start(self.directory, waiting=waiting)
        self._have(guest)
        # It may have been made again just now.
        self._begun = self._how.copies.beginning(self.directory, waiting=waiting)
        self._before = self._begun.snapshot
        return guest

    def _have(self, guest: Guest) -> None:
        self._guest = guest
        self._since = guest.console.position
        self.boots.append(guest.boot_seconds)
        self.argv = guest.machine.argv
        self.qemu_version = self.qemu_version or guest.machine.version()

    def _know(self) -> None:
        """Compare what the guest has with the layout: the one that boots, or that copies are of."""
        if self._how.copies is None:
            assert self._guest is not None
            self._begun = beginning.look(self._guest)
            self._before = self._begun.snapshot
        elif self._begun is None:
            self._begun = self._how.copies.beginning(self.directory)
        else:
            return
        try:
            self._compare(self._begun)
        except LayoutMismatch:
            if self._how.copies is not None:
                self._copy()  # whose console.log and boot.sh the run is to have
            raise

    def _boot(self) -> Guest:
        self._boots_tried += 1
        launch = self.prepared.launch(self._how.append)
        return boots.start(self.prepared, launch, self._boot_directory, gdb=self._how.gdb)

    def _compare(self, begun: Beginning) -> None:
        layout = self.prepared.cell.layout
        wrong = reality.differences(layout, begun.survey, self._how.append)
        if not wrong:
            return
        mismatch = LayoutMismatch(
            "the kernel did not honour the layout: " + "; ".join(wrong),
            where=self.prepared.cell.name,
            next_step="see what the kernel said of it",
            tail="\n".join(begun.messages),
        )
        if not self._how.force:
            raise mismatch
        self._otherwise = mismatch
