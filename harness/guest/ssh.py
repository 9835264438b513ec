"""ssh into the guest: keys made for the run, commands, files.

Only 127.0.0.1 is talked to, on the port that QEMU forwards. The guest's host key is made by the
harness, so it is checked strictly; nothing of the user's own ssh is read or written.
"""

from __future__ import annotations

import shlex
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness.errors import GuestDied, GuestError, GuestTimeout
from harness.guest import terminal, transfer
from harness.guest.command import Completed

if TYPE_CHECKING:  # imported by who logs in: it takes a fifth of a second, and not all runs do
    import paramiko

AUTHORIZED_KEYS = "/root/.ssh/authorized_keys"
_HOST_KEY = "/etc/dropbear/dropbear_ed25519_host_key"  # as images/init.sh.jinja2 has it
_ALGORITHM = b"ssh-ed25519"
_SLICE = 0.25  # seconds between two looks at the console while a command runs
_SHELL_SECONDS = 30.0
_CHUNK = 1 << 15
_LAST_WORDS = 2.0  # seconds that the console gets to say why the connection broke

Watch = Callable[[float], None]
"""Looks at the console for so many seconds, and raises what it finds there."""


@dataclass(frozen=True, slots=True)
class Keys:
    """With what a run logs into a guest, and knows it: ed25519 keys."""

    client: Ed25519PrivateKey
    host: bytes  # the guest's public key in ssh's wire format

    @property
    def authorized(self) -> str:
        """The line of the guest's AUTHORIZED_KEYS that lets this run in."""
        public = self.client.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        return public.decode() + "\n"


