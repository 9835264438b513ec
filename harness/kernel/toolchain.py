"""The cross compiler that a kernel, its modules and the guest's programs are built with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from harness.config import Userland
from harness.errors import MissingTool, UsageError
from harness.host import require
from harness.process import find

# Debian's cross compilers, by the architecture whose programs they make. One for armhf links its
# programs with a libgcc and a libc that are ARMv7 code.
_PREFIXES: Mapping[Userland, str] = {
    "armhf": "arm-linux-gnueabihf-",
    "armel": "arm-linux-gnueabi-",
}


@dataclass(frozen=True, slots=True)
class Toolchain:
    """The cross compiler: its prefix, and what tells one installation from another.

    `userland` is Debian's architecture whose programs run beside the kernels it builds.
    """

    prefix: str
    identity: str
    userland: Userland


def _prefix(userland: Userland) -> str:
    """Return the prefix that CROSS_COMPILE names, else Debian's."""
    return os.environ.get("CROSS_COMPILE", _PREFIXES[userland])


def require_libc(userland: Userland) -> None:
    """Raise `MissingTool` if Debian's compiler is used and what it links programs with is missing.

    So that it is told before a kernel is built, not behind it.
    """
    if _prefix(userland) == _PREFIXES[userland]:
        require(f"libc.a of {userland}")


def toolchain(userland: Userland = "armhf") -> Toolchain:
    """Return the cross compiler that CROSS_COMPILE names, else Debian's; no compiler is started.

    `userland` is Debian's architecture of the guest.

    Raises `UsageError` when ARCH is set to anything but arm, `MissingTool` without a compiler.
    """
    if os.environ.get("ARCH", "arm") != "arm":
        raise UsageError(
            f"ARCH={os.environ['ARCH']}: the harness builds 32-bit ARM kernels only",
            where="environment",
            next_step="unset ARCH",
        )
    prefix = _prefix(userland)
    try:
        compiler = find(f"{prefix}gcc").resolve()
    except MissingTool as error:
        raise MissingTool(
            error.what,
            where=f"CROSS_COMPILE={prefix}",
            next_step=f"set CROSS_COMPILE to a compiler that is there, or: {error.next_step}",
        ) from error
    status = compiler.stat()
    identity = f"{compiler.name}:{status.st_size}:{status.st_mtime_ns}"
    return Toolchain(prefix, identity, userland)
