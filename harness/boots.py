"""Further guests of a session: its kernel and board, with another layout or command line.

What the kernel decides before user space (where an area lies, which of two requests wins, what is
refused) takes a boot for each question. Those guests run beside the cell's own one, which is
compared with its layout and shared by all tests; here nothing is compared, because to ask for what
the kernel must refuse is the point.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import libfdt

from harness.board import tree
from harness.cache import Cache
from harness.cell import Prepared
from harness.closing import Closing
from harness.config import Layout, load_layout
from harness.coverage import counters as executed
from harness.errors import GuestError
from harness.faults import Fault
from harness.guest.guest import Guest
from harness.guest.machine import CONSOLE_LOG
from harness.guest.qemu import Launch, Watch
from harness.guest.ssh import make_keys
from harness.image.initramfs import File
from harness.progress import Progress
from harness.results.record import Span

BOOT_SECONDS = 60.0
INITRAMFS = "initramfs.cpio"
EXECUTED_LOG = "executed.log"
_EARLY = "earlycon"  # the console that the tree's stdout-path names, before its driver is up
_ROOM = 4096  # bytes that an edit of a device tree may add

Edit = Callable[[libfdt.Fdt], None]
"""Changes a device tree in place, into what no layout can say."""


def start(
    prepared: Prepared, launch: Launch, directory: Path, *, login: bool = True, gdb: bool = False
) -> Guest:
    """Boot a guest with keys of its own, whose files are on the disk only while it starts.

    With `login` its commands go over ssh where the board has a network, else over the console.
    `directory` gets the initramfs, console.log, qemu.log and boot.sh.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cma-keys-") as private:
        work = Path(private)
        keys, secrets = make_keys(work)
        files = {path: File(source, 0o600) for path, source in secrets.items() if launch.network}
        files |= {module.place: File(module.stripped, 0o644) for module in prepared.external}
        initrd = directory / INITRAMFS
        prepared.image.with_files(files, work, initrd)
        return Guest.boot(
            replace(launch, initrd=initrd),
            directory,
            keys if login else None,
            timeout=BOOT_SECONDS,
            slow=prepared.cell.kernel.slow,
            gdb=gdb,
        )


@dataclass(frozen=True, slots=True)
class _Started:
    guest: Guest
    log: str  # below the cell's directory


class Boots(Closing):
    """Boots further guests of a cell; used from one thread.

    `with boots.boot(layout) as guest:` ends the guest with the block. What is left ends with the
    session. A fault of any of them that nobody expected makes the test in which it is seen a CRASH.
    """

    def __init__(self, prepared: Prepared, directory: Path, cache: Cache, *, append: str) -> None:
        self._prepared = prepared
        self._directory = directory.absolute()
        self._cache = cache
        self._append = append
        self._started: list[_Started] = []
        self._number = 0
        self._cited: str | None = None

    def launch(self, prepared: Prepared, append: str = "") -> Launch:
        """Return what `boot` starts QEMU with."""
        return prepared.launch(" ".join(filter(None, (self._append, _EARLY, append))))

    @contextmanager
    def boot(
        self,
        layout: Layout | str,
        append: str = "",
        *,
        edit: Edit | None = None,
        options: tuple[str, ...] = (),
        watch: Sequence[int] = (),
    ) -> Iterator[Guest]:
        """Boot this session's kernel and board with a layout: a value, a name or a TOML file.

        `append` follows the session's own `--append` on the command line. `edit` changes the
        checked tree, for what a layout does not say. `options` are further words for QEMU. `watch`
        are addresses of functions, whose calls go to the guest's `EXECUTED_LOG`. Commands go over
        the console, which needs no login. Raises what `Guest.boot` raises: KernelFaulted,
        GuestTimeout (of which `GuestStuck` is one kind), GuestDied.
        """
        chosen = layout if isinstance(layout, Layout) else load_layout(layout)
        self._number += 1
        log, directory = self._place(chosen)
        prepared = self._with_layout(chosen)
        launch = self.launch(prepared, append)
        launch = replace(launch, extra=(*launch.extra, *options))
        if edit is not None:
            launch = replace(launch, dtb=_edited(prepared.tree.blob, edit, directory))
        if watch:
            launch = replace(launch, watch=Watch(directory / EXECUTED_LOG, tuple(watch)))
        self._cited = log
        try:
            guest = start(prepared, launch, directory, login=False)
        except GuestError as error:
            error.where = f"{log}, {error.where}".removesuffix(", ")
            raise
        self._started.append(_Started(guest, log))
        with guest:
            # At once, as it may end in many ways: what it is booted for has run by now.
            executed.keep(guest, prepared.kernel, directory)
            yield guest
            if guest.machine.alive:
                executed.keep(guest, prepared.kernel, directory)

    def log_of(self, guest: Guest) -> str:
        """Return the path of a guest's console log, below the cell's directory."""
        return next(each.log for each in self._started if each.guest is guest)

    def cite(self, log: str) -> None:
        """Make a console log the one that the record of the running test points to."""
        self._cited = log

    def cited(self) -> Span | None:
        """Return the console that the running test is about, and forget it."""
        log, self._cited = self._cited, None
        if log is None:
            return None
        file = self._directory.parent / log
        return Span(log=log, start=0, end=file.stat().st_size if file.exists() else 0)

    def take_faults(self) -> tuple[Fault, ...]:
        """Return what any further guest reported and nobody was told of; let go of ended ones."""
        faults = tuple(
            fault for each in self._started for fault in each.guest.console.take_faults()
        )
        self._started = [each for each in self._started if each.guest.machine.alive]
        return faults

    def close(self) -> None:
        """End what still runs."""
        for each in self._started:
            each.guest.close()
        self._started = []

    def _place(self, layout: Layout) -> tuple[str, Path]:
        name = re.sub(r"[^A-Za-z0-9._+-]+", "_", layout.name)
        directory = self._directory / f"{self._number:02}-{name}"
        return f"{self._directory.name}/{directory.name}/{CONSOLE_LOG}", directory

    def _with_layout(self, layout: Layout) -> Prepared:
        cell = replace(self._prepared.cell, layout=layout)
        made = tree.make(
            cell.board, layout, self._prepared.kernel.source, self._cache, Progress(quiet=True)
        )
        return replace(self._prepared, cell=cell, tree=made)


def _edited(blob: Path, edit: Edit, directory: Path) -> Path:
    """Write a changed copy of a tree into `directory`."""
    changed = libfdt.Fdt(blob.read_bytes())
    changed.resize(changed.totalsize() + _ROOM)
    edit(changed)
    changed.pack()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "board.dtb"
    path.write_bytes(changed.as_bytearray())
    return path
