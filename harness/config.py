"""The only reader of TOML: kernels, boards and layouts as frozen values.

A mistake in a file raises `ConfigError` with the file, the key and the nearest valid key.
Names are looked up in configs/; a path to a .toml file (for a kernel: to a source tree) is
taken as it is.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from harness.errors import ConfigError, UsageError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
MIB = 1 << 20
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_size(value: object) -> int:
    """Return bytes for 4194304, "4M", "0x400000" or "1G"; raise ValueError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"(0x[0-9a-fA-F]+|\d+)\s*([KMG]?)(?:i?B)?", str(value))
    if not match:
        raise ValueError(f"{value!r} is not a size such as 65536, '64K', '16M' or '1G'")
    return int(match[1], 0) * _UNITS[match[2]]


Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
# What the device tree specification (v0.4, 2.2.1) allows in a node's name.
NodeName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9,._+-]{0,30}$")]
Cmdline = Annotated[str, Field(pattern=r"^[!-~ ]*$")]
PLAIN = "plain"  # the kernel as its fragments have it, without a variant's


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant(_Frozen):
    """What a build of any kernel adds, to see more of it: fragments, and variables of make.

    `cmdline` is for the kernel's command line; `slow` is by how much longer the guest may take for
    everything.
    """

    config: tuple[str, ...] = ()
    make: Mapping[str, str] = {}
    cmdline: Cmdline = ""
    slow: float = Field(default=1, ge=1)


class Kernel(_Frozen):
    """A kernel to build: where its source comes from and which fragments configure it.

    `make` has variables of make's command line, such as the objects to profile. `cmdline` and
    `slow` are what its variant wants of a guest: see `Variant`.
    """

    name: str
    variant: str = PLAIN
    make: Mapping[str, str] = {}
    cmdline: Cmdline = ""
    slow: float = Field(default=1, ge=1)
    package: str | None = None
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

    def fragments(self) -> tuple[Path, ...]:
        """Return the fragment files in the order in which they are merged."""
        return tuple(_named_file("kconfig", name, ".config") for name in self.config)


class Board(_Frozen):
    """A machine QEMU emulates, with the memory and console the kernel finds there."""

    name: str
    description: str
    machine: str
    machine_options: tuple[str, ...] = ()
    cpu: str
    cpus: int = Field(default=1, ge=1, le=8)
    memory: Size
    tree: Literal["dump"]  # the base device tree: QEMU's own
    console: str
    serial: int = Field(default=0, ge=0)  # which of the machine's serial ports is the console
    userland: Literal["armhf"]
    # In the file's order: a set's would differ from run to run, and with it the cache's keys.
    has_: tuple[Literal["net", "poweroff"], ...] = Field(default=(), alias="has")

    @property
    def qemu_machine(self) -> str:
        """The value of QEMU's -M."""
        return ",".join((self.machine, *self.machine_options))

    def has(self, capability: Literal["net", "poweroff"]) -> bool:
        """Tell whether the board has a network, or can power itself off."""
        return capability in self.has_


class Area(_Frozen):
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


class Layout(_Frozen):
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


class CoveredFile(_Frozen):
    """A source file whose coverage is told: all of it, or some of its functions.

    `goal` is in per cent of the lines; less than this fails.
    """

    path: str
    goal: float | None = Field(default=None, ge=0, le=100)
    functions: tuple[str, ...] = ()


class Reason(_Frozen):
    """Why lines are not executed: of a function, those with these texts, or all of it.

    A text may be of several lines, which follow each other; indentation does not count.
    """

    file: str
    function: str
    lines: tuple[str, ...] = ()
    reason: str = Field(min_length=1)


class Coverage(_Frozen):
    """configs/coverage.toml: what is looked at, and what nothing can reach."""

    file: tuple[CoveredFile, ...]
    reason: tuple[Reason, ...] = ()

    @model_validator(mode="after")
    def _reasons_of_files(self) -> Self:
        strangers = {reason.file for reason in self.reason} - {file.path for file in self.file}
        if strangers:
            raise ValueError(f"reasons for files that are not listed: {', '.join(strangers)}")
        return self


