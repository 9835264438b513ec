"""Host programs: failures are told, full disks noticed, and nothing outlives the harness."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import process
from harness.errors import BuildFailed, CommandFailed, DiskFull, MissingTool
from harness.process import find, run


def test_output_is_returned_and_logged(tmp_path):
    lines = []
    log = tmp_path / "log"
    done = run(["sh", "-c", "echo one; echo two >&2"], log=log, on_line=lines.append)
    assert done.output == "one\ntwo\n" == log.read_text()
    assert lines == ["one", "two"]


def test_binary_output_goes_to_a_file(tmp_path):
    done = run(["printf", r"\200\0"], stdout=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"\x80\0"
    assert done.output == ""


def test_a_failure_names_the_command_and_its_last_words():
    with pytest.raises(BuildFailed, match=r"ended with status 3\ncannot") as caught:
        run(["sh", "-c", "echo cannot; exit 3"], error=BuildFailed)
    assert "sh -c" in caught.value.where


def test_a_missing_tool_names_its_package(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingTool, match="apt-get install qemu-system-arm") as caught:
        find("qemu-system-arm")
    assert caught.value.exit_code == 3


def test_a_full_disk_in_a_program_is_told_as_such():
    with pytest.raises(DiskFull):
        run(["sh", "-c", "echo 'cc1: No space left on device'; exit 1"])


def test_a_full_disk_under_the_log_is_told_as_such():
    with pytest.raises(DiskFull):
        run(["sh", "-c", "head -c 100000 /dev/zero | tr '\\0' '\\n'"], log=Path("/dev/full"))


def test_no_shell_reads_the_arguments():
    assert run(["echo", "$(id); `id`"]).output == "$(id); `id`\n"


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        os.sched_yield()
    return not alive(pid)


def running(command: list[str], pid_file: Path) -> subprocess.Popen[bytes]:
    """Return a harness that runs a command, which has written its process's number to the file."""
    script = f"from harness.process import run; run({command!r})"
    # Whoever starts the tests in the background may have SIGINT ignored, and that is inherited.
    words = ["env", "--default-signal=INT", sys.executable, "-c", script]
    harness = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not pid_file.exists() and time.monotonic() < deadline:
        os.sched_yield()
    return harness


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_program_does_not_outlive_the_harness(tmp_path, number):
    pid_file = tmp_path / "pid"
    command = f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 1000"
    harness = running(["sh", "-c", command], pid_file)
    harness.send_signal(number)
    harness.wait(20)
    assert wait_until_gone(int(pid_file.read_text()))


MAKEFILE = """\
target:
\techo half >$@
\tsleep 1000 & echo $$! >pid.new; mv pid.new pid; wait
"""


def test_make_removes_what_is_half_made_when_the_run_is_interrupted(tmp_path):
    (tmp_path / "Makefile").write_text(MAKEFILE)
    harness = running(["make", "-C", str(tmp_path)], tmp_path / "pid")
    harness.send_signal(signal.SIGINT)
    harness.wait(20)
    assert not (tmp_path / "target").exists()
    assert wait_until_gone(int((tmp_path / "pid").read_text()))


def test_ctrl_c_again_and_again_ends_what_does_not_listen(tmp_path):
    os.mkfifo(tmp_path / "never")
    pid_file = tmp_path / "pid"
    program = f"trap '' TERM; echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}"
    harness = running(["sh", "-c", f"{program}; cat {tmp_path}/never"], pid_file)
    deadline = time.monotonic() + 20
    while harness.poll() is None and time.monotonic() < deadline:
        harness.send_signal(signal.SIGINT)
        time.sleep(0.05)  # a person's pace: the second one has to come while the first is served
    assert wait_until_gone(int((tmp_path / "pid").read_text()))


def test_ctrl_c_in_the_middle_of_a_start_ends_what_has_started(monkeypatch):
    start, started = process._start, []

    def interrupted(*arguments):
        started.append(start(*arguments))
        signal.raise_signal(signal.SIGINT)
        return started[0]

    monkeypatch.setattr(process, "_start", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(["sleep", "1000"])
        assert started[0].poll() is not None
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_failing_command_is_an_error_of_the_host():
    with pytest.raises(CommandFailed) as caught:
        run(["false"])
    assert caught.value.exit_code == 3
