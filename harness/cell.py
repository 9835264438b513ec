"""A cell (kernel x board x layout x lane), and everything that is made for it before a boot."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from harness import config, debian
from harness.board import machines, tree
from harness.cache import Cache
from harness.config import Board, Kernel, Layout
from harness.errors import ConfigError, LayoutRefused
from harness.guest.qemu import Launch
from harness.image import initramfs
from harness.kernel import build, external, modules, source
from harness.kernel.toolchain import require_libc, toolchain
from harness.kernel.tree import Source
from harness.layout import survey
from harness.layout.check import Finding, check
from harness.layout.ground import Ground
from harness.progress import Progress
from harness.results.plan import Wish

Lane = Literal["smp", "exact"]
LANES: tuple[Lane, ...] = get_args(Lane)
"""`smp` has the board's processors, and time passes as on the host; `exact` counts instructions."""

# panic=-1 and oops=panic end a broken guest at once; printk.devkmsg keeps the log whole when a
# suite prints much.
_CMDLINE = "panic=-1 oops=panic printk.devkmsg=on loglevel=8"


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the matrix."""

    kernel: Kernel
    board: Board
    layout: Layout
    lane: Lane = "smp"

    @property
    def name(self) -> str:
        """A name for people, file names and JUnit: 6.12-virt-default."""
        parts = [self.kernel.label, self.board.name, self.layout.name]
        if self.lane != "smp":
            parts.append(self.lane)
        return "-".join(re.sub(r"[^A-Za-z0-9._+-]+", "_", part) for part in parts)


def load(
    kernel: str,
    board: str,
    layout: str,
    variant: str = config.PLAIN,
    *,
    patches: Sequence[str] = (),
    fragments: Sequence[str] = (),
    lane: str = "smp",
) -> Cell:
    """Return the cell of those names; raise `UsageError` or `ConfigError`.

    `patches` and `fragments` are files that change the kernel.
    """
    config.require_known("lane", [lane], LANES)
    machine = config.load_board(board)
    if lane == "exact":
        machine = machine.counting()
    return Cell(
        config.load_kernel(kernel, variant, machine.family, patches=patches, fragments=fragments),
        machine,
        config.load_layout(layout),
        cast("Lane", lane),
    )


def wanted(wish: Wish) -> Cell:
    """Return the cell that was asked for; raise `UsageError` or `ConfigError`."""
    names = wish.kernel, wish.board, wish.layout, wish.variant
    return load(*names, patches=wish.patches, fragments=wish.fragments, lane=wish.lane)


def obstacle(cell: Cell) -> str | None:
    """Return why this cell cannot exist, as far as its data tell; None when nothing speaks against.

    Pure: asked when a matrix is planned, before anything is made.
    """
    try:
        tree.check_fits(cell.board, cell.layout)
    except ConfigError as error:
        return error.what
    return None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A cell with all that QEMU needs to boot it, in the cache."""

    cell: Cell
    kernel: build.BuiltKernel
    modules: modules.Modules
    tree: tree.Tree
    image: initramfs.Image
    external: tuple[external.External, ...] = ()  # the user's own modules, in loading order

    def launch(self, append: str = "") -> Launch:
        """Return what QEMU is to be started with; `append` ends the kernel's command line."""
        board, cell = self.cell.board, self.cell
        console = f"console={board.console}"
        words = (console, _CMDLINE, board.cmdline, cell.kernel.cmdline, cell.layout.cmdline)
        return Launch(
            kernel=self.kernel.zimage,
            machine=board.qemu_machine,
            cpu=board.cpu,
            memory=board.memory // config.MIB,
            cpus=board.cpus,
            dtb=self.tree.blob,
            initrd=self.image.archive,
            cmdline=" ".join(filter(None, (*words, append))),
            serial_index=board.serial,
            network=board.has("net"),
            power_off=board.has("poweroff"),
            counting=cell.lane == "exact",
            seed=1,
        )


def prepare(
    cell: Cell,
    cache: Cache,
    progress: Progress,
    *,
    refresh: bool = False,
    append: str = "",
    force: bool = False,
    own: external.Request = external.NONE,
) -> Prepared:
    """Make, or find in the cache, the cell's kernel, modules, image and device tree.

    `own` are modules of the user's. `refresh` asks the mirrors again which versions there are.
    `append` will end the kernel's command line. Raises `LayoutRefused` with all that is wrong with
    the layout, unless `force`; what needs no kernel is told before one is built.
    """
    if refresh:
        debian.forget(cache)
    if not force:
        tree.check_fits(cell.board, cell.layout)
    footing = stand(cell, cache, progress, append)
    findings = check(footing.ground, cell.layout, append)
    _tell(cell, findings, progress, force=force)
    board_tree = tree.make(cell.board, cell.layout, footing.kernel.source, cache, progress)
    reference = next(iter(footing.modules.values()))
    users = external.obtain(own, footing.kernel, reference, cache, progress)
    return Prepared(cell, footing.kernel, footing.modules, board_tree, footing.image, users)


@dataclass(frozen=True, slots=True)
class Footing:
    """What is made of a cell before its layout counts, and the memory that this leaves."""

    kernel: build.BuiltKernel
    modules: modules.Modules
    image: initramfs.Image
    ground: Ground


def stand(cell: Cell, cache: Cache, progress: Progress, append: str = "") -> Footing:
    """Make all of a cell but its device tree, and read the memory that areas are laid on."""
    toolchain(cell.kernel.userland)
    machines.require(cell.board)
    origin = source.obtain(cell.kernel, cache, progress)
    bare = tree.make(cell.board, survey.BARE, origin.tree, cache, progress)
    kernel, built, image = prepare_kernel(cell, origin, cache, progress)
    ground = survey.ground(cell.board, cell.layout, bare, kernel, image, append)
    return Footing(kernel, built, image, ground)


def prepare_kernel(
    cell: Cell, origin: Source, cache: Cache, progress: Progress
) -> tuple[build.BuiltKernel, modules.Modules, initramfs.Image]:
    """Make what cells of other layouts share: all but the device tree."""
    require_libc(cell.kernel.userland)
    kernel = build.build(cell.kernel, origin, cache, progress)
    built = modules.build(kernel, cache, progress)
    return kernel, built, initramfs.build(kernel, built, cell.board, cache, progress)


def _tell(cell: Cell, findings: tuple[Finding, ...], progress: Progress, *, force: bool) -> None:
    wrong = [finding for finding in findings if finding.level == "error"]
    if wrong and not force:
        raise LayoutRefused(
            "\n".join(("this layout cannot be there:", *(f"  {each}" for each in findings))),
            where=f"layout {cell.layout.name} on {cell.board.name} with linux {cell.kernel.label}",
            next_step="mend the layout, or boot it all the same: --force",
        )
    for finding in findings:
        progress.say(f"layout   {finding}")
