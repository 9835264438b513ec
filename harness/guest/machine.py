"""The QEMU process and its control socket: start it, steer it, say how it ended, end it.

No QEMU outlives the harness: setpriv(1) asks Linux to kill it when the thread that started it
ends (PR_SET_PDEATHSIG), so it is started by a thread that lives as long as the program. Should
the harness die before setpriv has asked, QEMU finds nobody on its sockets and ends.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from qemu.qmp import ExecuteError, QMPClient, QMPError

from harness.errors import GuestDied, GuestError, GuestTimeout, HostError
from harness.guest.qemu import Launch, Sockets, argv
from harness.process import find

CONSOLE_LOG = "console.log"
QEMU_LOG = "qemu.log"

_LONGEST_SOCKET = 107  # bytes: sizeof(sun_path) - 1, unix(7)
_QMP_SECONDS = 30.0
_EXIT_SECONDS = 5.0

# PDEATHSIG follows the *thread* that forked: a QEMU started by a worker thread would die with the
# worker. The one thread of this pool ends only when the interpreter does.
_LAUNCHER = ThreadPoolExecutor(1, "qemu-launcher")

_REASONS = {
    "guest-shutdown": "the guest powered off",
    "guest-reset": "the guest rebooted",
    "guest-panic": "the guest's kernel panicked",
    "host-qmp-quit": "the harness ended QEMU",
    "host-signal": "QEMU was told to end by a signal",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a QEMU ended: its status (negative: the signal), the reason in QMP's SHUTDOWN event.

    `reason` is QMP's ShutdownCause (guest-shutdown, guest-reset, guest-panic, host-qmp-quit, …),
    None when QEMU could not say. `said` is the end of what QEMU wrote to standard error.
    """

    status: int
    reason: str | None = None
    said: str = ""

    def __str__(self) -> str:
        if self.reason:
            return _REASONS.get(self.reason, f"QEMU shut down ({self.reason})")
        if self.status < 0:
            return f"QEMU was killed by signal {-self.status} ({signal.strsignal(-self.status)})"
        return f"QEMU ended with status {self.status}: {self.said or 'it said nothing'}"


