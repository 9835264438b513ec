"""The bytes of a guest's console as they come, read by a thread that never stops reading.

QEMU writes the serial port byte by byte and, when the reader is behind, waits with its big lock
held (qemu_chr_fe_write_all): 278 unread bytes in a unix socket of Linux's default size stop the
guest, its network and QMP. So somebody must read even while the harness talks over ssh.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections import deque
from contextlib import suppress

_CHUNK = 1 << 16


class Stream:
    """The console's socket; one thread reads it, one other thread takes what was read."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
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
        """A descriptor for select(): readable when `read` has something, or the end, to tell."""
        return self._arrived

    def read(self, timeout: float) -> bytes:
        """Return what has come; wait up to `timeout` seconds for something to come.

        Empty when nothing came, or at the end, and then `ended` is true.
        """
        if self.ended or not select.select([self._arrived], [], [], max(0.0, timeout))[0]:
            return b""
        os.eventfd_read(self._arrived)
        parts = []
        while self._chunks:
            part = self._chunks.popleft()
            self.ended = not part
            parts.append(part)
        return b"".join(parts)

    def write(self, data: bytes) -> None:
        """Type `data` on the guest's serial port. Raises OSError when QEMU is gone."""
        self._socket.sendall(data)

    def close(self) -> None:
        """Stop reading; twice is fine."""
        if self._arrived < 0:
            return
        with suppress(OSError):  # ENOTCONN: QEMU has hung up already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        os.close(self._arrived)
        self._arrived, self.ended = -1, True
