"""pexpect on a guest's console: bytes as they come, read by a thread that never stops reading.

QEMU writes the serial port byte by byte and, when the reader is behind, waits with its big lock
held (qemu_chr_fe_write_all): 278 unread bytes in a unix socket of Linux's default size stop the
guest, its network and QMP. So somebody must read even while the harness talks over ssh. pexpect's
own SocketSpawn reads only while it waits; like its PopenSpawn, this one has a reader of its own.
"""

from __future__ import annotations

import os
import re
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING

import pexpect
from pexpect.expect import searcher_re
from pexpect.spawnbase import SpawnBase

if TYPE_CHECKING:  # generic in the stubs only
    _Searcher = searcher_re[bytes]
    _Spawn = SpawnBase[bytes]
else:
    _Searcher, _Spawn = searcher_re, SpawnBase

_CHUNK = 1 << 16
LONGEST_MATCH = 4096  # bytes


class Log(bytearray):
    """All that was read, for pexpect's logfile_read: an index into it is one into console.log."""

    def write(self, data: bytes) -> None:
        """Add what was read."""
        self.extend(data)

    def flush(self) -> None:
        """Do nothing: it is all in memory."""


class Watcher(_Searcher):
    """Searches for one pattern, and shows each stretch of new text to `watch` first.

    `watch` gets the length of the window that lies behind the match (0 without one) and may
    raise to end the wait. Old text is searched again only as far as a match can be long; pexpect's
    own searcher would search all of it for every chunk.
    """

    def __init__(self, pattern: re.Pattern[bytes], watch: Callable[[int], None]) -> None:
        super().__init__([pattern, pexpect.EOF, pexpect.TIMEOUT])
        self._pattern = pattern
        self._watch = watch

    def search(self, buffer: bytes, freshlen: int, searchwindowsize: int | None = None) -> int:
        """Return 0 when the pattern is in the window, else -1; pexpect calls this."""
        del searchwindowsize
        found = self._pattern.search(buffer, max(0, len(buffer) - freshlen - LONGEST_MATCH))
        self._watch(len(buffer) - found.end() if found else 0)
        if found is None:
            return -1
        self.match = found
        self.start, self.end = found.span()
        return 0


class Stream(_Spawn):
    """The console's socket as a pexpect child; one thread reads it, one other uses it."""

    def __init__(self, connection: socket.socket, before: bytes = b"") -> None:
        super().__init__(timeout=None, maxread=_CHUNK)
        self.log = self.logfile_read = Log(before)
        self._socket = connection.dup()  # theirs may be closed while there is more to read
        self._chunks: deque[bytes] = deque()
        self._arrived = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._reader = threading.Thread(target=self._pump, name="console", daemon=True)
        self.ended = False
        self._reader.start()

    def _pump(self) -> None:
        chunk = b"-"
        while chunk:
            try:
                chunk = self._socket.recv(_CHUNK)
            except ConnectionResetError:
                chunk = b""  # QEMU was killed with unread input: an end like any other
            self._chunks.append(chunk)
            os.eventfd_write(self._arrived, 1)

    def fileno(self) -> int:
        """A descriptor for select(): readable when there is something, or the end, to read."""
        return self._arrived

    def read_nonblocking(self, size: int = _CHUNK, timeout: float | None = None) -> bytes:
        """Return all that has come, waiting up to `timeout` seconds for something to come.

        pexpect's one primitive; its `size` is a wish. Raises pexpect.TIMEOUT and pexpect.EOF.
        """
        del size
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.ended:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._arrived], [], [], left)[0]:
                raise pexpect.TIMEOUT("nothing came")
            os.eventfd_read(self._arrived)
            # None is left of a chunk that was taken with the one before, ahead of its signal.
            data = self._drain()
            if data:
                self._log(data, "read")  # type: ignore[attr-defined]
                return data
        raise pexpect.EOF("the console was closed")

    def _drain(self) -> bytes:
        parts = []
        while self._chunks:
            part = self._chunks.popleft()
            self.ended = not part
            parts.append(part)
        return b"".join(parts)

    def restart(self, data: bytes) -> None:
        """Make `data` the text that the next wait begins with.

        pexpect keeps that twice, and takes the longer one: what its last match left behind would
        come back, although it was read since.
        """
        self._buffer, self._before = BytesIO(), BytesIO()
        self._buffer.write(data)
        self._before.write(data)

    def take(self, timeout: float) -> bytes:
        """Return what has come, waiting up to `timeout` seconds; empty for nothing, or the end."""
        try:
            return self.read_nonblocking(timeout=timeout)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return b""

    def send(self, data: bytes) -> int:
        """Type `data` on the guest's serial port. Raises OSError when QEMU is gone."""
        self._socket.sendall(data)
        return len(data)

    def close(self) -> None:
        """Read to the end what has come, and stop; twice is fine."""
        if self._arrived < 0:
            return
        with suppress(OSError):  # ENOTCONN: QEMU has hung up already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self.take(0)
        self._socket.close()
        os.close(self._arrived)
        self._arrived, self.ended = -1, True
