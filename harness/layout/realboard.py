"""What a real board's device tree says of its memory and of who has which part of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import libfdt

from harness.board.base import RESERVED
from harness.layout.devicetree import Node, nodes
from harness.layout.ground import Span, merged

_POOL = "shared-dma-pool"


@dataclass(frozen=True, slots=True)
class Reservation:
    """A node under /reserved-memory; `users` are the paths of nodes with a memory-region of it.

    `spans` are its `reg`, `ranges` its `alloc-ranges`; sizes are in bytes, None where it has none.
    """

    node: Node
    spans: tuple[Span, ...]
    size: int | None
    ranges: tuple[Span, ...]
    alignment: int | None
    users: tuple[str, ...]

    @property
    def path(self) -> str:
        """Where it stands in the tree."""
        return self.node.path

    @property
    def is_area(self) -> bool:
        """Whether the kernel makes a CMA area of it: rmem_cma_setup(), kernel/dma/contiguous.c."""
        pool = _POOL in self.node.texts("compatible") and self.node.has("reusable")
        return pool and not self.node.has("no-map")

    @property
    def is_default(self) -> bool:
        """Whether it is for devices without an area."""
        return self.is_area and self.node.has("linux,cma-default")

    @property
    def kind(self) -> str:
        """What it is, for people."""
        if self.is_area:
            return "CMA area"
        compatible = ", ".join(filter(None, self.node.texts("compatible")))
        if _POOL in self.node.texts("compatible"):
            default = " (linux,dma-default)" if self.node.has("linux,dma-default") else ""
            return f"coherent pool{default}"
        return compatible or "memory without a driver"


@dataclass(frozen=True, slots=True)
class RealBoard:
    """A board: its model, banks of memory, /memreserve/ entries, reservations and bootargs."""

    model: str
    ram: tuple[Span, ...]
    memreserve: tuple[Span, ...]
    reservations: tuple[Reservation, ...]
    bootargs: str


def read(blob: bytes) -> RealBoard:
    """Read a device tree. Raises `libfdt.FdtException` for a damaged one."""
    tree = libfdt.Fdt(blob)
    every = tuple(nodes(tree))
    banks = [
        span
        for node in every
        if node.text("device_type") == "memory" and node.available
        for span in node.regions("linux,usable-memory") or node.regions("reg")
    ]
    chosen = next((node for node in every if node.path == "/chosen"), None)
    return RealBoard(
        model=_model(tree),
        ram=merged(banks),
        memreserve=tuple(Span.of(*tree.get_mem_rsv(index)) for index in range(tree.num_mem_rsv())),
        reservations=tuple(_reservations(every)),
        bootargs=chosen.text("bootargs") if chosen else "",
    )


def _model(tree: libfdt.Fdt) -> str:
    found = tree.getprop(0, "model", [libfdt.NOTFOUND])
    text = "" if isinstance(found, int) else bytes(found).rstrip(b"\0").decode("utf-8", "replace")
    return text or "a board without a model"


def _reservations(every: Iterable[Node]) -> Iterator[Reservation]:
    users: dict[int, list[str]] = {}
    for node in every:
        for phandle in node.cells("memory-region"):
            users.setdefault(phandle, []).append(
                node.path if node.available else f"{node.path} (disabled)"
            )
    for node in every:
        if node.parent != RESERVED:
            continue
        handles = (*node.cells("phandle"), *node.cells("linux,phandle"))
        claimed = [path for handle in dict.fromkeys(handles) for path in users.get(handle, [])]
        yield Reservation(
            node,
            node.regions("reg"),
            node.number("size"),
            node.regions("alloc-ranges"),
            node.number("alignment"),
            tuple(dict.fromkeys(claimed)),
        )
