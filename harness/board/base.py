"""A board's own device tree, without a layout: QEMU's, or one of the kernel's source, compiled."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import libfdt

from harness.config import Board, KernelTree
from harness.errors import ConfigError
from harness.process import find, run

RESERVED = "/reserved-memory"
_FOLDER = Path("arch/arm/boot/dts")
_NODE_BYTES = 256  # more than a memory node takes


def dump(board: Board) -> bytes:
    """Return the tree QEMU generates; it depends on the memory, the cpus and their model."""
    with tempfile.TemporaryDirectory(prefix="cma-tree-") as work:
        blob = Path(work) / "base.dtb"
        run(
            [
                *(find("qemu-system-arm"), "-M", f"{board.qemu_machine},dumpdtb={blob}"),
                *("-cpu", board.cpu, "-smp", str(board.cpus), "-m", f"{board.memory}B"),
                *("-nic", "none", "-display", "none"),
            ]
        )
        return blob.read_bytes()


def compiled(board: Board, tree: KernelTree, kernel: Path) -> bytes:
    """Return a tree of a kernel's source as kbuild compiles it (cmd_dtc, scripts/Makefile.dtbs).

    It takes no configured kernel and half a second. Its memory is the board's: what the source has
    is a placeholder. Raises `ConfigError` when the kernel has no such tree.
    """
    source = source_of(tree, kernel)
    includes = kernel / "scripts" / "dtc" / "include-prefixes"
    with tempfile.TemporaryDirectory(prefix="cma-tree-") as work:
        flat, blob = Path(work) / "base.dts", Path(work) / "base.dtb"
        cpp = ("-E", "-nostdinc", "-I", includes, "-undef", "-D__DTS__", "-x", "assembler-with-cpp")
        run(["gcc", *cpp, "-o", flat, source])
        run(["dtc", "-q", "-@", "-b", "0", "-i", source.parent, "-i", includes, "-o", blob, flat])
        return with_memory(blob.read_bytes(), board.ram, board.usable)


def with_memory(blob: bytes, start: int, size: int) -> bytes:
    """Return a tree with this memory in place of its own, as QEMU changes what it is given.

    arm_load_dtb() in hw/arm/boot.c, 7.2: no node "memory" stays, whatever its address is.
    """
    tree = libfdt.Fdt(blob)
    for name in [tree.get_name(node) for node in subnodes(tree, 0)]:
        if name.partition("@")[0] == "memory":
            tree.del_node(tree.path_offset(f"/{name}"))
    tree.resize(tree.totalsize() + _NODE_BYTES)
    widths = (tree.getprop(0, name).as_uint32() for name in ("#address-cells", "#size-cells"))
    numbers = zip((start, size), widths, strict=True)
    node = tree.add_subnode(0, f"memory@{start:x}")
    tree.setprop(
        node, "reg", b"".join(value.to_bytes(4 * width, "big") for value, width in numbers)
    )
    tree.setprop_str(node, "device_type", "memory")
    tree.pack()
    return bytes(tree.as_bytearray())


def source_of(tree: KernelTree, kernel: Path) -> Path:
    """Return the file of a kernel's source that a tree is compiled from.

    Since 6.5 (724ba6751532) it is in a folder of the vendor's. Raises `ConfigError` without one.
    """
    below = kernel / _FOLDER
    places = (below / tree.dts, below / Path(tree.dts).name)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ConfigError(
            f"this kernel has no device tree {tree.dts}",
            where=str(below),
            next_step="choose a kernel that supports the board, or another board",
        )
    return found


def bare(blob: bytes) -> bytes:
    """Return a tree without what the layout, or the harness, decides in its place."""
    tree = libfdt.Fdt(blob)
    _drop_coherency(tree)
    _drop_areas(tree)
    return bytes(tree.as_bytearray())


def _drop_coherency(tree: libfdt.Fdt) -> None:
    """Drop `dma-coherent` at the root, which QEMUs newer than 7.2 put there.

    It would take the devices that have a node off ARM's own DMA allocation (no remap, no atomic
    pool), and what is tested would depend on the QEMU.
    """
    if tree.hasprop(0, "dma-coherent"):
        tree.delprop(0, "dma-coherent")


def _drop_areas(tree: libfdt.Fdt) -> None:
    """Drop the CMA areas that a board has of itself (bcm283x: 64 MiB); the layout has them all."""
    parent = tree.path_offset(RESERVED, [libfdt.NOTFOUND])
    if parent < 0:
        return
    for name in [tree.get_name(node) for node in subnodes(tree, parent)]:
        node = tree.path_offset(f"{RESERVED}/{name}")
        if tree.hasprop(node, "reusable"):
            tree.del_node(node)


def subnodes(tree: libfdt.Fdt, parent: int) -> Iterator[int]:
    """Yield the nodes of a node, in their order."""
    node = tree.first_subnode(parent, [libfdt.NOTFOUND])
    while node >= 0:
        yield node
        node = tree.next_subnode(node, [libfdt.NOTFOUND])
