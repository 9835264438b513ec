"""What the modules of harness/cma need of a guest: something that runs a command there."""

from __future__ import annotations

from typing import Protocol


class Completed(Protocol):
    """What a command in the guest left behind: its exit status and all it printed."""

    @property
    def status(self) -> int:
        """The exit status, 0 to 255."""

    @property
    def output(self) -> str:
        """Standard output and standard error, as the guest mixed them."""


class Shell(Protocol):
    """Anything that can run a command in the guest: the console, ssh, a fake."""

    def run(self, command: str, timeout: float) -> Completed:
        """Run a sh command to its end within `timeout` seconds; GuestError when that cannot be."""
