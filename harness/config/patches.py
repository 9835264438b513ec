"""Patches for kernels: a file that is applied, or a series.toml that says to which versions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from harness.config.reading import CONFIGS, read_toml, validate
from harness.config.values import Frozen
from harness.config.versions import VersionsField
from harness.errors import ConfigError, UsageError

# For every kernel that the harness fetches itself; a user's own tree is built as it is.
SUPPLIED = CONFIGS / "patches" / "series.toml"


class Entry(Frozen):
    """A patch of a series, for some versions, and why they need it."""

    file: str
    versions: VersionsField
    why: str = Field(min_length=1)


class Series(Frozen):
    """A series.toml: patches in the order in which they are applied."""

    patch: tuple[Entry, ...] = ()


def patches_for(paths: Iterable[Path], version: str) -> tuple[Path, ...]:
    """Return the patches for a kernel of that version, in order.

    Each path is a patch, or a series (a .toml file) of which those for the version are taken.
    Raises `ConfigError` for a series that cannot be read or names a patch that is not there.
    """
    chosen: list[Path] = []
    for path in paths:
        if path.suffix != ".toml":
            chosen.append(path)
            continue
        series = validate(Series, read_toml(path), path)
        chosen += [_beside(path, entry) for entry in series.patch if version in entry.versions]
    return tuple(chosen)


def patch_file(name: str, folder: Path) -> Path:
    """Return the patch or series of that name, below `folder` when the name is relative."""
    path = folder / Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"no patch {name!r}", where=str(path))
    return path.absolute()


def _beside(series: Path, entry: Entry) -> Path:
    path = series.parent / entry.file
    if not path.is_file():
        raise ConfigError(f"there is no patch {entry.file!r}", where=str(series))
    return path