class Qmp:
    """QEMU's control socket, for synchronous code; used from one thread only."""

    def __init__(self, connection: socket.socket) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = QMPClient("cma-harness")
        self._connection = connection

    def connect(self, timeout: float = _QMP_SECONDS) -> None:
        """Greet QEMU. Raises QMPError, OSError or EOFError when QEMU ends before it answers."""
        self._run(self._client.connect(self._connection), timeout)

    def execute(self, command: str, timeout: float = _QMP_SECONDS, **arguments: object) -> Any:
        """Run a QMP command, return its answer; `_` in argument names stands for `-`.

        Raises GuestError when QEMU refuses, GuestDied when it is gone, GuestTimeout when it is
        silent for `timeout` seconds.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            return self._run(self._client.execute(command, named), timeout)
        except TimeoutError as error:
            raise GuestTimeout(
                f"QEMU did not answer {command!r} within {timeout:g} s", where="QMP"
            ) from error
        except ExecuteError as error:
            raise HostError(f"QEMU refused {command!r}: {error}", where="QMP") from error
        except (QMPError, OSError, EOFError) as error:
            raise GuestDied(f"QEMU is gone; {command!r} got no answer", where="QMP") from error

    def monitor(self, line: str) -> str:
        """Run a line of the human monitor, return its text."""
        return str(self.execute("human-monitor-command", command_line=line))

    def event(self, name: str, timeout: float) -> dict[str, Any] | None:
        """Return the data of the next event called `name`; None if none comes in `timeout` s."""
        try:
            found: dict[str, Any] = self._run(self._next(name), timeout)
        except TimeoutError:
            return None
        return found

    def _run(self, work: Coroutine[Any, Any, Any], timeout: float) -> Any:
        """Run to the end; Ctrl-C cancels it first, for qemu.qmp asserts that it can tidy up."""
        task = self._loop.create_task(asyncio.wait_for(work, timeout))
        try:
            return self._loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            with suppress(asyncio.CancelledError, QMPError, EOFError, OSError, TimeoutError):
                self._loop.run_until_complete(task)
            raise

    async def _next(self, name: str) -> dict[str, Any]:
        async for message in self._client.events:
            if message["event"] == name:
                data = message.get("data", {})
                assert isinstance(data, dict)
                return data
        raise AssertionError("qemu.qmp's event stream has no end")

    def close(self) -> None:
        """Hang up; a QEMU that is gone has done so itself."""
        # disconnect() reports how the connection was lost; that is told by `Machine.ended`.
        with suppress(QMPError, OSError, EOFError):
            self._loop.run_until_complete(self._client.disconnect())
        self._connection.close()
        self._loop.close()


class Machine:
    """A QEMU: its process, its QMP, and the socket that is the guest's console."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        qmp: Qmp,
        console: socket.socket,
        directory: Path,
        *,
        gdb: Path | None = None,
        cleanup: ExitStack,
    ) -> None:
        self.process = process
        self.qmp = qmp
        self.console = console
        self.directory = directory
        self.gdb = gdb
        self._cleanup = cleanup
        self._ending: Ending | None = None

    @classmethod
    def start(
        cls, launch: Launch, directory: Path, *, gdb: bool = False, timeout: float = 30
    ) -> Self:
        """Start QEMU, its guest still stopped; `directory` gets console.log and qemu.log.

        Raises HostError with what QEMU said when it does not come up within `timeout` seconds,
        MissingTool when it is not installed.
        """
        for tool in (launch.program, "setpriv"):
            find(tool)
        directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            private = tempfile.TemporaryDirectory(prefix="cma-")
            folder = Path(stack.enter_context(private))
            sockets = Sockets(
                console=folder / "console",
                qmp=folder / "qmp",
                log=directory / CONSOLE_LOG,
                gdb=folder / "gdb" if gdb else None,
            )
            listeners = [stack.enter_context(_listen(at)) for at in (sockets.console, sockets.qmp)]
            process = _spawn(argv(launch, sockets), directory / QEMU_LOG)
            stack.callback(_kill, process)
            deadline = time.monotonic() + timeout
            try:
                console, control = (_accept(each, process, deadline) for each in listeners)
                stack.callback(console.close)
                qmp = Qmp(control)
                stack.callback(qmp.close)
                qmp.connect(deadline - time.monotonic())
                # Answered from QEMU's main loop: the machine is made, kernel and tree are loaded.
                qmp.execute("query-status", max(0.1, deadline - time.monotonic()))
            except (QMPError, OSError, EOFError, GuestError) as error:
                raise _start_failed(process, directory / QEMU_LOG, timeout) from error
            for listener in listeners:
                listener.close()
            if not gdb:
                private.cleanup()  # everyone is connected: nothing is left if the harness is killed
            cleanup = stack.pop_all()
        return cls(process, qmp, console, directory, gdb=sockets.gdb, cleanup=cleanup)

    @property
    def argv(self) -> tuple[str, ...]:
        """The command that this QEMU was started with."""
        return tuple(str(word) for word in cast("Sequence[str]", self.process.args))

    def version(self) -> str:
        """Return QEMU's version, such as 7.2.22."""
        found = self.qmp.execute("query-version")["qemu"]
        return f"{found['major']}.{found['minor']}.{found['micro']}"

    @property
    def alive(self) -> bool:
        """Whether QEMU runs (its guest may still be stopped)."""
        return self.process.poll() is None

    def cont(self) -> None:
        """Let the guest's processors run."""
        self.qmp.execute("cont")

    def forwarded_port(self, guest_port: int) -> int:
        """Return the port of 127.0.0.1 that QEMU forwards to `guest_port` of the guest."""
        table = self.qmp.monitor("info usernet")
        for line in table.splitlines():
            fields = line.split()
            if fields[:1] == ["TCP[HOST_FORWARD]"] and fields[5:6] == [str(guest_port)]:
                return int(fields[3])
        raise HostError(
            f"QEMU forwards no port to the guest's port {guest_port}",
            where="QMP 'info usernet'",
            next_step=f"start the guest with a network; QEMU's table was:\n{table}",
        )

    def ended(self, timeout: float = _EXIT_SECONDS) -> Ending | None:
        """Tell how QEMU ended, waiting up to `timeout` seconds for it; None while it runs."""
        if self._ending is None:
            try:
                status = self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                return None
            self._ending = Ending(status, self._reason(status), self._said())
        return self._ending

    def why(self) -> str:
        """Say why the console has no more to read, for the message of an error."""
        return str(self.ended() or "QEMU closed the console, but still runs")

    def stop(self) -> Ending:
        """End QEMU whatever its state: ask it by QMP, then kill it. Never hangs; twice is fine."""
        if self.alive:
            try:
                self.qmp.execute("quit", _EXIT_SECONDS)
            except GuestError:
                self.process.kill()  # it does not listen (or has just gone, and this does nothing)
        ending = self.ended()
        if ending is None:
            self.process.kill()
            ending = self.ended(_QMP_SECONDS)
        self._cleanup.close()
        if ending is None:
            raise HostError(f"QEMU (process {self.process.pid}) survives SIGKILL", where="QEMU")
        return ending

    def _reason(self, status: int) -> str | None:
        """The reason in the SHUTDOWN event, which QEMU sends before it exits by itself."""
        if status != 0:
            return None
        event = self.qmp.event("SHUTDOWN", timeout=1)
        return str(event["reason"]) if event else None

    def _said(self) -> str:
        return _tail(self.directory / QEMU_LOG)


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise HostError(
            f"the path of a unix socket is limited to {_LONGEST_SOCKET} bytes",
            where=str(path),
            next_step="set TMPDIR to a folder with a shorter name",
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    return listener


def _spawn(command: tuple[str, ...], log: Path) -> subprocess.Popen[bytes]:
    """Start QEMU in a session of its own, so that a Ctrl-C for the harness is not for QEMU."""
    with log.open("ab") as stderr:
        return _LAUNCHER.submit(
            subprocess.Popen,
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,
        ).result()


def _accept(
    listener: socket.socket, process: subprocess.Popen[bytes], deadline: float
) -> socket.socket:
    """Wait for QEMU to connect, or to end."""
    exit_of = os.pidfd_open(process.pid)
    try:
        left = max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([listener.fileno(), exit_of], [], [], left)
    finally:
        os.close(exit_of)
    if listener.fileno() not in ready:
        raise EOFError("QEMU ended" if ready else "QEMU did not connect in time")
    return listener.accept()[0]


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(_EXIT_SECONDS)


def _start_failed(process: subprocess.Popen[bytes], log: Path, timeout: float) -> HostError:
    try:
        status = process.wait(1)
    except subprocess.TimeoutExpired:
        return HostError(f"QEMU was not ready after {timeout:g} s: {_tail(log)}", where="QEMU")
    said = _tail(log) or f"status {status}, and it said nothing"
    return HostError(
        f"QEMU failed to start: {said}",
        where=" ".join(map(str, process.args if isinstance(process.args, list) else ())),
        next_step="run the command by hand, or check the board's machine, cpu and memory",
    )


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
