"""A board's device tree with a layout's areas in it: overlaid, read back and checked."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jinja2
import libfdt

from harness.board import base
from harness.board.base import RESERVED, subnodes
from harness.cache import Cache
from harness.config import MIB, Area, Board, KernelTree, Layout
from harness.errors import CommandFailed, ConfigError
from harness.process import find, run
from harness.progress import Progress

_TEMPLATE = Path(__file__).with_name("overlay.dts.jinja2")
_RECIPE = 4  # raise it when the steps below change what an entry holds


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


def make(board: Board, layout: Layout, kernel: Path, cache: Cache, progress: Progress) -> Tree:
    """Return the board's tree with the layout in it; `kernel` is the kernel's source.

    Raises `ConfigError` when the layout cannot be in that tree: a node that exists already, a
    malformed node. Whether a kernel can do anything with the areas is not asked here.
    """
    read, origin = _origin(board, kernel)
    inputs = {
        "recipe": _RECIPE,
        "origin": origin,
        "layout": layout.model_dump(mode="json"),
        "template": _TEMPLATE.read_text(),
    }

    def assemble(directory: Path) -> None:
        bare, overlay = directory / "base.dtb", directory / "layout.dts"
        bare.write_bytes(base.bare(read()))
        overlay.write_text(render(layout, *_cells(libfdt.Fdt(bare.read_bytes()), 0)))
        blob = directory / "board.dtb"
        run(["fdtoverlay", "-i", bare, "-o", blob, _compile(overlay)], error=DeviceTreeError)
        check(libfdt.Fdt(blob.read_bytes()), layout)
        run(["dtc", "-q", "-I", "dtb", "-O", "dts", "-o", blob.with_suffix(".dts"), blob])
        _validate(blob, bare)

    with progress.phase("board", f"{board.name} with layout {layout.name}") as phase:
        entry = cache.make("board", inputs, assemble)
        phase.note(f"{board.name}, layout {layout.name}{'' if entry.made else ' (cached)'}")
    return Tree(entry.key, entry.path)


def _origin(board: Board, kernel: Path) -> tuple[Callable[[], bytes], object]:
    """Return what gives the board's own tree, and what tells that tree from any other.

    A tree of the kernel's is compiled at once: which files it is made of, only cpp knows.
    """
    if isinstance(board.tree, KernelTree):
        blob = base.compiled(board, board.tree, kernel)
        return lambda: blob, hashlib.sha256(blob).hexdigest()
    status = find("qemu-system-arm").resolve().stat()
    shape = {"machine", "machine_options", "cpu", "cpus", "memory"}
    return lambda: base.dump(board), {
        "qemu": f"{status.st_size}:{status.st_mtime_ns}",
        "board": board.model_dump(mode="json", include=shape),
    }


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
    """Raise `ConfigError` when the areas leave the kernel no memory, or lie where there is none."""
    where = f"layout {layout.name}"
    total = sum(area.size for area in layout.area)
    if total >= board.usable:
        raise ConfigError(
            f"the areas take {total // MIB} MiB together, the board {board.name!r} has "
            f"{board.usable // MIB} MiB",
            where=where,
            next_step="make the areas smaller, or choose a board with more memory",
        )
    end = board.ram + board.usable
    for area in layout.area:
        if area.at is not None and not board.ram <= area.at <= end - area.size:
            raise ConfigError(
                f"the area {area.node!r} is not in the memory of the board {board.name!r}, "
                f"{board.ram:#x} to {end:#x}",
                where=where,
                next_step="place it there, or choose the board that the layout was written for",
            )


def check(tree: libfdt.Fdt, layout: Layout) -> None:
    """Raise `ConfigError` unless the tree holds exactly what the layout asks for."""
    parent = tree.path_offset(RESERVED)
    widths = _cells(tree, parent)
    names = [tree.get_name(node) for node in subnodes(tree, parent)]
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
        right = {"size": size == _bytes(area.size, size_cells)}
        if area.within is not None:
            start, end = area.within
            wanted = _bytes(start, address_cells) + _bytes(end - start, size_cells)
            right["alloc-ranges"] = bytes(tree.getprop(node, "alloc-ranges")) == wanted
        return right
    region = bytes(tree.getprop(node, "reg"))
    return {"reg": region == _bytes(area.at, address_cells) + _bytes(area.size, size_cells)}


def _bytes(value: int, cells: int) -> bytes:
    return value.to_bytes(4 * cells, "big")


def _claims(tree: libfdt.Fdt, device: str, phandle: int) -> bool:
    node = tree.path_offset(f"/{device}")
    return bool(phandle) and tree.getprop(node, "memory-region").as_uint32() == phandle


def _cells(tree: libfdt.Fdt, node: int) -> tuple[int, int]:
    return (
        tree.getprop(node, "#address-cells").as_uint32(),
        tree.getprop(node, "#size-cells").as_uint32(),
    )


def _compile(source: Path) -> Path:
    blob = source.with_suffix(".dtbo")
    run(["dtc", "-@", "-I", "dts", "-O", "dtb", "-o", blob, source], error=DeviceTreeError)
    return blob


def _validate(blob: Path, bare: Path) -> None:
    """Check the areas against dtschema's reserved-memory bindings.

    What it says of the tree without the areas already is the vendor's affair.
    """
    said = _complaints(blob)
    vendors = set(_complaints(bare)) if said else set()
    said = [line for line in said if line not in vendors]
    if said:
        raise ConfigError(
            "dtschema rejects the merged tree:\n" + "\n".join(said),
            where=str(blob),
            next_step="'dtc -I dtb -O dts' shows that tree; mend the layout",
        )


def _complaints(blob: Path) -> list[str]:
    """Return what dt-validate says of a tree; it ends with status 0 either way."""
    validate = Path(sys.executable).with_name("dt-validate")
    said = run([validate, "-l", "reserved-memory", blob]).output.strip()
    return said.replace(str(blob), "").splitlines()
