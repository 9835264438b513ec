"""A device tree's nodes, with the cells of their parents. Pure: it reads bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libfdt

from harness.layout.ground import Span


@dataclass(frozen=True, slots=True)
class Node:
    """A node: its path in parts, what it holds, and how its parent writes addresses and sizes."""

    name: str
    parent: str
    address_cells: int
    size_cells: int
    properties: dict[str, bytes]
    position: int

    @property
    def path(self) -> str:
        """The whole path."""
        return f"{self.parent.removesuffix('/')}/{self.name}"

    @property
    def available(self) -> bool:
        """Whether it counts: of_fdt_device_is_available()."""
        return self.text("status") in ("", "okay", "ok")

    def has(self, name: str) -> bool:
        """Whether it has the property."""
        return name in self.properties

    def text(self, name: str) -> str:
        """Return the first string of a property, "" without it."""
        return self.texts(name)[0] if self.has(name) else ""

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the strings of a property."""
        raw = self.properties.get(name, b"")
        return tuple(part.decode("utf-8", "replace") for part in raw.rstrip(b"\0").split(b"\0"))

    def cells(self, name: str) -> tuple[int, ...]:
        """Return the 32-bit numbers of a property."""
        raw = self.properties.get(name, b"")
        return tuple(int.from_bytes(raw[at : at + 4], "big") for at in range(0, len(raw) - 3, 4))

    def number(self, name: str) -> int | None:
        """Return a property as one number of as many cells as it has; None without it."""
        raw = self.properties.get(name)
        return int.from_bytes(raw, "big") if raw else None

    def regions(self, name: str) -> tuple[Span, ...]:
        """Return the (address, size) pairs of a property; a rest that is no pair is left out."""
        raw = self.properties.get(name, b"")
        first, both = 4 * self.address_cells, 4 * (self.address_cells + self.size_cells)
        if not both:
            return ()
        pairs = (raw[at : at + both] for at in range(0, len(raw) - both + 1, both))
        return tuple(
            Span.of(int.from_bytes(pair[:first], "big"), int.from_bytes(pair[first:], "big"))
            for pair in pairs
        )


def nodes(tree: libfdt.Fdt) -> Iterator[Node]:
    """Yield every node below the root, each before those below it.

    Without #address-cells and #size-cells a node's are 2 and 1 (the specification's 2.3.5). Raises
    `libfdt.FdtException` for a damaged tree.
    """
    yield from _below(tree, 0, "/")


def _below(tree: libfdt.Fdt, parent: int, path: str) -> Iterator[Node]:
    widths = (_cells(tree, parent, "#address-cells", 2), _cells(tree, parent, "#size-cells", 1))
    offset = tree.first_subnode(parent, [libfdt.NOTFOUND])
    while offset >= 0:
        node = Node(tree.get_name(offset), path, *widths, _properties(tree, offset), offset)
        yield node
        yield from _below(tree, offset, node.path)
        offset = tree.next_subnode(offset, [libfdt.NOTFOUND])


def _cells(tree: libfdt.Fdt, node: int, name: str, default: int) -> int:
    found = tree.getprop(node, name, [libfdt.NOTFOUND])
    return default if isinstance(found, int) else int.from_bytes(bytes(found), "big")


def _properties(tree: libfdt.Fdt, node: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    offset = tree.first_property_offset(node, [libfdt.NOTFOUND])
    while offset >= 0:
        each = tree.get_property_by_offset(offset)
        found[each.name] = bytes(each)
        offset = tree.next_property_offset(offset, [libfdt.NOTFOUND])
    return found
