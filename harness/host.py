"""The host's programs: which are needed, which are missing, and installing them with apt.

Only the standard library and harness.errors are used, and no newer Python than 3.11: the
Makefile runs `python3 -m harness.host` before there is a virtual environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, HostError, MissingTool

__all__ = ["TOOLS", "MissingTool", "Tool", "install", "missing", "package_of"]


_OLDEST = (3, 11)


@dataclass(frozen=True)
class Tool:
    """A thing that must be there: a program on PATH, or a file that a package brings."""

    name: str
    package: str
    why: str
    file: str = ""
    optional: bool = False  # told when it is missed, not installed by itself

    def present(self) -> bool:
        """Tell whether the program or the file is there."""
        if self.file:
            return any(Path("/").glob(self.file))
        return shutil.which(self.name) is not None


TOOLS = (
    Tool("venv", "python3-venv", "makes .venv", file="usr/lib/python3*/ensurepip/__main__.py"),
    Tool("Python.h", "python3-dev", "pylibfdt is compiled", file="usr/include/python3*/Python.h"),
    Tool("gcc", "gcc", "the kernel's host programs"),
    Tool("libc6-dev", "libc6-dev", "the kernel's host programs", file="usr/include/stdio.h"),
    Tool("make", "make", "kernel builds"),
    Tool("flex", "flex", "kernel configuration"),
    Tool("bison", "bison", "kernel configuration"),
    Tool("bc", "bc", "kernel builds"),
    Tool("perl", "perl", "kernel builds and checkpatch"),
    Tool("xz", "xz-utils", "unpacks the kernel source"),
    Tool("tar", "tar", "unpacks the kernel source"),
    Tool("patch", "patch", "patches of the kernel"),
    Tool("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf", "compiles the kernel"),
    Tool(
        "libc.a of armhf",
        "libc6-dev-armhf-cross",
        "the guest's C programs are static",
        file="usr/arm-linux-gnueabihf/lib/libc.a",
    ),
    Tool("ccache", "ccache", "kernel builds"),
    Tool("dtc", "device-tree-compiler", "device trees"),
    Tool("kmod", "kmod", "kernel builds run depmod"),
    Tool("cpio", "cpio", "kernel builds"),
    Tool("rsync", "rsync", "kernel builds install headers"),
    Tool("qemu-system-arm", "qemu-system-arm", "the guest"),
    Tool(
        "arm-linux-gnueabihf-gcov", "gcc-arm-linux-gnueabihf", "cma-harness coverage", optional=True
    ),
    Tool(
        "arm-linux-gnueabi-gcc",
        "gcc-arm-linux-gnueabi",
        "kernels of ARMv5 and ARMv6 boards",
        optional=True,
    ),
    Tool(
        "libc.a of armel",
        "libc6-dev-armel-cross",
        "the guest's C programs on ARMv5 and ARMv6",
        file="usr/arm-linux-gnueabi/lib/libc.a",
        optional=True,
    ),
    Tool("git", "git", "cma-harness bisect", optional=True),
    Tool("gdb-multiarch", "gdb-multiarch", "make debug", optional=True),
    Tool("setpriv", "util-linux", "no child survives the harness"),
    Tool("ps", "procps", "the tests look for survivors"),
)


def package_of(program: str) -> str | None:
    """Return the Debian package that brings a program, if the harness knows it."""
    return next((tool.package for tool in TOOLS if tool.name == program), None)


def require(name: str) -> None:
    """Raise `MissingTool`, which names its package, if one of `TOOLS` is not there."""
    tool = next(tool for tool in TOOLS if tool.name == name)
    if not tool.present():
        raise MissingTool(
            f"not installed on this host: {tool.name} ({tool.why})",
            next_step=f"apt-get install {tool.package}",
        )


def missing() -> tuple[Tool, ...]:
    """Return the tools that are not there, in the order of `TOOLS`."""
    return tuple(tool for tool in TOOLS if not tool.present() and not tool.optional)


def install(tools: tuple[Tool, ...]) -> None:
    """Install the tools' packages as root, or through sudo if that needs no password.

    Raises `MissingTool` with the one command to type when neither is possible, and `HostError`
    when apt fails.
    """
    packages = sorted({tool.package for tool in tools})
    apt_get = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    prefix = _root_prefix()
    if prefix is None or shutil.which("apt-get") is None:
        names = ", ".join(tool.name for tool in tools)
        raise MissingTool(
            f"not installed on this host: {names}",
            next_step="sudo apt-get update && sudo " + " ".join(apt_get),
        )
    print(f"host: installing {', '.join(packages)}", flush=True)
    _apt([*prefix, "apt-get", "update"])
    _apt([*prefix, "env", "DEBIAN_FRONTEND=noninteractive", *apt_get])
    still = missing()
    if still:
        raise HostError(
            f"still missing after apt-get install: {', '.join(tool.name for tool in still)}",
            next_step="install them by hand; 'cma-harness doctor' lists what each is for",
        )


def _root_prefix() -> list[str] | None:
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    if not shutil.which("sudo"):
        return None
    allowed = subprocess.run([*sudo, "true"], capture_output=True, check=False).returncode == 0
    return sudo if allowed else None


def _apt(argv: list[str]) -> None:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        tail = b"\n".join(done.stdout.splitlines()[-15:]).decode(errors="replace")
        raise HostError(f"failed:\n{tail}", where=" ".join(argv), next_step="run it by hand")


def main() -> int:
    """Check the host, install what is missing, and return the exit code."""
    try:
        if sys.version_info < _OLDEST:
            raise HostError(
                f"python3 is {sys.version.split()[0]}, the harness needs 3.11 or later",
                next_step="use Debian 12 or later, or put a newer python3 first in PATH",
            )
        lacking = missing()
        if lacking:
            install(lacking)
    except HarnessError as error:
        print(f"cma-harness: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
