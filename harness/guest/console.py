"""The guest's serial console: wait for text, run commands, notice faults, QEMU's end, deadlines.

pexpect waits (harness.guest.stream); every wait also watches for kernel faults. All that was read
is kept, so that an index into it is an offset in console.log. Two places move through it:
`position`, up to where a wait has consumed it, and the place up to where it has been judged for
faults. A wait that raises consumes nothing.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket
from typing import NoReturn

from harness.errors import GuestDied, GuestError, GuestTimeout, KernelFaulted, UsageError
from harness.faults import FAULT_PATTERN, Fault, extract
from harness.guest import marks, terminal, transfer
from harness.guest.command import Completed
from harness.guest.stream import LONGEST_MATCH, Stream, Watcher
from harness.verdict import Verdict

READY = b"cma-harness: ready"  # images/init.sh.jinja2 prints it when all is up

_TAIL_LINES = 20
_LEAD = 2048  # bytes before a fault's first line in which its "[ cut here ]" may stand
_FAULT_SECONDS = 10.0  # the longest that a fault report may take to come
_QUIET_SECONDS = 1.0  # a report has ended when nothing comes for so long; an oops resets at once
_QUIET_AFTER_END = 0.2  # the same, after an end mark
_ENDS = re.compile(rb"---\[ end (?:trace|Kernel panic)")
_OF_ITSELF = re.compile(r"\$\{?(?:\$|PPID\b|0)")  # what a shell says of its process
_LINE_LIMIT = 4000  # of n_tty in canonical mode, 4096 bytes with the line's end


def _shell(command: str) -> str:
    """Return what runs a command in a shell of its own.

    A subshell is there at once; a program has to be read and, in a guest that was just restored,
    translated by QEMU: 50 ms. But what it is (its $$, $PPID and $0) is the shell's around it.
    """
    quoted = shlex.quote(command)
    return f"sh -c {quoted}" if _OF_ITSELF.search(command) else f"(eval {quoted})"


class NoFault(GuestError):
    """A fault was to be provoked, and none came."""

    verdict = Verdict.FAIL


class _Provoked(KernelFaulted):
    """An expected fault that the kernel does not survive; ends the `expect_fault` it is for."""


class _FaultSeen(Exception):
    """The start of a fault that nobody was told of came before what is waited for."""


@dataclass(slots=True)
class _Expected:
    """The kinds of fault that are being provoked (none named: any), and those that came."""

    kinds: tuple[str, ...]
    found: list[Fault] = field(default_factory=list)

    @property
    def terminal(self) -> bool:
        return any(fault.terminal for fault in self.found)


class Console:
    """A guest's serial console, from one thread. `why` says how QEMU ended, when it has.

    A kernel that checks itself is `slow`: by this the waits for what it is to do are longer.
    `before` is what console.log has already, of a guest that was stored behind a `run`.
    """

    def __init__(
        self,
        connection: socket,
        *,
        why: Callable[[], str],
        slow: float = 1,
        before: bytes | None = None,
    ) -> None:
        self._stream = Stream(connection, before or b"")
        self._why = why
        self._slow = slow
        self._data = self._stream.log
        self._at = len(self._data)  # consumed up to here
        self._judged = self._at  # faults before this are known to somebody
        self._scanned = self._at  # no fault starts between _judged and here
        self._expected: _Expected | None = None
        self._plain = before is not None  # whether the shell that listens is the one of `run`

    @property
    def position(self) -> int:
        """The offset in console.log up to which the console has been consumed."""
        return self._at

    @property
    def heard(self) -> int:
        """The length of console.log, as far as it was read."""
        return len(self._data)

    @property
    def told(self) -> int:
        """The offset up to which somebody knows the console: its text, or a fault in it."""
        return max(self._at, self._judged)

    def text(self, start: int = 0, end: int | None = None) -> bytes:
        """Return what came between two offsets of console.log, as far as it was read."""
        return bytes(self._data[start:end])

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """Return the last lines of the console, without control characters."""
        text = self._data[-200 * (lines + 1) :].decode("utf-8", "replace")
        clean = (re.sub(r"[^\t\x20-\x7e\xa0-\uffff]", "", line) for line in text.splitlines())
        return "\n".join(list(clean)[-lines:])

    def send(self, data: bytes) -> None:
        """Type `data`. Raises GuestDied when QEMU is gone."""
        try:
            self._stream.send(data)
        except OSError as error:
            raise self._died("typing") from error

    def wait_for(
        self, pattern: bytes | re.Pattern[bytes], timeout: float, doing: str = ""
    ) -> bytes:
        """Return the console from `position` to the end of the next match, and consume it.

        `doing` says in errors what the wait is for, where the pattern does not. A match is at
        most 4 KiB long. Raises KernelFaulted when a fault comes first, GuestDied as
        soon as QEMU is gone, GuestTimeout after `timeout` seconds.
        """
        regex = re.compile(pattern)
        timeout *= self._slow
        deadline = time.monotonic() + timeout
        while True:
            # What is not consumed; pexpect cannot know of faults that were read past a match.
            self._stream.restart(self.text(self._at))
            try:
                found = self._stream.expect_loop(
                    Watcher(regex, self._raise_at_fault), max(0.0, deadline - time.monotonic())
                )
            except _FaultSeen:
                self._watch(len(self._data))
                continue
            if found == 0:
                text = self._stream.before + self._stream.after  # type: ignore[operator]
                self._at += len(text)
                return text
            self._no_more(found == 1, doing or f"waiting for {regex.pattern!r}", timeout)

    def _raise_at_fault(self, behind: int) -> None:
        """End pexpect's wait when a fault starts more than `behind` bytes before the end."""
        if self._scan(len(self._data) - behind):
            raise _FaultSeen

    def read(self, timeout: float) -> bytes:
        """Return and consume what has come, waiting up to `timeout` seconds for something.

        Faults pass through unjudged: they are for the parser that reads this, and `take_faults`.
        Empty when nothing came; GuestDied when QEMU is gone and everything was read.
        """
        if self._at == len(self._data):
            self._fill(timeout)
        if self._at == len(self._data) and self._stream.ended:
            raise self._died("waiting for output")
        text = bytes(self._data[self._at :])
        self._at = len(self._data)
        return text

    def run(self, command: str, timeout: float) -> Completed:
        """Run a sh command, alone (no state is kept between commands) and without input.

        The output is what the command wrote, byte for byte (UTF-8 with replacement characters),
        without the kernel's messages; status 128 + N is signal N. Raises what `wait_for` raises;
        at a timeout the command gets Ctrl-C.
        """
        mark = self.begin(command, timeout)
        try:
            text = self.wait_for(marks.ending(mark), timeout, f"running {command!r}")
        except GuestTimeout:
            self._interrupt()
            raise
        status, output = marks.split(mark, text)
        return Completed(status, output.decode("utf-8", "replace"))

    def begin(self, command: str, timeout: float) -> bytes:
        """Start a sh command, and return the mark that its end will have (`marks.ending`).

        Its output begins at `position`. Raises what `wait_for` raises when the shell does not
        take the command within `timeout` seconds.
        """
        mark = self.type(command, timeout)
        doing = f"waiting for the shell to run {command!r}"
        try:
            self.wait_for(marks.woven(mark + b"+\n"), timeout, doing)
        except GuestTimeout:
            self._interrupt()
            raise
        return mark

    def type(self, command: str, timeout: float) -> bytes:
        """Type a sh command, which the shell runs when it has run those before; return its mark.

        Raises what `wait_for` raises when there is no shell within `timeout` seconds.
        """
        script = f"{_shell(command)} </dev/null 2>&1"
        if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", script):
            raise UsageError(
                "a control character in a command is for the terminal, not for the shell",
                where=repr(command),
                next_step="spell it in printf's octal",
            )
        if max(len(line.encode()) for line in script.split("\n")) > _LINE_LIMIT:
            raise UsageError(
                f"a line of a console command is limited to {_LINE_LIMIT} bytes",
                next_step="break the command into lines, or put a script and run that",
            )
        self._enter(timeout)
        mark = marks.fresh()
        typed = marks.typed(mark)
        self.send(b"echo %s+\n%s\necho %s:$?.\n" % (typed, script.encode(), typed))
        return mark

    def _interrupt(self) -> None:
        """Type Ctrl-C; what it ends may be the shell of `run` too."""
        self.send(b"\x03")
        self._plain = False

    def check(self, timeout: float = 0) -> None:
        """Look at what has come, or comes within `timeout` seconds.

        Raises KernelFaulted and GuestDied; to call while something else is waited for.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._look(deadline - time.monotonic())
            if self._stream.ended:
                raise self._died("looking at the console")
            if time.monotonic() >= deadline:
                return

    def take_faults(self) -> tuple[Fault, ...]:
        """Return the faults that came and that nobody has been told of, the last one complete."""
        self._fill(0)
        return self._judge() if self._scan(len(self._data)) else ()

    @contextmanager
    def expect_fault(self, *kinds: str, timeout: float = _FAULT_SECONDS) -> Iterator[list[Fault]]:
        """Say that faults of these kinds (none named: any) are provoked on purpose.

        Gives the list to which they are added. What is waited for in the block goes on across
        them; a fault from which the kernel does not recover, and QEMU's end by it, end the block
        in peace. Raises NoFault when none comes until `timeout` seconds after the block, and
        KernelFaulted for any other kind, or for one that came before the block.
        """
        self._look()
        self._expected = expected = _Expected(kinds)
        try:
            try:
                yield expected.found
                self._await_provoked(expected, time.monotonic() + timeout * self._slow)
            except (_Provoked, GuestDied):
                with suppress(_Provoked):
                    self._look()
                if not expected.terminal:
                    raise
        finally:
            self._expected = None

    def put(self, local: Path, remote: str, timeout: float = 60) -> None:
        """Copy a file into the guest with its mode, as text: some 25 kB a second."""

        def send(part: str) -> None:
            transfer.send_as_text(self.run, local.read_bytes(), part, timeout * self._slow)

        transfer.put(self.run, send, local, remote, timeout)

    def get(self, remote: str, local: Path, timeout: float = 60) -> None:
        """Copy a file out of the guest with its mode, as text: some 90 kB a second."""

        def fetch() -> bytes:
            return transfer.fetch_as_text(self.run, remote, timeout)

        transfer.get(self.run, fetch, remote, local, timeout)

    def interact(self, transcript: Path) -> bool:
        """Give the console to the person at the terminal until Ctrl-] or QEMU's end.

        The guest's shell is told the size of the window. What the guest says is also written to
        `transcript`. Returns whether the guest still runs.
        """
        size = terminal.require()
        if self._plain:
            self.send(b"exit\n")
            self._plain = False
        self.send(f"stty rows {size.lines} cols {size.columns}\n".encode())
        running = terminal.bridge(self._stream, transcript)
        self._at = len(self._data)
        return running

    def close(self) -> None:
        """Read what has come, and stop; twice is fine."""
        self._stream.close()

    def _fill(self, timeout: float) -> None:
        self._stream.take(timeout)

    def _look(self, timeout: float = 0) -> None:
        self._fill(timeout)
        self._watch(len(self._data))

    def _more(self, deadline: float, doing: str, timeout: float) -> None:
        """Read on, or raise what keeps more from coming."""
        left = deadline - time.monotonic()
        if self._stream.ended or left <= 0:
            self._no_more(self._stream.ended, doing, timeout)
        self._fill(left)

    def _no_more(self, ended: bool, doing: str, timeout: float) -> NoReturn:
        if ended:
            raise self._died(doing)
        raise GuestTimeout(
            f"{doing}: not within {timeout:.3g} s",
            where="console",
            next_step="see the end of the console",
            tail=self.tail(),
        )

    def _enter(self, timeout: float) -> None:
        """Start the shell of `run` below the one for people: no prompt, no echo, no editing.

        It reads the terminal as a script, which is what makes ash leave all that out.
        """
        if self._plain:
            return
        mark = marks.fresh()
        typed = b"\x15stty -echo -opost; echo %s; sh /dev/tty; stty sane\n"
        self.send(typed % marks.typed(mark))
        self.wait_for(marks.woven(mark + b"\n"), timeout, "waiting for the console's shell")
        self._plain = True

    def _scan(self, end: int) -> re.Match[bytes] | None:
        """Find the first fault nobody was told of that starts before `end`."""
        for found in FAULT_PATTERN.finditer(self._data, self._scanned, end):
            if self._by_kernel(found.start()):
                return found
        # The last line may still grow into a fault's first.
        self._scanned = max(self._scanned, self._line_start(end))
        return None

    def _by_kernel(self, start: int) -> bool:
        """Whether the line of a fault is the kernel's own.

        While commands run, programs end lines with a bare newline (see marks): a `dmesg` that
        repeats an old fault is no new one. A line that is still coming is not judged yet.
        """
        newline = self._data.find(b"\n", start)
        if not self._plain or (newline < 0 and self._stream.ended):
            return True
        return newline > 0 and self._data[newline - 1 : newline] == b"\r"

    def _watch(self, end: int) -> None:
        """Raise KernelFaulted for a fault before `end`, or note it where it is provoked."""
        if not self._scan(end):
            return
        faults = self._judge()
        expected = self._expected
        if expected is None:
            raise self._faulted(faults)
        strangers = tuple(f for f in faults if expected.kinds and f.kind not in expected.kinds)
        if strangers:
            raise self._faulted(strangers)
        expected.found += faults
        if expected.terminal:
            raise _Provoked(expected.found[-1].headline, where="console", tail=self.tail())

    def _judge(self) -> tuple[Fault, ...]:
        """Read on to the end of the report that is coming, and take all faults up to there."""
        first = self._scan(len(self._data))
        assert first
        faults = self._collect(first.start())
        self._judged = self._scanned = len(self._data)
        return faults

    def _collect(self, start: int) -> tuple[Fault, ...]:
        """Read on until the report that starts at `start` is all there; split it."""
        deadline = time.monotonic() + _FAULT_SECONDS * self._slow
        size = -1
        while size < len(self._data) and time.monotonic() < deadline:
            size = len(self._data)
            ended = _ENDS.search(self._data, max(start, size - LONGEST_MATCH))
            self._fill((_QUIET_AFTER_END if ended else _QUIET_SECONDS) * self._slow)
        return extract(bytes(self._data[max(self._judged, start - _LEAD) :]))

    def _line_start(self, end: int) -> int:
        """Where the line that `end` stands in begins, not further back than a match is long."""
        return max(self._data.rfind(b"\n", 0, end) + 1, end - LONGEST_MATCH)

    def _await_provoked(self, expected: _Expected, deadline: float) -> None:
        while True:
            self._watch(len(self._data))
            if expected.found:
                return
            if time.monotonic() >= deadline or self._stream.ended:
                named = ", ".join(expected.kinds) or "any kind"
                raise NoFault(
                    f"a fault ({named}) was provoked, and none came",
                    where="console",
                    tail=self.tail(),
                )
            self._fill(deadline - time.monotonic())

    def _faulted(self, faults: tuple[Fault, ...]) -> KernelFaulted:
        return KernelFaulted(
            "\n".join(fault.text for fault in faults) or "a kernel fault",
            where="console",
            tail=self.tail(),
        )

    def _died(self, doing: str) -> GuestDied:
        return GuestDied(f"{self._why()}, while {doing}", where="console", tail=self.tail())
