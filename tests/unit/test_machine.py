"""QEMU's start and end, with programs that behave as a QEMU that fails."""

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.errors import HostError, MissingTool
from harness.guest.machine import Ending, Machine, _spawn
from harness.guest.qemu import Launch


def program(tmp_path: Path, script: str) -> Launch:
    path = tmp_path / "qemu"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Launch(kernel=Path("zImage"), program=str(path))


def test_a_qemu_that_fails_to_start_is_quoted(tmp_path):
    launch = program(tmp_path, "echo 'unsupported machine type' >&2; exit 1")
    with pytest.raises(HostError, match="failed to start: unsupported machine type") as raised:
        Machine.start(launch, tmp_path / "run")
    assert "-machine virt" in raised.value.where


def test_a_qemu_that_does_not_connect_has_a_deadline_and_is_killed(tmp_path):
    pid = tmp_path / "pid"
    launch = program(tmp_path, f"echo $$ >{pid}; exec sleep 1000")
    with pytest.raises(HostError, match=r"not ready after 0\.5 s"):
        Machine.start(launch, tmp_path / "run", timeout=0.5)
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


def test_a_missing_qemu_is_a_missing_tool(tmp_path):
    with pytest.raises(MissingTool, match="qemu-system-none"):
        Machine.start(Launch(kernel=Path("zImage"), program="qemu-system-none"), tmp_path)


def test_a_socket_path_that_is_too_long_is_told_before_qemu_is_started(tmp_path, monkeypatch):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    launch = program(tmp_path, f"touch {tmp_path}/started")
    with pytest.raises(HostError, match="107 bytes") as raised:
        Machine.start(launch, tmp_path / "run")
    assert "TMPDIR" in raised.value.next_step
    assert not (tmp_path / "started").exists()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (Ending(0, "guest-shutdown"), "the guest powered off"),
        (Ending(0, "guest-reset"), "the guest rebooted"),
        (Ending(0, "guest-panic"), "the guest's kernel panicked"),
        (Ending(0, "subsystem-reset"), "QEMU shut down (subsystem-reset)"),
        (Ending(-9), "QEMU was killed by signal 9 (Killed)"),
        (Ending(1, None, "no room"), "QEMU ended with status 1: no room"),
    ],
)
def test_an_ending_says_how(ending, text):
    assert str(ending) == text


def test_qemu_outlives_the_thread_that_asked_for_it(tmp_path):
    started, up = [], tmp_path / "up"
    os.mkfifo(up)

    def worker():
        started.append(_spawn(("sh", "-c", f"echo >{up}; exec sleep 1000"), tmp_path / "log"))
        up.read_text()  # setpriv has made its request and is gone

    thread = threading.Thread(target=worker)
    thread.start()
    thread.join()
    with pytest.raises(subprocess.TimeoutExpired):
        started[0].wait(0.5)
    started[0].kill()
    started[0].wait()


HARNESS = """
import pathlib, signal, sys
from harness.guest.machine import _spawn
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
qemu = _spawn(("sh", "-c", "kill -USR1 $PPID; exec sleep 1000"), pathlib.Path(sys.argv[1]))
signal.sigwait({signal.SIGUSR1})  # setpriv has made its request and is gone
print(qemu.pid, flush=True)
signal.pause()
"""


def test_qemu_does_not_outlive_a_harness_that_is_killed(tmp_path):
    command = [sys.executable, "-c", HARNESS, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout
        pid = int(harness.stdout.readline())
        qemu = os.pidfd_open(pid)
        harness.kill()
    gone, _, _ = select.select([qemu], [], [], 5)
    os.close(qemu)
    if not gone:
        os.kill(pid, signal.SIGKILL)
    assert gone
