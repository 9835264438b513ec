"""Every error the harness raises on purpose: what happened, where, and what to do next.

The exit codes are those of `harness.verdict`: 2 for usage and configuration, 3 for the host
and the infrastructure. What goes wrong inside a guest becomes the verdict of the case it
happened in; only when no case is running does it end the program.
"""

from __future__ import annotations

from harness.text import printable
from harness.verdict import EXIT_FAILED, EXIT_HOST, EXIT_USAGE, Verdict


class HarnessError(Exception):
    """Base of all; `what` happened, `where` (a file, a command, a guest), what to do `next`."""

    exit_code = EXIT_HOST
    verdict = Verdict.ERROR

    def __init__(self, what: str, *, where: str = "", next_step: str = "") -> None:
        self.what = what
        self.where = where
        self.next_step = next_step
        super().__init__(what)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return printable(f"{text}\n  next: {self.next_step}" if self.next_step else text)


class UsageError(HarnessError):
    """The command line asks for something that does not exist."""

    exit_code = EXIT_USAGE


class ConfigError(HarnessError):
    """A file of configs/ (or a user's) is wrong, or a kernel option did not survive."""

    exit_code = EXIT_USAGE


class LayoutRefused(ConfigError):
    """A layout cannot be on this board with this kernel; `what` has every finding."""


class HostError(HarnessError):
    """The host lacks something, or something on it failed."""


class MissingTool(HostError):
    """A program that the harness starts is not installed."""


class DownloadError(HostError):
    """A download failed, or what arrived is not what was asked for."""


class DiskFull(HostError):
    """The disk under the cache or the run has no room left."""


class CommandFailed(HostError):
    """A host program ended with a non-zero status; `where` is its command line."""


class BuildFailed(CommandFailed):
    """The kernel or a module does not compile."""


class GuestError(HarnessError):
    """The guest did not do what it was to do; `tail` is the end of its console."""

    exit_code = EXIT_FAILED
    verdict = Verdict.FAIL

    def __init__(self, what: str, *, where: str = "", next_step: str = "", tail: str = "") -> None:
        super().__init__(what, where=where, next_step=next_step)
        self.tail = tail


class GuestDied(GuestError):
    """QEMU is gone, or the guest reset or powered off while it was still needed."""

    verdict = Verdict.LOST


class GuestTimeout(GuestError):
    """The guest did not do in time what was waited for."""

    verdict = Verdict.TIMEOUT


class GuestStuck(GuestTimeout):
    """The guest's processors repeat one instruction: what is waited for will never come."""


class KernelFaulted(GuestError):
    """The guest's kernel printed an oops, a BUG, a WARNING or another fault."""

    verdict = Verdict.CRASH


class LayoutMismatch(GuestError):
    """The areas of the running kernel are not those of the layout; nothing after it counts."""

    verdict = Verdict.FAIL
