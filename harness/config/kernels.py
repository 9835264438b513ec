"""configs/kernels.toml: the kernels that can be built by name, and their variants."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from harness.config.families import VIRT, Family, Userland, load_family
from harness.config.patches import SUPPLIED, patch_file
from harness.config.reading import CONFIGS, named_file, nearest, read_toml, validate
from harness.config.values import Cmdline, Frozen
from harness.errors import UsageError

_TARBALL = re.compile(r"(.+)\.(?:tar(?:\.(?:xz|gz|bz2|zst|lzma))?|t[gx]z)")
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
    `added` are the names of the patches and fragments that make it another kernel than its name
    says.
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
    url: str | None = Field(default=None, pattern=r"^(https?|file)://")
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    tarball: Path | None = None
    tree: Path | None = None
    config: tuple[str, ...]
    patches: tuple[Path, ...] = ()
    added: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = {name: getattr(self, name) for name in ("package", "url", "tarball", "tree")}
        if sum(source is not None for source in sources.values()) != 1:
            raise ValueError(f"give exactly one of {', '.join(map(repr, sources))}")
        if self.url is not None and self.sha256 is None:
            raise ValueError("give the 'sha256' of what is at 'url'")
        return self

    @property
    def label(self) -> str:
        """A name for people: 6.12; 6.12+debug+fix for a variant of it with fix.patch."""
        variant = () if self.variant == PLAIN else (self.variant,)
        return "+".join((self.name, *variant, *self.added))

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


def load_kernel(
    name: str,
    variant: str = PLAIN,
    family: str = VIRT,
    *,
    patches: Sequence[str] = (),
    fragments: Sequence[str] = (),
) -> Kernel:
    """Return the kernel NAME of kernels.toml, or one for the file or the source tree at that path.

    A file is a tarball, or a .toml that says what an entry of kernels.toml does. `variant` is one
    of kernels.toml's, or "plain"; `family` is one of families.toml. `patches` and `fragments` are
    files of the user's, added to what the kernel has.
    """
    path = CONFIGS / "kernels.toml"
    tables = read_toml(path)
    kernel = _load_kernel(name, tables, path).of_family(load_family(family))
    kernel = edited(kernel, patches, fragments)
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
        return _fetched(entry, path, f'kernel."{name}".', CONFIGS / "patches")
    place = Path(name).expanduser()
    if place.suffix == ".toml":
        entry = {"name": place.stem} | common | read_toml(place)
        return _fetched(entry, place, "", place.parent)
    if place.is_file() and (stem := _TARBALL.fullmatch(place.name)):
        entry = {"name": stem[1], "tarball": place.absolute()} | common
        return _fetched(entry, path, "tree.", CONFIGS / "patches")
    if (place / "Kbuild").is_file() and (place / "mm").is_dir():
        entry = {"name": place.resolve().name, "tree": place.resolve()} | common
        return validate(Kernel, entry, path, "tree.")
    raise UsageError(
        f"no kernel {name!r}: it is neither in kernels.toml nor a tarball, a .toml file or the "
        "top of a kernel tree",
        where=str(path),
        next_step=f"choose one of: {', '.join(sorted(kernels))}{nearest(name, kernels)}",
    )


def _fetched(entry: dict[str, Any], path: Path, prefix: str, folder: Path) -> Kernel:
    """Return an entry's kernel; files that it names are below `folder`."""
    kernel = validate(Kernel, entry, path, prefix)
    own = tuple(patch_file(str(patch), folder) for patch in kernel.patches)
    found = {
        "patches": (SUPPLIED, *own) if kernel.tree is None else own,
        "added": tuple(patch.stem for patch in own),
        "config": tuple(_fragment(name, folder) for name in kernel.config),
        "tarball": kernel.tarball and folder / kernel.tarball.expanduser(),
        "tree": kernel.tree and (folder / kernel.tree.expanduser()).resolve(),
    }
    return kernel.model_copy(update=found)


def _fragment(name: str, folder: Path) -> str:
    return str((folder / Path(name).expanduser()).absolute()) if name.endswith(".config") else name


def edited(kernel: Kernel, patches: Sequence[str], fragments: Sequence[str]) -> Kernel:
    """Return the kernel with patches and fragments added; relative paths are from where we are."""
    files = tuple(patch_file(name, Path()) for name in patches)
    named = tuple(Path(_fragment(name, Path())) for name in fragments)
    return kernel.model_copy(
        update={
            "patches": kernel.patches + files,
            "config": kernel.config + tuple(map(str, named)),
            "added": kernel.added + tuple(file.stem for file in (*files, *named)),
        }
    )


def variants() -> tuple[str, ...]:
    """Return the names of the variants that every kernel can be built in."""
    return (PLAIN, *read_toml(CONFIGS / "kernels.toml").get("variant", {}))


def kernel_names() -> tuple[str, ...]:
    """Return the names of the kernels that can be built by name, in the file's order."""
    return tuple(read_toml(CONFIGS / "kernels.toml").get("kernel", {}))
