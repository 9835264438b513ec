"""A cell that runs: its guest, and the modules whose cases run in it, together or each apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from harness.cell import Prepared
from harness.cma import counters
from harness.cma.audit import audit
from harness.cma.counters import Snapshot
from harness.current import CurrentGuest, How, Unusable
from harness.guest.guest import Guest
from harness.guest.waiting import Waiting
from harness.kernel.kunit_elf import chooses_cases
from harness.module_run import KUNIT_FILTER, Load, ModuleRun, Outcome
from harness.verdict import Verdict

_DRAIN_SECONDS = 60.0
_TOGETHER = (
    "its cases shared a guest: this kernel's KUnit cannot be told which of a module to run "
    f"({KUNIT_FILTER} cannot be written to)"
)


def unchanged(before: Snapshot | None, *looks: Callable[[], Snapshot]) -> bool:
    """Whether all is as it was; the next look is taken only if the one before found otherwise.

    The first may have been in the middle of something.
    """
    return any(not audit(before, look()) for look in looks)


class LiveCell(CurrentGuest):
    """Runs modules in the one guest of a cell; used from one thread."""

    def __init__(self, prepared: Prepared, directory: Path, how: How) -> None:
        super().__init__(prepared, directory, how)
        self._slow = prepared.cell.kernel.slow
        self._modules: dict[Load, ModuleRun] = {}
        self._active: Load | None = None  # the module whose cases run
        self._present: dict[Load, Snapshot | None] = {}  # those that stay, and what was before each
        self.staying: tuple[Load, ...] = ()  # what tests in Python find loaded, in this order

    def guest(self) -> Guest:
        """Return the running guest, as `bare`, with the modules in it that are to stay.

        Raises `Unusable` also when one of those does not load.
        """
        guest = self.bare()
        for load in self.staying:
            self._stay(load)
        return guest

    def bare(self) -> Guest:
        """Return the running guest, behind the end of the module that is active."""
        if self._active is not None:
            self._settle(self._active)
        return super().bare()

    def audit(self, *, pages: bool) -> tuple[str, ...]:
        """Return what the case that has ended broke; nothing is known while a module is active."""
        return () if self._active is not None else super().audit(pages=pages)

    def discard(self) -> None:
        """End the guest, and with it the modules that were to stay in it."""
        super().discard()
        self._present.clear()

    def close(self) -> None:
        """End all; a guest in the middle of a module is not powered off."""
        if self._active is not None:
            self.discard()
        super().close()

    def outcome(self, load: Load, suite: str, number: int, timeout: float) -> Outcome:
        """Return how a KUnit case ended: the one with that number in its suite's plan.

        The module is loaded when it is first asked for. `timeout` is in seconds, for each case.
        """
        return self._run(load).outcome(suite, number, timeout * self._slow)

    def alone(self, load: Load, suite: str, number: int, timeout: float) -> Outcome:
        """Return how a KUnit case ended on a copy of the guest that has run nothing else.

        With it count the audit and, if that finds something, the end of its module and the audit
        behind that. Where KUnit cannot run one case of a module (an older one, a name that two
        have), its cases share a copy that has run nothing else. Where there are no copies, and
        where modules are to stay for tests, all share one guest.
        """
        if not self._apart(load):
            return self.outcome(load, suite, number, timeout)
        self._tried(self._know)
        if not load.names(suite, number) or not self._chooses:
            if load not in self._modules:
                self._fresh()
            return self.outcome(load, suite, number, timeout)
        single = load.alone(suite, number)
        self._fresh()
        try:
            waiting = self._begin_waiting(single)
            found = self.outcome(single, suite, 1, timeout)
            if not found.verdict.good or (waiting and self._is_clean(single, waiting, timeout)):
                return found
            end = self._ended(single, timeout)
            if end.verdict.good:
                return found
            return replace(end, metrics=found.metrics, console=found.console)
        finally:
            self._forget(single)

    def end_apart(self, load: Load, timeout: float) -> Outcome:
        """Load a module without any of its cases, which have copies of their own, and unload it.

        With cases that shared a copy, that is the one which it ends in.
        """
        if not self._apart(load) or load in self._modules:
            end = self.module_end(load, timeout)
            together = self._apart(load) and not self._chooses
            return replace(end, message=f"{_TOGETHER}\n{end.message}") if together else end
        empty = load.empty()
        self._fresh()
        try:
            return self._ended(empty, timeout)
        finally:
            self._forget(empty)

    def all_alone(self, load: Load) -> bool:
        """Whether each case of a module would have a guest to itself, and its end too."""
        if not (self._apart(load) and self._chooses):
            return False
        return all(
            load.names(suite.name, number)
            for suite in load.suites
            for number in range(1, len(suite.cases) + 1)
        )

    @cached_property
    def _chooses(self) -> bool:
        return chooses_cases(self.prepared.kernel.vmlinux)

    def _apart(self, load: Load) -> bool:
        """Whether cases of a module can have guests of their own."""
        return self._how.copies is not None and load not in self.staying

    def _fresh(self) -> None:
        """Let go of the guest, and of what is loaded in it."""
        if self._active is not None:
            self._settle(self._active)
        self.discard()

    def _forget(self, load: Load) -> None:
        """End a copy that a load had for itself."""
        self._modules.pop(load, None)
        self._active = None
        self.discard()

    def _ended(self, load: Load, timeout: float) -> Outcome:
        """Return how a module ended and, if well, what it has left behind."""
        end = self.module_end(load, timeout)
        left = self.audit(pages=True) if end.verdict.good else ()
        return replace(end, verdict=Verdict.FAIL, message="\n".join(left)) if left else end

    def _begin_waiting(self, load: Load) -> Waiting | None:
        """Have cma-case load the module in a copy where it waits, if all can be judged there.

        Where the kernel looks for leaks it does so before and behind an rmmod.
        """
        if load.behind or self.finds_leaks:
            return None
        guest = self._copy(waiting=True)
        waiting = Waiting(guest.console)
        self._begin(load, guest, waiting)
        return waiting

    def _is_clean(self, load: Load, waiting: Waiting, timeout: float) -> bool:
        """Whether all is as it was before the module was loaded; if not, its unloading decides.

        The guest ends with the module in it. What was broken is judged behind an rmmod, for a
        module may hold what it frees then.
        """
        run = self._modules[load]
        looks = (run.reading, lambda: counters.take(waiting))
        if run.spotless(timeout * self._slow) and unchanged(self._before, *looks):
            return True
        if run.guest.machine.alive:
            run.leave()
        return False

    def load(self, load: Load, timeout: float) -> Outcome:
        """Load a module that has no cases of its own, and return how that went."""
        if self._apart(load) and not load.shares_guest and load not in self._modules:
            self._fresh()
        run = self._run(load)
        outcome = run.loaded(timeout * self._slow)
        if outcome.verdict is not Verdict.FAIL or not run.guest.machine.alive:
            return outcome
        self._active = None  # its init has failed: what it allocated, nobody will free
        left = self.audit(pages=True)
        self._active = load
        return replace(outcome, message="\n".join([outcome.message, *left]))

    def module_end(self, load: Load, timeout: float) -> Outcome:
        """Unload a module when its cases have ended, and return how that went."""
        run = self._run(load)
        if run.guest is not self._guest and not run.ended:
            return Outcome(Verdict.LOST, "not unloaded: the guest that had it is gone")
        outcome = run.end(timeout * self._slow)
        stayed = load in self._present
        if stayed:
            self._before = self._present.pop(load)
        if stayed or self._active == load:
            self._active = None
            if load.lasting:  # then what it holds is no leak
                outcome = replace(
                    outcome, message="\n".join([outcome.message, *self.audit(pages=False)])
                )
            if run.damaged:
                self.discard()
        return outcome

    def _run(self, load: Load) -> ModuleRun:
        return self._modules.get(load) or self._begin(load, self.bare())

    def _begin(self, load: Load, guest: Guest, waiting: Waiting | None = None) -> ModuleRun:
        run = ModuleRun(guest, load, self.log_name(), self.explain, self.lost, self.doing, waiting)
        self._modules[load] = run
        self._active = load
        return run

    def _settle(self, load: Load) -> None:
        """End the module that is active, or let it stay where it is to and can."""
        run = self._modules[load]
        if load in self.staying and run.loaded(_DRAIN_SECONDS).verdict.good:
            self._active = None
            self._present[load] = self._before
            self._before = counters.take(run.guest.console, pages=True)
        else:
            self.module_end(load, _DRAIN_SECONDS)

    def _stay(self, load: Load) -> None:
        """Have a module stay in the guest; one that did not load once is not asked again."""
        run = self._modules.get(load)
        if load not in self._present and (run is None or run.loaded(0).verdict.good):
            run = self._begin(load, self.bare())
            self._settle(load)
        if load not in self._present:
            assert run is not None
            why = run.loaded(0)
            raise Unusable(
                f"not run: {load.module} did not load: {why.verdict}: {why.message}".strip(),
                where=self.prepared.cell.name,
            )
