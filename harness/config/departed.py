"""configs/departed.toml: what old modules use and newer kernels no longer have."""

from __future__ import annotations

from pydantic import Field

from harness.config.reading import CONFIGS, read_toml, validate
from harness.config.values import Frozen


class Departure(Frozen):
    """A function, type, field or header: what became of it, when, by which commit, and what next.

    `since` is the first version without it.
    """

    name: str
    became: str = "gone"
    since: str
    commit: str = Field(pattern=r"^[0-9a-f]{12}$")
    instead: str

    def __str__(self) -> str:
        return f"{self.became} since {self.since} ({self.commit}), use {self.instead}"


class _Departed(Frozen):
    departed: tuple[Departure, ...]


def load_departed() -> dict[str, str]:
    """Return what is said of each name of configs/departed.toml."""
    path = CONFIGS / "departed.toml"
    table = validate(_Departed, read_toml(path), path)
    return {each.name: str(each) for each in table.departed}