def make_keys(directory: Path) -> tuple[Keys, Mapping[str, Path]]:
    """Make the keys of one guest; what it has of them is written to `directory`.

    The second is a map from its paths to those files, for its initramfs (root's, 0600). The key
    that the run logs in with is in no file.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    host = Ed25519PrivateKey.generate()
    keys = Keys(Ed25519PrivateKey.generate(), _wire(_ALGORITHM, _public(host)))
    files = {
        AUTHORIZED_KEYS: _secret(directory / "authorized_keys", keys.authorized.encode()),
        _HOST_KEY: _secret(directory / "dropbear_ed25519_host_key", dropbear_key(host)),
    }
    return keys, MappingProxyType(files)


def _paramiko(key: Ed25519PrivateKey) -> paramiko.Ed25519Key:
    import paramiko

    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return paramiko.Ed25519Key.from_private_key(StringIO(private.decode()))


def dropbear_key(key: Ed25519PrivateKey) -> bytes:
    """Write a private key as dropbear stores it.

    That is string "ssh-ed25519", string (32 bytes of seed, 32 bytes of public key): dropbear's
    ed25519.c, buf_put_ed25519_priv_key(), since 2020.79.
    """
    seed = key.private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )
    return _wire(_ALGORITHM, seed + _public(key))


class Ssh:
    """An ssh connection to a guest. `watch` is called while it waits.

    A kernel that checks itself is `slow`: by this all waits are longer than callers say. Every
    call raises GuestTimeout at its deadline and GuestDied as soon as the guest is gone.
    """

    def __init__(self, transport: paramiko.Transport, watch: Watch, slow: float = 1) -> None:
        self._transport = transport
        self._watch = watch
        self._slow = slow

    @classmethod
    def connect(
        cls,
        port: int,
        keys: Keys,
        timeout: float,
        watch: Watch = lambda _: None,
        *,
        slow: float = 1,
    ) -> Ssh:
        """Log in as root within `timeout` seconds; `port` is one of 127.0.0.1."""
        import paramiko

        timeout *= slow
        with _told("the ssh login", timeout, watch):
            connection = socket.create_connection(("127.0.0.1", port), timeout)
            # Else Nagle waits for a delayed ACK: 70 ms a command instead of 25 (QEMU 7.2).
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = paramiko.Transport(connection)
            try:
                transport.banner_timeout = transport.auth_timeout = timeout
                transport.start_client(timeout=timeout)
                if transport.get_remote_server_key().asbytes() != keys.host:
                    raise GuestError(
                        "what answers has not the host key of this run's guest",
                        where=f"127.0.0.1:{port}",
                        next_step="look for another program that took the forwarded port",
                    )
                transport.auth_publickey("root", _paramiko(keys.client))
            except BaseException:
                transport.close()
                raise
        return cls(transport, watch, slow)

    def run(
        self, command: str | Sequence[str], timeout: float, input: bytes | None = None
    ) -> Completed:
        """Run a sh command, or a program with its arguments; `input` is its standard input.

        The output is standard output and error as one text (UTF-8 with replacement characters);
        status 128 + N, or -1 for the shell itself, is a signal.
        """
        line = command if isinstance(command, str) else shlex.join(command)
        # In the guest, so that both stay in order: ssh carries standard error apart.
        status, output = self._run(f"exec 2>&1\n{line}", timeout, input or b"")
        return Completed(status, output.decode("utf-8", "replace"))

    def interact(self, transcript: Path) -> None:
        """Give a shell to the person at the terminal until it ends, or Ctrl-]."""
        size = terminal.require()
        patience = _SHELL_SECONDS * self._slow
        with _told("a shell", patience, self._watch):
            channel = self._transport.open_session(timeout=patience)
            channel.get_pty("vt100", size.columns, size.lines)
            channel.invoke_shell()
        with channel:
            terminal.bridge(_Shell(channel), transcript)

    def put(self, local: Path, remote: str, timeout: float = 60) -> None:
        """Copy a file into the guest with its mode. A half-copied `remote` is never seen."""

        def send(part: str) -> None:
            command = f"cat >{shlex.quote(part)}"
            self.run(command, timeout, local.read_bytes()).checked(f"writing {part}")

        transfer.put(self.run, send, local, remote, timeout)

    def get(self, remote: str, local: Path, timeout: float = 60) -> None:
        """Copy a file out of the guest with its mode. A half-copied `local` is never seen."""

        def fetch() -> bytes:
            return self._run(f"cat {shlex.quote(remote)}", timeout, b"")[1]

        transfer.get(self.run, fetch, remote, local, timeout)

    def close(self) -> None:
        """Hang up; twice is fine."""
        self._transport.close()

    def _run(self, line: str, timeout: float, data: bytes) -> tuple[int, bytes]:
        timeout *= self._slow
        deadline = time.monotonic() + timeout
        with _told(line, timeout, self._watch):
            channel = self._transport.open_session(timeout=timeout)
            try:
                channel.settimeout(timeout)
                channel.set_combine_stderr(True)  # of dropbear itself
                channel.exec_command(line)
                output = self._exchange(channel, data, deadline)
                channel.status_event.wait(max(0.0, deadline - time.monotonic()))
                if not channel.status_event.is_set():
                    raise TimeoutError
                self._alive(channel)
                status = channel.exit_status
            finally:
                channel.close()
        self._watch(0)
        return status, output

    def _exchange(self, channel: paramiko.Channel, data: bytes, deadline: float) -> bytes:
        """Send `data` and read until the program closes its output, looking at the console."""
        channel.settimeout(_SLICE)
        output, left = bytearray(), memoryview(data)
        chunk: bytes | None = None
        while chunk != b"":
            if left:
                left = self._send(channel, left)
            if not left and not channel.eof_sent:
                channel.shutdown_write()
            chunk = None
            if not left or channel.recv_ready():
                chunk = self._receive(channel)
                output += chunk or b""
            if time.monotonic() > deadline:
                raise TimeoutError
        return bytes(output)

    def _send(self, channel: paramiko.Channel, left: memoryview) -> memoryview:
        """Send a part of the input; return what is left of it."""
        try:
            return left[channel.send(bytes(left[:_CHUNK])) :]
        except TimeoutError:  # the window is full: the program does not read
            self._watch(0)
            return left
        except OSError:
            if not self._transport.is_active():
                raise
            return left[:0]  # the program ended without reading it all, which it may

    def _receive(self, channel: paramiko.Channel) -> bytes | None:
        """What the program wrote; None if nothing within a slice, empty at the end."""
        try:
            return channel.recv(_CHUNK)
        except TimeoutError:
            self._watch(0)
            return None

    def _alive(self, channel: paramiko.Channel) -> None:
        if channel.exit_status == -1 and not self._transport.is_active():
            raise EOFError("the connection broke")


class _Shell:
    """A shell's channel as the remote end of a terminal."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self.ended = False

    def fileno(self) -> int:
        return self._channel.fileno()

    def take(self, timeout: float) -> bytes:
        self._channel.settimeout(timeout)
        try:
            data = self._channel.recv(_CHUNK)
        except TimeoutError:
            return b""
        self.ended = not data
        return data

    def send(self, data: bytes) -> int:
        self._channel.settimeout(None)
        self._channel.sendall(data)
        return len(data)


@contextmanager
def _told(doing: str, timeout: float, watch: Watch) -> Iterator[None]:
    """Turn what paramiko and sockets raise into the harness's errors; the console knows best."""
    import paramiko

    try:
        yield
    except TimeoutError as error:
        watch(0)
        raise GuestTimeout(
            f"{doing!r} did not end within {timeout:g} s",
            where="ssh",
            next_step="see the end of the console",
        ) from error
    except (paramiko.AuthenticationException, paramiko.ChannelException) as error:
        watch(0)
        raise GuestError(f"{doing!r} was refused: {error}", where="ssh") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        watch(_LAST_WORDS)
        raise GuestDied(f"{doing!r} lost its connection: {error}", where="ssh") from error


def _secret(path: Path, data: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _wire(*strings: bytes) -> bytes:
    """Join byte strings as ssh does: each behind its length (RFC 4251, section 5)."""
    return b"".join(struct.pack(">I", len(string)) + string for string in strings)
