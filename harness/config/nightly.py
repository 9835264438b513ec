"""configs/nightly.toml: which cells the nightly runs, and how much each is worth."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from harness.config.kernels import PLAIN, kernel_names
from harness.config.reading import CONFIGS, names, read_toml, validate
from harness.config.values import Frozen

ALL = "*"


class Part(Frozen):
    """Cells that belong together: each of the kernels on each of the boards with each layout.

    "*" stands for all that configs/ has. `minutes` is what a cell may be expected to take until a
    nightly has seen it. A cell that several parts ask for is run for the one with most worth, but
    one that is to run several `times` is.
    """

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    worth: int = Field(ge=0)
    kernels: tuple[str, ...] = Field(min_length=1)
    boards: tuple[str, ...] = Field(min_length=1)
    layouts: tuple[str, ...] = Field(min_length=1)
    variant: str = PLAIN
    lane: str = "smp"
    paths: tuple[str, ...] = Field(min_length=1)
    options: tuple[str, ...] = ()  # of pytest
    times: int = Field(default=1, ge=1)
    minutes: float = Field(gt=0)

    def resolved(self) -> Part:
        """Return it with the names that "*" stands for."""
        return self.model_copy(
            update={
                "kernels": _all(self.kernels, kernel_names()),
                "boards": _all(self.boards, names("boards")),
                "layouts": _all(self.layouts, names("layouts")),
            }
        )


class Nightly(Frozen):
    """The budget in minutes, what the build of a kernel takes of it, and the parts."""

    budget: float = Field(gt=0)
    build: float = Field(ge=0)
    part: tuple[Part, ...] = Field(min_length=1)


def load_nightly(path: Path | None = None) -> Nightly:
    """Return configs/nightly.toml, or another file like it, with every "*" resolved."""
    file = path or CONFIGS / "nightly.toml"
    nightly = validate(Nightly, read_toml(file), file)
    return nightly.model_copy(update={"part": tuple(part.resolved() for part in nightly.part)})


def _all(given: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    return known if ALL in given else given
