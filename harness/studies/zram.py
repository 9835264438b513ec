"""Swap space and a disk in a study's guest, both in zram: only what is used takes memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.cma.areas import PAGE
from harness.guest.guest import Guest

_SECONDS = 60.0
_SIZE = "96M"
_DISK = "/tmp/disk"
_CONTROL = "/sys/class/zram-control"
_MAKE = f"n=$(cat {_CONTROL}/hot_add) && echo {_SIZE} >/sys/block/zram$n/disksize"
_SECTOR = 512


@dataclass(frozen=True, slots=True)
class Transfers:
    """How many pages were read from a block device, and written to it."""

    read: int
    written: int

    def since(self, before: Transfers) -> Transfers:
        """Return what came after `before`."""
        return Transfers(self.read - before.read, self.written - before.written)


def transfers(guest: Guest, device: str) -> Transfers:
    """Return all transfers of a block device ("zram0") until now."""
    text = guest.run(f"cat /sys/block/{device}/stat").checked(f"what {device} has transferred")
    return parse_transfers(text)


def parse_transfers(text: str) -> Transfers:
    """Return what a device's `stat` says (Documentation/block/stat.rst)."""
    fields = [int(word) for word in text.split()]
    return Transfers(fields[2] * _SECTOR // PAGE, fields[6] * _SECTOR // PAGE)


@contextmanager
def swap_space(guest: Guest) -> Iterator[str]:
    """Have swap space of 96 MiB; yield its block device's name."""
    number = _made(guest, "mkswap /dev/zram$n && swapon /dev/zram$n")
    yield f"zram{number}"
    _undone(guest, f"swapoff /dev/zram{number}", number)


@contextmanager
def disk_file(guest: Guest) -> Iterator[tuple[str, str]]:
    """Yield a block device's name, and the path of a file that may be made on it (ext4)."""
    use = f"d=/dev/zram$n && mke2fs -b 4096 -F $d && mkdir -p {_DISK} && mount -t ext4 $d {_DISK}"
    number = _made(guest, use)
    yield f"zram{number}", f"{_DISK}/file"
    _undone(guest, f"umount {_DISK}", number)


def _made(guest: Guest, use: str) -> str:
    """Make a zram device, put it to use ($n is its number), and return that number."""
    done = guest.run(f"{{ {_MAKE} && {use}; }} >/dev/null && echo $n", _SECONDS)
    return done.checked("making a zram device").strip().splitlines()[-1]


def _undone(guest: Guest, undo: str, number: str) -> None:
    remove = f"echo 1 >/sys/block/zram{number}/reset && echo {number} >{_CONTROL}/hot_remove"
    guest.run(f"{undo} && {remove}", _SECONDS).checked("taking a zram device away")
