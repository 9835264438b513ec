"""configs/families.toml: the families of boards that one zImage serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from harness.config.reading import CONFIGS, nearest, read_toml, validate
from harness.config.values import Frozen
from harness.errors import UsageError

Userland = Literal["armhf", "armel"]
VIRT = "armv7-virt"  # of the board that commands have when none is named


class Family(Frozen):
    """What the processors of some boards need of every kernel, and the programs they run."""

    name: str
    config: tuple[str, ...]
    userland: Userland


def load_family(name: str) -> Family:
    """Return the family NAME of families.toml; raise `UsageError` with the names there are."""
    path = CONFIGS / "families.toml"
    families: Mapping[str, Any] = read_toml(path).get("family", {})
    if name not in families:
        raise UsageError(
            f"no family {name!r}",
            where=str(path),
            next_step=f"choose one of: {', '.join(families)}{nearest(name, families)}",
        )
    return validate(Family, {"name": name} | families[name], path, f"family.{name}.")
