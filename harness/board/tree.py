"""A board's device tree with a layout's areas in it: dumped, overlaid, read back and checked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jinja2
import libfdt

from harness.cache import Cache
from harness.config import MIB, Area, Board, Layout
from harness.errors import CommandFailed, ConfigError
from harness.process import find, run
from harness.progress import Progress

_TEMPLATE = Path(__file__).with_name("overlay.dts.jinja2")
RESERVED = "/reserved-memory"
_RECIPE = 3  # raise it when the steps below change what an entry holds


@dataclass(frozen=True, slots=True)
class Tree:
    """A checked device tree blob in the cache, its source, and the digest of the blob's inputs."""

    key: str
    path: Path

    @property
    def blob(self) -> Path:
        """The .dtb QEMU hands to the kernel."""
        return self.path / "board.dtb"


class DeviceTreeError(CommandFailed, ConfigError):
    """dtc rejects the overlay that a layout gives."""

    exit_code = ConfigError.exit_code


def make(board: Board, layout: Layout, cache: Cache, progress: Progress) -> Tree:
    """Return the board's tree with the layout in it.

    Raises `ConfigError` when the layout cannot be in that tree: larger than the memory, a node
    that exists already, a malformed node.
    """
    qemu = find("qemu-system-arm").resolve()
    status = qemu.stat()
    inputs = {
        "recipe": _RECIPE,
        "qemu": f"{status.st_size}:{status.st_mtime_ns}",
        "board": board.model_dump(mode="json"),
        "layout": layout.model_dump(mode="json"),
        "template": _TEMPLATE.read_text(),
    }

    def assemble(directory: Path) -> None:
        check_fits(board, layout)
        base, overlay = directory / "base.dtb", directory / "layout.dts"
        _dump(board, qemu, base)
        overlay.write_text(render(layout, *_cells(libfdt.Fdt(base.read_bytes()), 0)))
        blob = directory / "board.dtb"
        run(["fdtoverlay", "-i", base, "-o", blob, _compile(overlay)], error=DeviceTreeError)
        blob.write_bytes(without_coherency(blob.read_bytes()))
        check(libfdt.Fdt(blob.read_bytes()), layout)
        run(["dtc", "-q", "-I", "dtb", "-O", "dts", "-o", blob.with_suffix(".dts"), blob])
        _validate(blob)

    with progress.phase("board", f"{board.name} with layout {layout.name}") as phase:
        entry = cache.make("board", inputs, assemble)
        phase.note(f"{board.name}, layout {layout.name}{'' if entry.made else ' (cached)'}")
    return Tree(entry.key, entry.path)


