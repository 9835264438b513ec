"""Copying files to and from a guest that has cat, sha256sum and stat, but no sftp.

What goes through is compared by its SHA-256, and a file appears under its name only when it is
whole. How the bytes travel is the connection's affair.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from harness.errors import GuestError
from harness.guest.command import Completed

Run = Callable[[str, float], Completed]
"""Runs a sh command in the guest, within so many seconds."""

_BLOCK = 24 << 10  # bytes a command: its base64 must stay below execve's 128 KiB for one argument


def put(run: Run, send: Callable[[str], None], local: Path, remote: str, timeout: float) -> None:
    """Send `local` into the guest with `send`, which gets the path to write, then check it."""
    part = f"{remote}.part"
    send(part)
    mode = local.stat().st_mode & 0o7777
    quoted = shlex.quote(part)
    command = f"chmod {mode:o} {quoted} && sha256sum <{quoted} && wc -c <{quoted}"
    digest, _, size = run(command, timeout).checked(f"checking {part}").split()
    data = local.read_bytes()
    _compare(remote, (digest, int(size)), data)
    run(f"mv {quoted} {shlex.quote(remote)}", timeout).checked(f"renaming {part}")


def get(run: Run, fetch: Callable[[], bytes], remote: str, local: Path, timeout: float) -> None:
    """Take what `fetch` brings as the file `remote` of the guest, check it, write `local`."""
    quoted = shlex.quote(remote)
    command = f"stat -L -c %a {quoted} && sha256sum <{quoted} && wc -c <{quoted}"
    mode, digest, _, size = run(command, timeout).checked(f"reading {remote}").split()
    data = fetch()
    _compare(remote, (digest, int(size)), data)
    part = local.with_name(f"{local.name}.part")
    part.write_bytes(data)
    part.chmod(int(mode, 8) & 0o777)
    part.replace(local)


def send_as_text(run: Run, data: bytes, part: str, timeout: float) -> None:
    """Write `part` in the guest over a connection that carries lines of text only: a console.

    The deadline is for the whole; each block is acknowledged, so no serial buffer overflows.
    """
    deadline = time.monotonic() + timeout
    quoted = shlex.quote(part)
    run(f": >{quoted}", timeout).checked(f"writing {part}")
    for start in range(0, len(data), _BLOCK):
        text = base64.encodebytes(data[start : start + _BLOCK]).decode()
        left = max(0.0, deadline - time.monotonic())
        run(f"base64 -d >>{quoted} <<'~'\n{text}~\n", left).checked(f"writing {part}")


def fetch_as_text(run: Run, remote: str, timeout: float) -> bytes:
    """Read a file of the guest over a connection that carries text only."""
    return base64.b64decode(run(f"base64 <{shlex.quote(remote)}", timeout).checked(remote))


def _compare(remote: str, told: tuple[str, int], data: bytes) -> None:
    here = (hashlib.sha256(data).hexdigest(), len(data))
    if here != told:
        raise GuestError(
            f"a copy differs: {told[1]} bytes there, {here[1]} here",
            where=remote,
            next_step="a file that changes while it is read (/proc, /sys): print it with cat",
        )
