"""Reading what a layout is laid on: the board's tree, the built kernel, the initramfs.

The only module of this package that touches files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import libfdt

from harness.board.base import RESERVED
from harness.board.tree import Tree
from harness.config import Board, Layout
from harness.errors import ConfigError
from harness.image.initramfs import Image
from harness.kernel.build import BuiltKernel
from harness.kernel.elf import open_elf, reading, symbols_named
from harness.layout import cmdline
from harness.layout.devicetree import Node, nodes
from harness.layout.ground import (
    NODE_BYTES,
    Ground,
    KernelFacts,
    Kind,
    Region,
    Span,
    end_of_low_memory,
    loaded,
    merged,
    start_of_memory,
    unpacking,
)

PAGE = 4096
BARE = Layout(name="bare", description="a board's tree without any area")
_RUN_BYTES = 64 << 10  # what a run adds to the initramfs: keys
_IMAGE = frozenset(("_text", "_edata", "_end", "swapper_pg_dir"))  # every kernel has them
_SYMBOLS = _IMAGE | {"dma_mmu_remap", "fdt_scan_reserved_mem_reg_nodes", "vmalloc_min"}


def ground(
    board: Board, layout: Layout, tree: Tree, kernel: BuiltKernel, image: Image, append: str = ""
) -> Ground:
    """Return the memory of a board that a kernel finds when it boots there.

    `tree` is the board's, with no area of the layout in it (`BARE`). Of the layout and `append`,
    what ends the command line, only the end of low memory is taken (`vmalloc=`).
    """
    blob = tree.blob.read_bytes()
    ram, regions = memory(blob, str(tree.blob))
    facts = kernel_facts(kernel)
    low_end = end_of_low_memory(ram, facts, cmdline.vmalloc(f"{layout.cmdline} {append}"))
    start = start_of_memory(ram)
    initrd = image.archive.stat().st_size + _RUN_BYTES
    room = len(blob) + NODE_BYTES * (len(layout.area) + len(layout.carveout))
    taken = (
        Region(Kind.TABLES, "page tables", _moved(facts.tables, start)),
        Region(Kind.KERNEL, "kernel image", _moved(facts.image, start)),
        *loaded(ram, board.usable, initrd, room),
        *regions,
    )
    return Ground(board.name, facts, ram, taken, unpacking(facts, start), low_end)


def _moved(span: Span, offset: int) -> Span:
    return Span(span.start + offset, span.end + offset)


def memory(blob: bytes, where: str) -> tuple[tuple[Span, ...], tuple[Region, ...]]:
    """Return the banks of memory that a tree has, and what it reserves of them by address.

    Raises `ConfigError` for a tree without memory.
    """
    tree = libfdt.Fdt(blob)
    every = tuple(nodes(tree))
    banks = [
        span
        for node in every
        if node.text("device_type") == "memory" and node.available
        for span in node.regions("linux,usable-memory") or node.regions("reg")
    ]
    ram = merged(banks)
    if not ram:
        raise ConfigError(
            "the tree has no memory node with a size",
            where=where,
            next_step="give the file that the board's boot loader has filled in",
        )
    return ram, tuple(_reserved(tree, every))


def _reserved(tree: libfdt.Fdt, every: tuple[Node, ...]) -> Iterator[Region]:
    for index in range(tree.num_mem_rsv()):
        start, size = tree.get_mem_rsv(index)
        yield Region(Kind.RESERVED, "/memreserve/", Span.of(start, size))
    for node in every:
        if node.parent == RESERVED and node.available:
            kind = Kind.NO_MAP if node.has("no-map") else Kind.RESERVED
            for span in node.regions("reg"):
                yield Region(kind, node.name, span)


def kernel_facts(kernel: BuiltKernel) -> KernelFacts:
    """Return what the kernel's configuration, symbols and source say of areas."""
    with reading(kernel.vmlinux):
        found = symbols_named(open_elf(kernel.vmlinux), _SYMBOLS)
        places = {name: found[name][0] for name in _IMAGE}
    offset = int(kernel.option("CONFIG_PAGE_OFFSET"), 0)
    text, end = places["_text"] - offset, places["_end"] - offset
    return KernelFacts(
        version=kernel.version,
        block=PAGE << _block_order(kernel),
        slots=_slots(kernel, found),
        default_mib=_number(kernel, "CONFIG_CMA_SIZE_MBYTES"),
        default_percent=_number(kernel, "CONFIG_CMA_SIZE_PERCENTAGE"),
        selection=next(
            (
                name
                for name in ("MBYTES", "PERCENTAGE", "MIN", "MAX")
                if kernel.option(f"CONFIG_CMA_SIZE_SEL_{name}") == "y"
            ),
            "",
        ),
        # Since 8a6e02d0c00e (6.13, and the updates of 6.12) this sets static nodes up.
        static_late="fdt_scan_reserved_mem_reg_nodes" in found,
        # In 5.10 the first address of vmalloc()'s, which `vmalloc=` sets without the gap before it.
        vmalloc_gap="vmalloc_min" not in found,
        high_memory=kernel.option("CONFIG_HIGHMEM") == "y",
        page_offset=offset,
        image=Span(text, end),
        tables=Span(places["swapper_pg_dir"] - offset, text),
        inflated=places["_edata"] - places["_text"],
        zimage=kernel.zimage.stat().st_size,
    )