def render(layout: Layout, address_cells: int, size_cells: int) -> str:
    """Return the overlay's source for a root with so many cells in an address and a size."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cells"] = cells
    template = environment.from_string(_TEMPLATE.read_text())
    return template.render(layout=layout, address_cells=address_cells, size_cells=size_cells) + "\n"


def cells(value: int, count: int) -> str:
    """Return a number as `count` 32-bit cells, the most significant first: "0x0 0x4000000"."""
    if value >> (32 * count):
        raise ConfigError(f"{value:#x} does not fit in {count} cell(s) of 32 bits")
    return " ".join(f"{value >> 32 * i & 0xFFFFFFFF:#x}" for i in reversed(range(count)))


def check_fits(board: Board, layout: Layout) -> None:
    """Raise `ConfigError` when the areas together leave the kernel no memory."""
    total = sum(area.size for area in layout.area)
    if total >= board.memory:
        raise ConfigError(
            f"the areas take {total // MIB} MiB together, the board {board.name!r} has "
            f"{board.memory // MIB} MiB",
            where=f"layout {layout.name}",
            next_step="make the areas smaller, or choose a board with more memory",
        )


def without_coherency(blob: bytes) -> bytes:
    """Return the tree without `dma-coherent` at its root, which QEMUs newer than 7.2 put there.

    It would take the devices that have a node off ARM's own DMA allocation (no remap, no atomic
    pool), and what is tested would depend on the QEMU.
    """
    tree = libfdt.Fdt(blob)
    if tree.hasprop(0, "dma-coherent"):
        tree.delprop(0, "dma-coherent")
    return bytes(tree.as_bytearray())


def check(tree: libfdt.Fdt, layout: Layout) -> None:
    """Raise `ConfigError` unless the tree holds exactly what the layout asks for."""
    parent = tree.path_offset(RESERVED)
    widths = _cells(tree, parent)
    names = [tree.get_name(node) for node in _subnodes(tree, parent)]
    wanted = [area.node for area in layout.area]
    if [name for name in names if name in wanted] != wanted:
        raise ConfigError(
            f"the merged tree has the nodes {', '.join(names)}, wanted {', '.join(wanted)}",
            where=f"layout {layout.name}",
            next_step="report it: the order of dynamic areas decides where the kernel puts them",
        )
    for area in layout.area:
        node = tree.path_offset(f"{RESERVED}/{area.node}")
        wrong = _differences(tree, node, area, widths)
        if wrong:
            raise ConfigError(
                f"the area {area.node!r} in the merged tree has the wrong {', '.join(wrong)}",
                where=f"layout {layout.name}",
                next_step="the board's tree has a node of that name already: choose another name",
            )


def _subnodes(tree: libfdt.Fdt, parent: int) -> Iterator[int]:
    node = tree.first_subnode(parent, [libfdt.NOTFOUND])
    while node >= 0:
        yield node
        node = tree.next_subnode(node, [libfdt.NOTFOUND])


def _differences(tree: libfdt.Fdt, node: int, area: Area, widths: tuple[int, int]) -> list[str]:
    found = {
        "compatible": tree.getprop(node, "compatible").as_str() == "shared-dma-pool",
        **_place(tree, node, area, widths),
        "reusable": tree.hasprop(node, "reusable") == 1,
        "linux,cma-default": tree.hasprop(node, "linux,cma-default") == int(area.default),
        "device": not area.device or _claims(tree, area.device, tree.get_phandle(node)),
    }
    return [name for name, right in found.items() if not right]


def _place(tree: libfdt.Fdt, node: int, area: Area, widths: tuple[int, int]) -> dict[str, bool]:
    """Tell whether size and address are the area's; `widths` is cells of an address, of a size."""
    address_cells, size_cells = widths
    if area.at is None:
        size = bytes(tree.getprop(node, "size"))
        return {"size": size == _bytes(area.size, size_cells)}
    region = bytes(tree.getprop(node, "reg"))
    return {"reg": region == _bytes(area.at, address_cells) + _bytes(area.size, size_cells)}


def _bytes(value: int, cells: int) -> bytes:
    return value.to_bytes(4 * cells, "big")


def _claims(tree: libfdt.Fdt, device: str, phandle: int) -> bool:
    node = tree.path_offset(f"/{device}")
    return bool(phandle) and tree.getprop(node, "memory-region").as_uint32() == phandle


def _dump(board: Board, qemu: Path, dump: Path) -> None:
    """Write the tree QEMU generates; it depends on the memory, the cpus and their model."""
    run(
        [
            *(qemu, "-M", f"{board.qemu_machine},dumpdtb={dump}", "-cpu", board.cpu),
            *("-smp", str(board.cpus), "-m", f"{board.memory}B", "-nic", "none"),
            *("-display", "none"),
        ]
    )


def _cells(tree: libfdt.Fdt, node: int) -> tuple[int, int]:
    return (
        tree.getprop(node, "#address-cells").as_uint32(),
        tree.getprop(node, "#size-cells").as_uint32(),
    )


def _compile(source: Path) -> Path:
    blob = source.with_suffix(".dtbo")
    run(["dtc", "-@", "-I", "dts", "-O", "dtb", "-o", blob, source], error=DeviceTreeError)
    return blob


def _validate(blob: Path) -> None:
    """Check the areas against dtschema's reserved-memory bindings.

    dt-validate reports on its output and ends with status 0 either way.
    """
    said = run([Path(sys.executable).with_name("dt-validate"), "-l", "reserved-memory", blob])
    if said.output.strip():
        raise ConfigError(
            f"dtschema rejects the merged tree:\n{said.output.strip()}",
            where=str(blob),
            next_step="'dtc -I dtb -O dts' shows that tree; mend the layout",
        )
