"""The whole line as a user runs it: the command, its exit code, and the record that it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.results import record
from harness.results.record import CaseRecord, RunRecord
from harness.verdict import Verdict

# Whoever starts the tests in the background may have SIGINT ignored, and that is inherited.
COMMAND = ("/usr/bin/env", "--default-signal=INT", sys.executable, "-m", "harness.cli")
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Line:
    """One invocation of cma-harness, ended or still running."""

    process: subprocess.Popen[str]
    directory: Path
    output: str = ""
    _lines: list[str] = field(default_factory=list)

    def wait(self, timeout: float = 1800) -> Line:
        """Wait for its end (a kernel build may be in it); what it printed is in `output`."""
        self.output, _ = self.process.communicate(timeout=timeout)
        return self

    @property
    def status(self) -> int:
        return self.process.returncode

    @property
    def record(self) -> RunRecord:
        return record.read(self.directory)

    @property
    def cases(self) -> dict[str, CaseRecord]:
        """The cases of the record by their names, without the layout's own."""
        return {case.name: case for case in self.record.cases() if case.id != "layout"}

    @property
    def verdicts(self) -> dict[str, Verdict]:
        return {name: case.verdict for name, case in self.cases.items()}


def children(pid: int, name: str) -> list[int]:
    """Return the processes below `pid`, at any depth, whose command line has `name` in it."""
    listing = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    below, found = {pid}, []
    rows = [line.split(None, 2) for line in listing.splitlines() if len(line.split(None, 2)) == 3]
    for child, parent, arguments in sorted(rows, key=lambda row: int(row[0])):
        if int(parent) in below:
            below.add(int(child))
            if name in arguments and not arguments.startswith("setpriv"):
                found.append(int(child))
    return found


def wait_until(condition: Callable[[], object], timeout: float = 120) -> None:
    """Ask until it is so; the test fails when it is not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Line]]:
    """Start `cma-harness ARGUMENTS`; whatever still runs after the test is killed."""
    started: list[Line] = []

    def begin(*arguments: str, **environment: str) -> Line:
        directory = tmp_path / f"run{len(started)}"
        words = list(arguments)
        if words[0] == "test":
            words.append(f"--run-dir={directory}")
        process = subprocess.Popen(
            [*COMMAND, *words],
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        started.append(Line(process, directory))
        return started[-1]

    yield begin
    for line in started:
        if line.process.poll() is None:
            os.killpg(line.process.pid, signal.SIGKILL)
            line.process.wait()


@pytest.fixture
def run(start: Callable[..., Line]) -> Callable[..., Line]:
    """Run `cma-harness ARGUMENTS` to its end."""
    return lambda *arguments, **environment: start(*arguments, **environment).wait()
