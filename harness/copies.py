"""A cell's guest out of the cache: booted and stored once, then restored for whoever needs one.

All copies of a stored guest are the same guest at the same moment. What shaped it is its key:
kernel, initramfs, device tree, command line, machine, and QEMU itself; and what read the beginning
that is kept with it.

There are two of them: one whose console has a shell, for whatever tests do, and the same one when
it waits for a KUnit case to run alone (harness/guest/waiting.py).
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path

from harness import beginning, boots
from harness.beginning import Beginning
from harness.cache import Cache, digest_file
from harness.cell import Prepared
from harness.cma import answers, areas, counters
from harness.errors import HarnessError
from harness.guest.guest import Guest
from harness.guest.qemu import Image, Launch, Sockets, argv
from harness.guest.stored import NotRestored, Stored
from harness.guest.waiting import Waiting
from harness.process import find, run
from harness.progress import Progress

_KIND = "guest"
_FORMAT = 2  # of what is stored, and of how it is restored
_READERS = (beginning, areas, answers, counters)  # of what is kept beside the guest
_MOST = 40  # are kept, some 2 GB: each new kernel or layout makes one


class Copies:
    """Copies of one cell's guest; used from one thread, while others use the same cache."""

    def __init__(self, prepared: Prepared, append: str, cache: Cache, progress: Progress) -> None:
        self._prepared = prepared
        self._launch = prepared.launch(append)
        self._cache = cache
        self._progress = progress
        self._sound: dict[bool, Stored] = {}
        self._begun: dict[bool, Beginning] = {}
        self._made_again: set[bool] = set()
        self._failed: HarnessError | None = None

    def prepare(self, directory: Path) -> None:
        """Have a guest stored; that it does not boot is told by `start`."""
        try:
            self._stored(directory)
        except HarnessError as error:
            self._failed = error

    def beginning(self, directory: Path, *, waiting: bool = False) -> Beginning:
        """Return what the guest was found to have before it was stored. Raises as `start` does."""
        stored = self._stored(directory, waiting=waiting)
        if waiting not in self._begun:
            self._begun[waiting] = Beginning.model_validate_json(stored.known.read_bytes())
        return self._begun[waiting]

    def start(self, directory: Path, *, waiting: bool = False) -> Guest:
        """Return a copy that runs; `directory` gets what a boot gives it.

        With `waiting` it is one on whose console cma-case waits, and that has no ssh. Its
        console.log is that of the guest which was stored, then of each copy. Raises what
        `boots.start` raises when the one to be stored does not boot, and what `Guest.restore` does.
        """
        stored = self._stored(directory, waiting=waiting)
        try:
            return self._restore(stored, directory, waiting=waiting)
        except NotRestored as error:
            if waiting in self._made_again:
                raise
            # In the middle of a test, whose output pytest keeps: its summary has warnings.
            warnings.warn(f"{error.what}: it is made again", RuntimeWarning, stacklevel=2)
        self._made_again.add(waiting)
        self._drop(stored, waiting=waiting)
        return self._restore(self._stored(directory, waiting=waiting), directory, waiting=waiting)

    def _restore(
        self, stored: Stored, directory: Path, *, waiting: bool, image: Image | None = None
    ) -> Guest:
        launch = replace(self._launch, initrd=stored.directory / boots.INITRAMFS, image=image)
        slow = self._prepared.cell.kernel.slow
        return Guest.restore(launch, stored, directory, slow=slow, login=not waiting)

    def _stored(self, directory: Path, *, waiting: bool = False) -> Stored:
        """Return the stored guest; it is looked at once whether it is as it was made."""
        if self._failed is not None:
            raise self._failed
        if waiting not in self._sound:
            found = self._obtain(directory, waiting=waiting)
            if not found.is_sound():
                self._progress.say("guest    the stored one is damaged: it is made again")
                self._drop(found, waiting=waiting)
                found = self._obtain(directory, waiting=waiting)
            self._sound[waiting] = found
        return self._sound[waiting]

    def _drop(self, stored: Stored, *, waiting: bool) -> None:
        self._sound.pop(waiting, None)
        self._begun.pop(waiting, None)
        self._cache.drop(_KIND, stored.directory.name)

    def _obtain(self, directory: Path, *, waiting: bool) -> Stored:
        inputs = _inputs(self._prepared, self._launch) | ({"waiting": True} if waiting else {})
        fill = self._fill_waiting if waiting else self._fill
        with self._progress.phase("guest", "booting the one to be copied") as phase:
            entry = self._cache.make(_KIND, inputs, lambda aside: fill(Stored(aside), directory))
            if entry.made:
                self._cache.keep(_KIND, _MOST)
            stored = Stored(entry.path)
            size = sum(512 * file.stat().st_blocks for file in entry.path.iterdir())
            phase.note(f"stored, {size / 1e6:.0f} MB{'' if entry.made else ' (cached)'}")
        return stored

    def _fill(self, stored: Stored, directory: Path) -> None:
        """Boot in the run's own directory, which keeps the log of a boot that fails."""
        launch = replace(self._launch, image=Image(stored.memory))
        with boots.start(self._prepared, launch, directory) as guest:
            begun = beginning.look(guest)
            guest.store(stored, begun.model_dump_json(by_alias=True).encode())
        shutil.move(directory / boots.INITRAMFS, stored.directory / boots.INITRAMFS)
        stored.seal()

    def _fill_waiting(self, stored: Stored, directory: Path) -> None:
        """Store a copy of the other one again, when cma-case waits in it.

        It has taken its snapshots once: with the first comes memory that it keeps, and for which
        the next, in the copies, would have to look again.
        """
        first = self._stored(directory)
        run(["cp", "--sparse=always", first.memory, stored.memory])
        image = Image(stored.memory, restored=True, stored_again=True)
        with (
            tempfile.TemporaryDirectory(prefix="cma-waiting-") as work,
            self._restore(first, Path(work), waiting=True, image=image) as guest,
        ):
            waiting = Waiting.enter(guest.console, boots.BOOT_SECONDS)
            counters.take(waiting, pages=True)
            counters.take_at_once(waiting)
            guest.store(stored, first.known.read_bytes())
        (stored.directory / boots.INITRAMFS).hardlink_to(first.directory / boots.INITRAMFS)
        stored.seal()


def _inputs(prepared: Prepared, launch: Launch) -> dict[str, object]:
    """Return all that shapes the guest, with contents in place of paths."""
    assert launch.dtb is not None
    files = (launch.kernel, prepared.image.archive, launch.dtb)
    modules = {module.place: digest_file(module.stripped) for module in prepared.external}
    hardware = replace(launch, kernel=Path("k"), initrd=None, dtb=None)
    program = find(launch.program).stat()
    return {
        "format": _FORMAT,
        "readers": [digest_file(Path(str(module.__file__))) for module in _READERS],
        "files": [digest_file(file) for file in files],
        "modules": modules,
        "command": argv(hardware, Sockets(Path("c"), Path("q"), Path("l"))),
        "qemu": (_version(launch.program), program.st_size, program.st_mtime_ns),
    }


@cache
def _version(program: str) -> str:
    """Ask once; to start it takes as long as a guest's restoring."""
    return run([program, "--version"]).output
