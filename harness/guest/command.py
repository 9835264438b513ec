"""A command that ran in the guest, over whatever connection."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import GuestError


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended: its exit status, and standard output and error as one text."""

    status: int
    output: str

    def checked(self, what: str) -> str:
        """Return the output; raise GuestError about `what` when the status is not 0."""
        if self.status:
            raise GuestError(f"{what}: status {self.status}: {self.output.strip()[-2000:]}")
        return self.output
