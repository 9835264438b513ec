"""The host's programs: what is missing is installed, or told with the one command to type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from harness import host
from harness.config import Userland
from harness.errors import HostError, MissingTool
from harness.kernel.toolchain import require_libc

REPOSITORY = Path(__file__).resolve().parents[2]
BC = next(tool for tool in host.TOOLS if tool.name == "bc")
DTC = next(tool for tool in host.TOOLS if tool.name == "dtc")


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """An empty PATH; the function puts a program there that notes its arguments."""
    noted = tmp_path / "noted"
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(name: str, script: str = "") -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho {name} $* >> {noted}\n{script}\n")
        path.chmod(0o755)
        return noted

    return put


def test_without_root_and_sudo_the_one_command_is_told(programs, monkeypatch):
    programs("apt-get")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(MissingTool) as caught:
        host.install((BC, DTC))
    assert caught.value.exit_code == 3
    assert "not installed on this host: bc, dtc" in str(caught.value)
    assert "apt-get install -y --no-install-recommends bc device-tree-compiler" in str(caught.value)


def test_a_sudo_that_asks_for_a_password_is_not_used(programs, monkeypatch):
    programs("apt-get")
    noted = programs("sudo", "exit 1")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(MissingTool):
        host.install((BC,))
    assert noted.read_text() == "sudo -n true\n"


def test_a_sudo_that_asks_nothing_is_used(programs, monkeypatch):
    programs("apt-get")
    noted = programs("sudo")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(host, "missing", lambda: ())
    host.install((BC,))
    assert "sudo -n apt-get update\n" in noted.read_text()
    assert "apt-get install -y --no-install-recommends bc\n" in noted.read_text()


def test_root_installs(programs, monkeypatch):
    programs("env", 'shift; exec "$@"')
    noted = programs("apt-get")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host, "missing", lambda: ())
    host.install((BC,))
    assert noted.read_text().splitlines()[-1] == ("apt-get install -y --no-install-recommends bc")


def test_a_failing_apt_is_told_with_its_last_words(programs, monkeypatch):
    programs("apt-get", "echo E: the mirror is down; exit 100")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(HostError, match="the mirror is down") as caught:
        host.install((BC,))
    assert caught.value.exit_code == 3


def test_what_is_still_missing_afterwards_is_told(programs, monkeypatch):
    programs("apt-get")
    programs("env")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host, "missing", lambda: (BC,))
    with pytest.raises(HostError, match="still missing after apt-get install: bc"):
        host.install((BC,))


def test_it_runs_before_there_is_a_virtual_environment():
    script = (
        "import sys, harness.host\n"
        "files = [str(getattr(module, '__file__', '')) for module in sys.modules.values()]\n"
        "sys.exit(', '.join(file for file in files if 'site-packages' in file) or 0)"
    )
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, '.')\n{script}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_tool_says_why_it_is_needed():
    assert all(tool.package and tool.why for tool in host.TOOLS)


@pytest.mark.parametrize("userland", get_args(Userland))
def test_a_missing_libc_is_told_with_its_package(monkeypatch, userland):
    monkeypatch.delenv("CROSS_COMPILE", raising=False)
    monkeypatch.setattr(host.Tool, "present", lambda tool: not tool.file)
    with pytest.raises(MissingTool, match=f"libc.a of {userland}") as caught:
        require_libc(userland)
    assert caught.value.next_step == f"apt-get install libc6-dev-{userland}-cross"
    monkeypatch.setenv("CROSS_COMPILE", "my-own-")  # whose libc is where it has it
    require_libc(userland)
