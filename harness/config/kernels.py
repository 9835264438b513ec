"""configs/kernels.toml: the kernels that can be built by name, and their variants."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from harness.config.families import VIRT, Family, Userland, load_family
from harness.config.reading import CONFIGS, named_file, nearest, read_toml, validate
from harness.config.values import Cmdline, Frozen
from harness.errors import UsageError

PLAIN = "plain"  # the kernel as its fragments have it, without a variant's


class Variant(Frozen):
    """What a build of any kernel adds, to see more of it: fragments, and variables of make.

    `cmdline` is for the kernel's command line; `slow` is by how much longer the guest may take for
    everything.
    """

    config: tuple[str, ...] = ()
    make: Mapping[str, str] = {}
    cmdline: Cmdline = ""
    slow: float = Field(default=1, ge=1)


class Kernel(Frozen):
    """A kernel to build: where its source comes from and which fragments configure it.

    `family` is the boards' that it is for. `make` has variables of make's command line, such as the
    objects to profile. `cmdline` and `slow` are what its variant wants of a guest: see `Variant`.
    """

    name: str
    family: str = VIRT
    userland: Userland = "armhf"
    variant: str = PLAIN
    make: Mapping[str, str] = {}
    cmdline: Cmdline = ""
    slow: float = Field(default=1, ge=1)
    package: str | None = None
    suites: tuple[str, ...] = ()
    tree: Path | None = None
    config: tuple[str, ...]

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.package is None) == (self.tree is None):
            raise ValueError("give exactly one of 'package' and 'tree'")
        return self

    @property
    def label(self) -> str:
        """A name for people: 6.12, or 6.12+debug for a variant of it."""
        return self.name if self.variant == PLAIN else f"{self.name}+{self.variant}"

    def with_variant(self, name: str, variant: Variant) -> Kernel:
        """Return this kernel as that variant of it."""
        added = variant.model_dump() | {"config": self.config + variant.config}
        return self.model_copy(update={"variant": name} | added)

    def of_family(self, family: Family) -> Kernel:
        """Return this kernel for the boards of a family."""
        return self.model_copy(
            update={
                "family": family.name,
                "userland": family.userland,
                "config": family.config + self.config,
            }
        )

    def fragments(self) -> tuple[Path, ...]:
        """Return the fragment files in the order in which they are merged."""
        return tuple(named_file("kconfig", name, ".config") for name in self.config)


def load_kernel(name: str, variant: str = PLAIN, family: str = VIRT) -> Kernel:
    """Return the kernel NAME of kernels.toml, or one for the source tree at the path NAME.

    `variant` is one of that file's, or "plain"; `family` is one of families.toml.
    """
    path = CONFIGS / "kernels.toml"
    tables = read_toml(path)
    kernel = _load_kernel(name, tables, path).of_family(load_family(family))
    if variant == PLAIN:
        return kernel
    variants: Mapping[str, Any] = tables.get("variant", {})
    if variant not in variants:
        raise UsageError(
            f"no variant {variant!r}",
            where=str(path),
            next_step=f"choose one of: {PLAIN}, {', '.join(variants)}{nearest(variant, variants)}",
        )
    entry = validate(Variant, variants[variant], path, f"variant.{variant}.")
    return kernel.with_variant(variant, entry)


def _load_kernel(name: str, tables: Mapping[str, Any], path: Path) -> Kernel:
    kernels: Mapping[str, Any] = tables.get("kernel", {})
    common: dict[str, Any] = tables.get("tree", {})
    if name in kernels:
        entry = {"name": name} | common | kernels[name]
        return validate(Kernel, entry, path, f'kernel."{name}".')
    tree = Path(name).expanduser()
    if (tree / "Kbuild").is_file() and (tree / "mm").is_dir():
        entry = {"name": tree.resolve().name, "tree": tree.resolve()} | common
        return validate(Kernel, entry, path, "tree.")
    raise UsageError(
        f"no kernel {name!r}: it is neither in kernels.toml nor the top of a kernel tree",
        where=str(path),
        next_step=f"choose one of: {', '.join(sorted(kernels))}{nearest(name, kernels)}",
    )


def variants() -> tuple[str, ...]:
    """Return the names of the variants that every kernel can be built in."""
    return (PLAIN, *read_toml(CONFIGS / "kernels.toml").get("variant", {}))


def kernel_names() -> tuple[str, ...]:
    """Return the names of the kernels that can be built by name, in the file's order."""
    return tuple(read_toml(CONFIGS / "kernels.toml").get("kernel", {}))
