"""A cell's guest out of the cache: booted and stored once, then restored for whoever needs one.

All copies of a stored guest are the same guest at the same moment. What shaped it is its key:
kernel, initramfs, device tree, command line, machine, and QEMU itself.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from harness import boots
from harness.cache import Cache, digest_file
from harness.cell import Prepared
from harness.errors import HarnessError
from harness.guest.guest import Guest
from harness.guest.qemu import Image, Launch, Sockets, argv
from harness.guest.stored import Stored
from harness.process import find, run
from harness.progress import Progress

_KIND = "guest"
_FORMAT = 1  # of what is stored, and of how it is restored
_DIGEST = "digest"
_MOST = 40  # are kept, some 2 GB: each new kernel or layout makes one


class Copies:
    """Copies of one cell's guest; used from one thread, while others use the same cache."""

    def __init__(self, prepared: Prepared, append: str, cache: Cache, progress: Progress) -> None:
        self._prepared = prepared
        self._launch = prepared.launch(append)
        self._cache = cache
        self._progress = progress
        self._sound: Stored | None = None
        self._failed: HarnessError | None = None

    def prepare(self, directory: Path) -> None:
        """Have a guest stored; that it does not boot is told by `start`."""
        try:
            self._stored(directory)
        except HarnessError as error:
            self._failed = error

    def start(self, directory: Path) -> Guest:
        """Return a copy that runs; `directory` gets what a boot gives it.

        Its console.log is that of the guest which was stored, then of each copy. Raises what
        `boots.start` raises when the one to be stored does not boot, and what `Guest.restore` does.
        """
        stored = self._stored(directory)
        launch = replace(self._launch, initrd=stored.directory / boots.INITRAMFS)
        return Guest.restore(launch, stored, directory, slow=self._prepared.cell.kernel.slow)

    def _stored(self, directory: Path) -> Stored:
        """Return the stored guest; it is looked at once whether it is as it was made."""
        if self._failed is not None:
            raise self._failed
        if self._sound is None:
            inputs = _inputs(self._prepared, self._launch)
            found = self._obtain(inputs, directory)
            if not _is_sound(found):
                self._progress.say("guest    the stored one is damaged: it is made again")
                self._cache.drop(_KIND, found.directory.name)
                found = self._obtain(inputs, directory)
            self._sound = found
        return self._sound

    def _obtain(self, inputs: dict[str, object], directory: Path) -> Stored:
        with self._progress.phase("guest", "booting the one to be copied") as phase:
            entry = self._cache.make(_KIND, inputs, lambda aside: self._fill(aside, directory))
            if entry.made:
                self._cache.keep(_KIND, _MOST)
            stored = Stored(entry.path)
            size = sum(512 * file.stat().st_blocks for file in entry.path.iterdir())
            phase.note(f"stored, {size / 1e6:.0f} MB{'' if entry.made else ' (cached)'}")
        return stored

    def _fill(self, aside: Path, directory: Path) -> None:
        """Boot in the run's own directory, which keeps the log of a boot that fails."""
        stored = Stored(aside)
        launch = replace(self._launch, image=Image(stored.memory))
        with boots.start(self._prepared, launch, directory) as guest:
            guest.console.run("true", boots.BOOT_SECONDS)
            guest.store(stored)
        shutil.move(directory / boots.INITRAMFS, aside / boots.INITRAMFS)
        (aside / _DIGEST).write_text(stored.digest())


def _is_sound(stored: Stored) -> bool:
    try:
        return stored.digest() == (stored.directory / _DIGEST).read_text()
    except OSError:
        return False


def _inputs(prepared: Prepared, launch: Launch) -> dict[str, object]:
    """Return all that shapes the guest, with contents in place of paths."""
    assert launch.dtb is not None
    files = (launch.kernel, prepared.image.archive, launch.dtb)
    modules = {module.place: digest_file(module.stripped) for module in prepared.external}
    hardware = replace(launch, kernel=Path("k"), initrd=None, dtb=None)
    program = find(launch.program).stat()
    return {
        "format": _FORMAT,
        "files": [digest_file(file) for file in files],
        "modules": modules,
        "command": argv(hardware, Sockets(Path("c"), Path("q"), Path("l"))),
        "qemu": (run([launch.program, "--version"]).output, program.st_size, program.st_mtime_ns),
    }
