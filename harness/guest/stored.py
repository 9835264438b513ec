"""A guest that was stopped and stored: its memory, the state of its devices, its console so far.

QEMU migrates the guest to a file, but for its memory, which is a file already (x-ignore-shared).
That takes 0.35 MB for the board `virt`; the memory is as large on the disk as what the guest has
written to. Restored copies map the memory file privately and share what they do not write.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from harness.errors import GuestDied, GuestTimeout, HostError
from harness.guest.machine import CONSOLE_LOG, Machine, Qmp

_SECONDS = 60.0
# Both ends must agree on them. Names of QEMU 7.2 to 11; events tell the end without polling.
_CAPABILITIES = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
_CHUNK = 1 << 20


class NotRestored(HostError):
    """QEMU does not take a stored guest, which another QEMU, or one like it, has written."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The files of a stored guest, in a directory of its own."""

    directory: Path

    @property
    def memory(self) -> Path:
        """The guest's memory, sparse."""
        return self.directory / "memory"

    @property
    def state(self) -> Path:
        """QEMU's migration stream: devices and processors."""
        return self.directory / "state"

    @property
    def console(self) -> Path:
        """What the guest had said when it was stopped."""
        return self.directory / CONSOLE_LOG

    @property
    def host_key(self) -> Path:
        """The public key that its ssh server has, in ssh's wire format; empty without a network."""
        return self.directory / "host_key"

    @property
    def known(self) -> Path:
        """What whoever stored it knew of it, in a form of their own."""
        return self.directory / "known"

    def seal(self) -> None:
        """Note what the files hold, for `is_sound`."""
        self._digest.write_text(self.digest())

    def is_sound(self) -> bool:
        """Whether they are as they were sealed."""
        try:
            return self.digest() == self._digest.read_text()
        except OSError:
            return False

    @property
    def _digest(self) -> Path:
        return self.directory / "digest"

    def digest(self) -> str:
        """Return a SHA-256 over what the files hold; holes of the memory are left out."""
        whole = hashlib.sha256()
        for path in (self.memory, self.state, self.console, self.host_key, self.known):
            whole.update(f"{path.name} {path.stat().st_size}\n".encode())
            _add_data(path, whole)
        return whole.hexdigest()


def save(machine: Machine, stored: Stored) -> None:
    """Stop a guest whose memory is `stored.memory`, and write its state; its QEMU only ends then.

    Raises `HostError` when the board has a device that cannot be stored.
    """
    machine.qmp.execute("stop")
    machine.qmp.execute("migrate-set-capabilities", capabilities=_CAPABILITIES)
    machine.qmp.execute("migrate", uri=f"exec:cat > {shlex.quote(str(stored.state))}")
    _await(machine.qmp, "storing the guest")


def load(machine: Machine, stored: Stored) -> None:
    """Give a QEMU that was started for it the state of a stored guest; it is stopped.

    Raises `NotRestored` when QEMU does not take it, after which QEMU ends.
    """
    machine.qmp.execute("migrate-set-capabilities", capabilities=_CAPABILITIES)
    try:
        machine.qmp.execute("migrate-incoming", uri=f"exec:cat {shlex.quote(str(stored.state))}")
        _await(machine.qmp, "restoring the guest")
    except (HostError, GuestDied) as error:
        raise NotRestored(
            f"QEMU does not take the stored guest: {machine.why()}", where=str(stored.state)
        ) from error


def _await(qmp: Qmp, doing: str) -> None:
    while True:
        event = qmp.event("MIGRATION", _SECONDS)
        if event is None:
            raise GuestTimeout(f"{doing}: not within {_SECONDS:g} s", where="QMP")
        if event["status"] == "completed":
            return
        if event["status"] == "failed":
            told = qmp.execute("query-migrate").get("error-desc", "QEMU does not say why")
            raise HostError(f"{doing}: {told}", where="QMP 'migrate'")


def _add_data(path: Path, whole: hashlib._Hash) -> None:
    """Hash what a sparse file has of data, and where."""
    with path.open("rb") as file:
        size, at = path.stat().st_size, 0
        while at < size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: the rest is a hole
                return
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            whole.update(f"{start}-{at}\n".encode())
            for offset in range(start, at, _CHUNK):
                whole.update(os.pread(file.fileno(), min(_CHUNK, at - offset), offset))
