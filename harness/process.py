"""The only place that starts host programs (QEMU apart, which harness/guest/ runs).

Programs start in a process group of their own under setpriv(1). On Ctrl-C the whole group is told
to end, and killed if it does not. When the harness is killed with SIGKILL the program itself is
told to end, and what it had started (a compiler) ends when its work is done.
"""

from __future__ import annotations

import errno
import os
import selectors
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.errors import CommandFailed, DiskFull, HostError, MissingTool
from harness.host import package_of
from harness.interrupts import Interrupts

_TAIL_LINES = 25
_TIDY_SECONDS = 10.0  # make, which is told to end, removes what is half made
_NO_SPACE = os.strerror(errno.ENOSPC)


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that ended well: its standard output and error, as one text."""

    output: str


def find(tool: str) -> Path:
    """Return the path of a host program; raise `MissingTool` that names its Debian package."""
    found = shutil.which(tool)
    if found is None:
        package = package_of(tool)
        raise MissingTool(
            f"the program {tool!r} is not installed",
            next_step=f"apt-get install {package}" if package else f"install {tool!r}",
        )
    return Path(found)


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    log: Path | None = None,
    stdout: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    error: type[CommandFailed] = CommandFailed,
) -> Finished:
    """Run a program to its end and return what it printed, standard error included.

    With `stdout`, its standard output goes to that file as it is and only the errors are text.
    `env` is added to the harness's own environment; None takes a variable out of it. Each line
    goes to the file `log` and to `on_line` as it comes. Raises `error` with the end of the output
    when the status is not 0, `DiskFull` when the output says so, `MissingTool` when there is no
    such program.
    """
    find("setpriv")
    command = [str(find(str(argv[0]))), *map(str, argv[1:])]
    with ExitStack() as stack:
        binary = stack.enter_context(stdout.open("wb")) if stdout else None
        interrupts = stack.enter_context(Interrupts())
        process = _start(command, cwd, _environment(env or {}), binary)
        try:
            with interrupts.heard():
                output = _collect(process, log, on_line)
                status = process.wait()
        except BaseException:
            _end(process, interrupts)
            raise
    if status != 0:
        raise _failure(command, status, output, log, error)
    return Finished(output)


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    wanted = {**os.environ, "LC_ALL": "C.UTF-8", **changes}
    return {name: value for name, value in wanted.items() if value is not None}


def interactive(argv: Sequence[str | Path]) -> int:
    """Run a program on the user's terminal until it ends, and return its status.

    Ctrl-C is for the program alone: in gdb it stops the target.
    """
    command = [str(find(str(argv[0]))), *map(str, argv[1:])]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with subprocess.Popen(
            command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        ) as process:
            return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)


class Job:
    """A program that runs beside others, its whole output in a file, until its `status` is asked.

    For `first_ended` it has a descriptor that is readable when the program has ended.
    """

    def __init__(self, argv: Sequence[str | Path], output: Path) -> None:
        find("setpriv")
        self.output = output
        command = ["setpriv", "--pdeathsig", "TERM", "--", str(find(str(argv[0])))]
        try:
            with output.open("ab") as sink:
                self._process = subprocess.Popen(
                    [*command, *map(str, argv[1:])],
                    env=_environment({}),
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )
            self._descriptor = os.pidfd_open(self._process.pid)
        except OSError as problem:
            raise host_problem(problem, output) from problem

    def fileno(self) -> int:
        """Return the descriptor, pidfd_open(2)."""
        return self._descriptor

    def status(self) -> int:
        """Wait for the end and return the exit status; minus the signal when one killed it."""
        status = self._process.wait()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        return status

    def interrupt(self) -> None:
        """Ask it to end, as Ctrl-C does; SIGTERM, since SIGINT is ignored below a shell's `&`."""
        self._process.terminate()

    def kill(self) -> None:
        """Kill it with what it started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)


def first_ended(jobs: Iterable[Job], timeout: float | None = None) -> tuple[Job, ...]:
    """Wait until at least one of the jobs has ended, and return those; none after `timeout`."""
    with selectors.DefaultSelector() as selector:
        for job in jobs:
            selector.register(job, selectors.EVENT_READ, job)
        return tuple(key.data for key, _ in selector.select(timeout))


def _start(
    command: Sequence[str], cwd: Path | None, env: Mapping[str, str], binary: IO[bytes] | None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", "--", *command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=binary or subprocess.PIPE,
        stderr=subprocess.PIPE if binary else subprocess.STDOUT,
        process_group=0,
        text=True,
        errors="replace",
    )


def _collect(
    process: subprocess.Popen[str], log: Path | None, on_line: Callable[[str], None] | None
) -> str:
    stream = process.stdout or process.stderr
    assert stream is not None
    lines: list[str] = []
    sink = log.open("a", encoding="utf-8") if log else None
    try:
        for line in stream:
            lines.append(line)
            if sink:
                sink.write(line)
            if on_line:
                on_line(line.rstrip("\n"))
    except OSError as problem:
        raise host_problem(problem, log) from problem
    finally:
        if sink:
            sink.close()
    return "".join(lines)


def _end(process: subprocess.Popen[str], interrupts: Interrupts) -> None:
    """End the whole group: a compiler must not go on behind the next run's back.

    Ctrl-C again ends the wait for those who tidy up.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        expected = suppress(subprocess.TimeoutExpired, ValueError)  # it may have closed its output
        with expected, interrupts.heard():
            process.communicate(timeout=_TIDY_SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # it may hang in the kernel, on a dead disk
            process.wait(_TIDY_SECONDS)


def _failure(
    command: Sequence[str], status: int, output: str, log: Path | None, error: type[CommandFailed]
) -> CommandFailed | DiskFull:
    tail = "\n".join(output.splitlines()[-_TAIL_LINES:])
    where = shlex.join(command)
    if _NO_SPACE in output:
        return DiskFull(f"no space left on the disk\n{tail}", where=where, next_step=FREE_SPACE)
    died = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    hint = f"the whole output is in {log}" if log else "run the command by hand"
    return error(f"{died}\n{tail}", where=where, next_step=hint)


FREE_SPACE = "make room ('cma-harness cache prune' drops old entries), or set CMA_HARNESS_CACHE"


def host_problem(problem: OSError, path: Path | None) -> HostError:
    """Return what the host refused as an error that says what to do."""
    where = str(problem.filename or path or "")
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull("no space left on the disk", where=where, next_step=FREE_SPACE)
    return HostError(
        problem.strerror or str(problem),
        where=where,
        next_step="look at that path: what it is, and whether you may write there",
    )
