"""Two jobs of minutes, timed beside each other while the machine's speed drifts.

Each is a process that runs alone for some seconds, in turns, with all that it has started; while
one runs the other is stopped. Whatever slows the machine down meets both.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from harness.errors import HarnessError, HostError

_TURN = 4.0  # seconds: short beside a drift, long beside the refilling of a processor's caches


def taken(
    jobs: Mapping[str, Callable[[], object]], tell: Callable[[str], None] = lambda _: None
) -> dict[str, float]:
    """Run the jobs in turns and return how many seconds each had, by name.

    `tell` hears after each turn how long each has run. A job is called in a process of its own, so
    what it returns is lost. Raises `HostError` with a job's own words when it fails; the other one
    is then killed.
    """
    running = {name: _Player(name, job) for name, job in jobs.items()}
    seconds = dict.fromkeys(running, 0.0)
    try:
        while running:
            for name, player in tuple(running.items()):
                began = time.monotonic()
                ended = player.turn()
                seconds[name] += time.monotonic() - began
                tell(", ".join(f"{each} {took:.0f} s" for each, took in seconds.items()))
                if ended:
                    del running[name]
    finally:
        for player in running.values():
            player.kill()
    return seconds


class _Player:
    """A job in a session of its own, stopped but for its turns."""

    def __init__(self, name: str, job: Callable[[], object]) -> None:
        context = multiprocessing.get_context("fork")
        self._name = name
        self._words, words = context.Pipe(duplex=False)
        self._process = context.Process(target=_play, args=(job, words), name=name)
        self._process.start()
        words.close()
        self._words.recv()  # it leads its session
        self._stop()

    def turn(self) -> bool:
        """Let it run for a turn; return whether it has come to its end. Raises as `taken`."""
        self._signal(signal.SIGCONT)
        self._process.join(_TURN)
        if self._process.exitcode is None:
            self._stop()
            return False
        if self._process.exitcode != 0:
            raise HostError(self._said(), where=self._name, next_step="run that by itself")
        return True

    def kill(self) -> None:
        """End it, with what it has started."""
        self._stop()
        self._signal(signal.SIGKILL)
        self._process.join()

    def _stop(self) -> None:
        """Stop what runs, until nothing does: one that ran may have started another.

        What waits in the kernel stops when that is over; behind vfork(2) that is for a child which
        may be stopped already.
        """
        while any(state in "RS" for _, state in self._members()):
            self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        for process, _ in self._members():
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def _members(self) -> Iterator[tuple[int, str]]:
        """Yield the processes of its session and their states, of which proc(5) tells."""
        for file in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has ended
                state, _, _, session, *_ = file.read_text().rpartition(")")[2].split()
                if int(session) == self._process.pid:
                    yield int(file.parent.name), state

    def _said(self) -> str:
        with suppress(EOFError):
            return str(self._words.recv())
        return f"ended with status {self._process.exitcode}"


def _play(job: Callable[[], object], words: Connection) -> None:
    os.setsid()
    words.send("ready")
    try:
        job()
    except HarnessError as problem:
        words.send(str(problem))
        raise SystemExit(1) from problem
