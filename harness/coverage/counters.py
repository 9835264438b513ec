"""Fetching gcov's counters from a guest; they count from its boot on, __init functions included.

The kernel shows an object's counters as a file of debugfs whose name is the object's path in the
directory that the kernel was built in (kernel/gcov/fs.c). What belongs to it, the notes (.gcno),
is kept with the built kernel.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.errors import GuestError, KernelFaulted
from harness.guest.guest import Guest
from harness.kernel.build import BuiltKernel

OPTION = "CONFIG_GCOV_KERNEL"
NOTES, COUNTS = ".gcno", ".gcda"
FOLDER = "gcov"  # of the counters, beside a guest's console.log
LOST = "lost.txt"  # why there are none, in their place

_SHOWN = "/sys/kernel/debug/gcov"
_COPY = "/tmp/cma-harness.gcda"
_SECONDS = 30.0


def notes(kdir: Path) -> tuple[Path, ...]:
    """Return the notes of a built kernel's objects, relative to its directory."""
    return tuple(sorted(path.relative_to(kdir) for path in kdir.rglob(f"*{NOTES}")))


def keep(guest: Guest, kernel: BuiltKernel, directory: Path) -> None:
    """Keep what a guest has counted so far, if its kernel counts; to be called before its end.

    What a guest that no longer answers has counted is lost; that is noted, and told with the
    coverage. It does not change how the case ended that the guest died of.
    """
    if kernel.option(OPTION) != "y":
        return
    place = directory / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    try:
        fetch(guest, kernel.kdir, place)
    except GuestError as error:
        faulted = isinstance(error, KernelFaulted)
        (place / LOST).write_text("its kernel had faulted\n" if faulted else f"{error}\n")


def fetch(guest: Guest, kdir: Path, directory: Path) -> None:
    """Copy the counters of all objects that have notes below `directory`, named as the notes are.

    Notes without counters are left of another variant that was built in the same directory.
    Raises what a guest's commands raise.
    """
    listing = guest.run(f"find {_SHOWN} -name '*{COUNTS}'", _SECONDS)
    shown = listing.checked(f"looking for counters in {_SHOWN}").splitlines()
    for notes_of in notes(kdir):
        wanted = notes_of.with_suffix(COUNTS)
        for source in (path for path in shown if path.endswith(f"/{wanted}")):
            # Its counters go on while it is copied, so a copy is made in the guest first.
            copy = f"cat {shlex.quote(source)} >{_COPY}"
            guest.run(copy, _SECONDS).checked(f"reading the counters of {wanted}")
            (directory / wanted).parent.mkdir(parents=True, exist_ok=True)
            guest.get(_COPY, directory / wanted, _SECONDS)
    guest.run(f"rm -f {_COPY}", _SECONDS).checked("removing the copy of the counters")
