"""images/initramfs.toml: what goes into the guest's initramfs."""

from __future__ import annotations

from collections.abc import Mapping

from harness.config.reading import CONFIGS, read_toml, validate
from harness.config.values import Frozen


class Recipe(Frozen):
    """images/initramfs.toml: what the guest's initramfs holds beside modules and init."""

    packages: Mapping[str, tuple[str, ...]]
    programs: Mapping[str, str]  # guest path: path in the packages
    links: Mapping[str, str]
    directories: Mapping[str, str]  # guest path: octal mode
    files: Mapping[str, str]  # guest path: content


def load_recipe() -> Recipe:
    """Return images/initramfs.toml."""
    path = CONFIGS.parent / "images" / "initramfs.toml"
    return validate(Recipe, read_toml(path), path)
