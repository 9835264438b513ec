"""configs/layouts/: the CMA areas of a board."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from harness.config.reading import named_file, read_toml, validate
from harness.config.values import Address, Cmdline, Extent, Frozen, NodeName, Size


class Area(Frozen):
    """One CMA region: a reusable shared-dma-pool node under /reserved-memory.

    Without `at` the area is dynamic: the kernel finds it a place, anywhere or inside `within`.
    What no kernel takes (a misaligned size, an overlap) is not refused here but by
    harness/layout/check.py, which knows the kernel and the board.
    """

    name: NodeName = Field(description="the node's name, before its unit address")
    size: Extent = Field(description="bytes; a multiple of a pageblock (4 MiB without LPAE)")
    at: Address | None = Field(
        default=None, description="physical address: the area is static (`reg`)"
    )
    within: tuple[Address, Address] | None = Field(
        default=None,
        description="first address and first address behind: where it may lie (`alloc-ranges`)",
    )
    alignment: Size | None = Field(
        default=None, description="of a dynamic area's base; at least a pageblock in any case"
    )
    default: bool = Field(
        default=False, description="for every device without an area (`linux,cma-default`)"
    )
    device: NodeName | None = Field(
        default=None, description="the node, made for it, that claims it (`memory-region`)"
    )

    @model_validator(mode="after")
    def _placed_and_bound_once(self) -> Self:
        if self.default and self.device:
            raise ValueError("an area is either the default one or a device's, not both")
        if self.at is not None and self.alignment is not None:
            raise ValueError("an area with 'at' has its place: 'alignment' is for one without")
        if self.at is not None and self.within is not None:
            raise ValueError("an area has either 'at' or 'within', not both")
        if self.within is not None and self.within[0] >= self.within[1]:
            raise ValueError("'within' ends where it begins, or below; write [first, behind]")
        return self

    @property
    def node(self) -> str:
        """The name of its node, which the kernel calls it by: a static one has a unit address."""
        return self.name if self.at is None else f"{self.name}@{self.at:x}"


class Carveout(Frozen):
    """Memory that the tree reserves and that is no area: firmware's, a log's, a coprocessor's."""

    name: NodeName = Field(description="the node's name, before its unit address")
    at: Address = Field(description="physical address")
    size: Size = Field(description="bytes")
    no_map: bool = Field(
        default=True, description="whether the kernel may not even map it (`no-map`)"
    )

    @property
    def node(self) -> str:
        """The name of its node."""
        return f"{self.name}@{self.at:x}"


class Layout(Frozen):
    """The areas of a board, in the order of their nodes, and what the command line adds."""

    name: str
    description: str = Field(description="one line, for people")
    cmdline: Cmdline = Field(
        default="", description="for the kernel's command line: `cma=`, `vmalloc=` and others"
    )
    area: tuple[Area, ...] = Field(default=(), description="a table [[area]] for each")
    carveout: tuple[Carveout, ...] = Field(default=(), description="a table [[carveout]] for each")

    @model_validator(mode="after")
    def _one_area_for_a_device(self) -> Self:
        devices = [area.device for area in self.area if area.device]
        twice = sorted({name for name in devices if devices.count(name) > 1})
        if twice:
            raise ValueError(f"device used twice: {', '.join(twice)}")
        return self


def load_layout(name: str) -> Layout:
    """Return the layout configs/layouts/NAME.toml, or the one in the file NAME."""
    path = named_file("layouts", name, ".toml")
    return validate(Layout, {"name": path.stem} | read_toml(path), path)