def _slots(kernel: BuiltKernel, found: dict[str, tuple[int, int]]) -> int:
    """Return MAX_CMA_AREAS: CONFIG_CMA_AREAS, and in older kernels one more (include/linux/cma.h).

    dma_mmu_remap[] has an entry for each: an address and an `unsigned long`.
    """
    size = found.get("dma_mmu_remap", (0, 0))[1]
    wide = kernel.option("CONFIG_PHYS_ADDR_T_64BIT") == "y"
    return size // (16 if wide else 8) or _number(kernel, "CONFIG_CMA_AREAS")


def _number(kernel: BuiltKernel, symbol: str) -> int:
    value = kernel.option(symbol)
    return int(value) if value.isdigit() else 0


def _block_order(kernel: BuiltKernel) -> int:
    """Return the order of CMA_MIN_ALIGNMENT_PAGES.

    It was the largest order of the page allocator before it was a pageblock, which on LPAE with
    huge pages is smaller. What the headers say counts: stable updates and vendors' trees move such
    changes.
    """
    headers = kernel.source / "include" / "linux"
    largest = _largest_order(kernel, headers / "mmzone.h")
    if not re.search(r"CMA_MIN_ALIGNMENT_PAGES\s+pageblock_nr_pages", _read(headers / "cma.h")):
        return largest
    huge = kernel.option("CONFIG_HUGETLB_PAGE") == "y" or (
        kernel.option("CONFIG_TRANSPARENT_HUGEPAGE") == "y"
        and "CONFIG_TRANSPARENT_HUGEPAGE" in _read(headers / "pageblock-flags.h")
    )
    order = min(largest, 9) if huge else largest  # HPAGE_PMD_ORDER: 2 MiB
    named = _number(kernel, "CONFIG_PAGE_BLOCK_MAX_ORDER")  # since 6.17
    return min(order, named) if named else order


def _largest_order(kernel: BuiltKernel, mmzone: Path) -> int:
    """Return MAX_PAGE_ORDER; its Kconfig symbol was one larger before 6.4 (23baf831a32c)."""
    value = _number(kernel, "CONFIG_ARCH_FORCE_MAX_ORDER")
    value = value or _number(kernel, "CONFIG_FORCE_MAX_ZONEORDER")  # its name until 6.0
    exclusive = re.search(r"MAX_ORDER_NR_PAGES \(1 << \(MAX_ORDER - 1\)\)", _read(mmzone))
    return (value or 11) - 1 if exclusive else value or 10


def _read(header: Path) -> str:
    return header.read_text(errors="replace")
