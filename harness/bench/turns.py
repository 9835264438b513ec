"""Two jobs of minutes, timed beside each other while the machine's speed drifts.

Each is a process that runs alone for some seconds, in turns, with all that it has started; while
one runs the other is stopped. Whatever slows the machine down meets both, as long as both run. When
the harness itself is killed with SIGKILL, what is stopped just then stays so.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from harness.errors import HarnessError, HostError

_TURN = 4.0  # seconds: short beside a drift, long beside the refilling of a processor's caches
_GLANCE = 0.001  # seconds between two looks at what still runs


def taken(
    jobs: Mapping[str, Callable[[], object]], tell: Callable[[str], None] = lambda _: None
) -> dict[str, float]:
    """Run the jobs in turns and return how many seconds each had, by name.

    `tell` hears after each turn how long each has run. A job is called in a process of its own, so
    what it returns is lost. Raises `HostError` with a job's own words when it fails; the other one
    is then killed.
    """
    seconds = dict.fromkeys(jobs, 0.0)
    with ExitStack() as stack:
        running = {name: _Player(name, job) for name, job in jobs.items()}
        for player in running.values():
            stack.callback(player.kill)
            player.begin()
        while running:
            for name, player in tuple(running.items()):
                began = time.monotonic()
                ended = player.turn()
                seconds[name] += time.monotonic() - began
                tell(", ".join(f"{each} {took:.0f} s" for each, took in seconds.items()))
                if ended:
                    del running[name]
    return seconds


class _Player:
    """A job in a session of its own, stopped but for its turns."""

    def __init__(self, name: str, job: Callable[[], object]) -> None:
        context = multiprocessing.get_context("fork")
        self._name = name
        self._heard, self._words = context.Pipe(duplex=False)
        self._process = context.Process(target=_play, args=(job, self._words), name=name)

    def begin(self) -> None:
        """Start its process, and stop that until its first turn."""
        self._process.start()
        self._words.close()
        self._heard.recv()  # it leads its session
        self._stop()

    def turn(self) -> bool:
        """Let it run for a turn; return whether it has come to its end. Raises as `taken`."""
        for process, _ in self._members():
            _send(process, signal.SIGCONT)
        self._process.join(_TURN)
        if self._process.exitcode is None:
            self._stop()
            return False
        if self._process.exitcode != 0:
            raise HostError(self._said(), where=self._name, next_step="run that by itself")
        return True

    def kill(self) -> None:
        """End it, with all that it has started."""
        if self._process.pid is None:
            return
        self._process.kill()  # before it leads its session, too; nothing once it was waited for
        while living := [process for process, state in self._members() if state != "Z"]:
            for process in living:
                _send(process, signal.SIGKILL)
            time.sleep(_GLANCE)
        self._process.join()

    def _stop(self) -> None:
        """Stop what runs, until nothing does: one that ran may have started another.

        What waits in the kernel stops when that is over; behind vfork(2) that is for a child which
        may be stopped already.
        """
        told: set[int] = set()
        while going := [
            process
            for process, state in self._members()
            if state not in "TZ" and not (state == "D" and process in told)
        ]:
            for process in going:
                _send(process, signal.SIGSTOP)
            told.update(going)
            time.sleep(_GLANCE)

    def _members(self) -> Iterator[tuple[int, str]]:
        """Yield the processes of its session and their states, of which proc(5) tells."""
        for file in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has ended
                state, _, _, session, *_ = file.read_text().rpartition(")")[2].split()
                if int(session) == self._process.pid:
                    yield int(file.parent.name), state

    def _said(self) -> str:
        with suppress(EOFError):
            return str(self._heard.recv())
        return f"ended with status {self._process.exitcode}"


def _send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _play(job: Callable[[], object], words: Connection) -> None:
    os.setsid()
    words.send("ready")
    try:
        job()
    except HarnessError as problem:
        words.send(str(problem))
        raise SystemExit(1) from problem
