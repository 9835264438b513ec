"""Whether a guest gets on, and what it does that does not.

A kernel that faults before its exception vectors are mapped takes the fault of the vector itself,
for ever and in silence: neither console nor QEMU's end tell. A wait with a deadline would find it
too, but a deadline that holds on a loaded host is long. QEMU's own processor time is no matter of
load: while it grows by seconds and no program counter moves, nothing will come any more. Processors
that sleep (WFI) do not use any.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

_CPU_SECONDS = 2.0  # of one basic block: some 10^9 instructions with TCG
_LOOKS = 5
# As the kernel has them since 5.10 at least (sched_show_task(), nmi_cpu_backtrace()).
_TASK = re.compile(r"^(?=(?:\[[^]\n]*\])+ task:)", re.M)
_MODULE = re.compile(r" \[[\w-]+(?: [0-9a-f]+)?\]\)?$", re.M)
_STACK = re.compile(r"\] task:|NMI backtrace|\] CPU: |PC is at | from ")
_PC = re.compile(r"\bR15=([0-9a-f]{8})\b")


def program_counters(registers: str) -> tuple[int, ...]:
    """Return each processor's, from the monitor's `info registers -a` of an ARM machine."""
    return tuple(int(value, 16) for value in _PC.findall(registers))


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, its threads' together; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    fields = text.rpartition(")")[2].split()  # the name before may hold anything
    user, system = int(fields[11]), int(fields[12])  # utime and stime, proc_pid_stat(5)
    return (user + system) / os.sysconf("SC_CLK_TCK")


def telling(said: str) -> str:
    """Return what counts of the answers to SysRq l and t: busy processors, and who may be to blame.

    A task may be if it cannot be interrupted (state D), or has a module in its stack.
    """
    processors, *tasks = _TASK.split(said)
    blamed = (task for task in tasks if "state:D" in task or _MODULE.search(task))
    lines = "".join([processors, *blamed]).splitlines()
    return "\n".join(line for line in lines if _STACK.search(line))


class Stuck:
    """Looks again and again; `counters` and `seconds` say where the processors are, and when."""

    def __init__(
        self, counters: Callable[[], tuple[int, ...]], seconds: Callable[[], float]
    ) -> None:
        self._counters = counters
        self._seconds = seconds
        self._at: tuple[int, ...] = ()
        self._since = 0.0
        self._looks = 0

    def forget(self) -> None:
        """Begin anew: there was progress, of another kind."""
        self._at = ()

    def look(self) -> tuple[int, ...]:
        """Return the addresses that are repeated; empty while there is progress, or may be."""
        now = self._counters()
        if now != self._at:
            self._at, self._since, self._looks = now, self._seconds(), 1
            return ()
        self._looks += 1
        long = self._seconds() - self._since >= _CPU_SECONDS
        return now if long and self._looks >= _LOOKS else ()
