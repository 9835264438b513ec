"""The helper device /dev/cma_test in a study's guest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.cma.helper import DEFAULT_DEVICE, Helper
from harness.guest.guest import Guest

_SECONDS = 60.0


@contextmanager
def loaded(guest: Guest, device: str = DEFAULT_DEVICE) -> Iterator[Helper]:
    """Have the module of the helper loaded; `device` is one of its nodes."""
    guest.run("insmod /lib/cma/cma_test.ko").checked("loading cma_test")
    yield Helper(guest, device=device, timeout=_SECONDS)
    guest.run("rmmod cma_test").checked("unloading cma_test")


def take_ranges(guest: Guest, helper: Helper, size: int) -> frozenset[int]:
    """Allocate buffers of that size until there is none, free them; return their addresses.

    `helper` must have no others.
    """
    alloc = f"cma-ctl alloc {size} --attr no-warn"
    done = guest.run(f"while {alloc}; do :; done >/dev/null 2>&1; true", _SECONDS)
    done.checked("taking ranges")
    buffers = helper.list()
    for buffer in buffers:
        helper.free(buffer.handle)
    return frozenset(buffer.dma_address for buffer in buffers)
