"""configs/layouts/: the CMA areas of a board."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from harness.config.reading import named_file, read_toml, validate
from harness.config.values import Cmdline, Frozen, NodeName, Size


class Area(Frozen):
    """One CMA region: a reusable shared-dma-pool node under /reserved-memory.

    With `at` the region is static: it lies at that physical address. Without, the kernel finds it
    a place, aligned to `alignment`.
    """

    name: NodeName
    size: Size
    at: Size | None = None
    alignment: Size | None = None
    default: bool = False
    device: NodeName | None = None  # the node that claims the area through memory-region

    @model_validator(mode="after")
    def _bound_once(self) -> Self:
        if self.default and self.device:
            raise ValueError("an area is either the default one or a device's, not both")
        if self.at is not None and self.alignment is not None:
            raise ValueError("an area with 'at' has its place: 'alignment' is for one without")
        return self

    @property
    def node(self) -> str:
        """The name of its node, which the kernel calls it by: a static one has a unit address."""
        return self.name if self.at is None else f"{self.name}@{self.at:x}"


class Layout(Frozen):
    """The areas of a board, in the order of their nodes, and what the command line adds."""

    name: str
    description: str
    cmdline: Cmdline = ""
    area: tuple[Area, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what, names in (
            ("area name", [area.name for area in self.area]),
            ("device", [area.device for area in self.area if area.device]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} used twice: {', '.join(twice)}")
        if sum(area.default for area in self.area) > 1:
            raise ValueError("more than one area is the default one")
        return self


def load_layout(name: str) -> Layout:
    """Return the layout configs/layouts/NAME.toml, or the one in the file NAME."""
    path = named_file("layouts", name, ".toml")
    return validate(Layout, {"name": path.stem} | read_toml(path), path)