def read_toml(path: Path) -> dict[str, Any]:
    """Return the file's tables; raise `ConfigError` with the line when it does not parse."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(error.strerror or str(error), where=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"not TOML: {error}", where=str(path), next_step="mend that line and run again"
        ) from error


def load_board(name: str) -> Board:
    """Return the board configs/boards/NAME.toml, or the one in the file NAME."""
    path = _named_file("boards", name, ".toml")
    return _validate(Board, {"name": path.stem} | read_toml(path), path)


def load_layout(name: str) -> Layout:
    """Return the layout configs/layouts/NAME.toml, or the one in the file NAME."""
    path = _named_file("layouts", name, ".toml")
    return _validate(Layout, {"name": path.stem} | read_toml(path), path)


def load_kernel(name: str, variant: str = PLAIN) -> Kernel:
    """Return the kernel NAME of kernels.toml, or one for the source tree at the path NAME.

    `variant` is one of that file's, or "plain".
    """
    path = CONFIGS / "kernels.toml"
    tables = read_toml(path)
    kernel = _load_kernel(name, tables, path)
    if variant == PLAIN:
        return kernel
    variants: Mapping[str, Any] = tables.get("variant", {})
    if variant not in variants:
        raise UsageError(
            f"no variant {variant!r}",
            where=str(path),
            next_step=f"choose one of: {PLAIN}, {', '.join(variants)}{_nearest(variant, variants)}",
        )
    entry = _validate(Variant, variants[variant], path, f"variant.{variant}.")
    return kernel.with_variant(variant, entry)


def _load_kernel(name: str, tables: Mapping[str, Any], path: Path) -> Kernel:
    kernels: Mapping[str, Any] = tables.get("kernel", {})
    if name in kernels:
        return _validate(Kernel, {"name": name} | kernels[name], path, f'kernel."{name}".')
    tree = Path(name).expanduser()
    if (tree / "Kbuild").is_file() and (tree / "mm").is_dir():
        entry = {"name": tree.resolve().name, "tree": tree.resolve()} | tables.get("tree", {})
        return _validate(Kernel, entry, path, "tree.")
    raise UsageError(
        f"no kernel {name!r}: it is neither in kernels.toml nor the top of a kernel tree",
        where=str(path),
        next_step=f"choose one of: {', '.join(sorted(kernels))}{_nearest(name, kernels)}",
    )


def variants() -> tuple[str, ...]:
    """Return the names of the variants that every kernel can be built in."""
    return (PLAIN, *read_toml(CONFIGS / "kernels.toml").get("variant", {}))


def names(kind: str) -> tuple[str, ...]:
    """Return the names that configs/KIND/ offers (kind: boards, layouts)."""
    return tuple(sorted(path.stem for path in (CONFIGS / kind).glob("*.toml")))


def _named_file(kind: str, name: str, suffix: str) -> Path:
    path = Path(name) if name.endswith(suffix) else CONFIGS / kind / f"{name}{suffix}"
    if path.is_file():
        return path
    offered = sorted(found.stem for found in (CONFIGS / kind).glob(f"*{suffix}"))
    raise UsageError(
        f"no {kind.removesuffix('s')} {name!r}",
        where=str(path.parent),
        next_step=f"choose one of: {', '.join(offered)}{_nearest(name, offered)}",
    )


def require_known(what: str, wanted: Iterable[str], known: Iterable[str]) -> None:
    """Raise `UsageError` for the first name that is not known."""
    offered = sorted(set(known))
    for name in wanted:
        if name not in offered:
            near = _nearest(name, offered) or f"; choose one of: {', '.join(offered)}"
            raise UsageError(f"no {what} {name!r}{near}")


def _nearest(name: str, valid: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(valid), n=1)
    return f" (nearest: {close[0]})" if close else ""


_Model = TypeVar("_Model", bound=_Frozen)


def _validate(model: type[_Model], data: dict[str, Any], path: Path, prefix: str = "") -> _Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(
            "; ".join(_explain(model, problem, prefix) for problem in error.errors()),
            where=str(path),
            next_step="mend the file; configs/ has working examples",
        ) from error


def _explain(model: type[BaseModel], problem: Mapping[str, Any], prefix: str) -> str:
    where = problem["loc"]
    key = prefix + ".".join(str(part) for part in where)
    if problem["type"] == "extra_forbidden":
        valid = _keys(_model_at(model, where[:-1]))
        near = _nearest(str(where[-1]), valid) or f" (valid: {', '.join(valid)})"
        return f"unknown key '{key}'{near}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"key '{key}': {message}" if where else message


def _keys(model: type[BaseModel]) -> tuple[str, ...]:
    fields = model.model_fields
    return tuple(field.alias or name for name, field in fields.items() if name != "name")


def _model_at(model: type[BaseModel], where: tuple[str | int, ...]) -> type[BaseModel]:
    """Return the model of the table at `where`; only layouts nest, one level deep."""
    return Area if where and model is Layout else model


def load_coverage() -> Coverage:
    """Return configs/coverage.toml."""
    path = CONFIGS / "coverage.toml"
    return _validate(Coverage, read_toml(path), path)


class Mutant(_Frozen):
    """A small breakage of a kernel's source file, which a suite must notice.

    `before` stands once in the file, or in `function` of it. `equivalent` says why nothing can
    notice, with the proof by the source.
    """

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    file: str
    function: str = ""
    before: str = Field(min_length=1)
    after: str
    promise: str  # of CMA, which it breaks
    undoes: str  # the commit of CMA's history that it takes back, or "none"
    equivalent: str = ""
    first: tuple[str, ...] = ()  # tests that run before the others: they are to notice
    variant: str = PLAIN  # the variant of the kernel on which it can be noticed


def load_mutants() -> tuple[Mutant, ...]:
    """Return all mutants of configs/mutants/, by file and then in the order of the file."""
    found: list[Mutant] = []
    for path in sorted((CONFIGS / "mutants").glob("*.toml")):
        tables = read_toml(path)
        shared = {key: value for key, value in tables.items() if key != "mutant"}
        for number, table in enumerate(tables.get("mutant", ()), 1):
            found.append(_validate(Mutant, shared | table, path, f"mutant {number}: "))
    known = [mutant.id for mutant in found]
    twice = sorted({name for name in known if known.count(name) > 1})
    if twice:
        raise ConfigError(f"two mutants with one id: {', '.join(twice)}", where="configs/mutants")
    return tuple(found)


class Recipe(_Frozen):
    """images/initramfs.toml: what the guest's initramfs holds beside modules and init."""

    packages: Mapping[str, tuple[str, ...]]
    programs: Mapping[str, str]  # guest path: path in the packages
    links: Mapping[str, str]
    directories: Mapping[str, str]  # guest path: octal mode
    files: Mapping[str, str]  # guest path: content


def load_recipe() -> Recipe:
    """Return images/initramfs.toml."""
    path = CONFIGS.parent / "images" / "initramfs.toml"
    return _validate(Recipe, read_toml(path), path)
