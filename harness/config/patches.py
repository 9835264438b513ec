"""Patches for kernels: a file that is applied, a mailbox of them, or a series.toml.

The last says to which versions of the kernel its files are applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from harness.config import mailbox
from harness.config.reading import CONFIGS, read_toml, validate
from harness.config.values import Frozen
from harness.config.versions import VersionsField
from harness.errors import ConfigError, UsageError

# For every kernel that the harness fetches itself; a user's own tree is built as it is.
SUPPLIED = CONFIGS / "patches" / "series.toml"


@dataclass(frozen=True, slots=True)
class Patch:
    """What patch(1) is given in one go: a file, or a mail of it with that subject as its `name`."""

    file: Path
    name: str
    content: bytes

    @property
    def where(self) -> str:
        """The file, and which of its mails."""
        return str(self.file) if self.name == self.file.name else f"{self.file}: {self.name}"


class Entry(Frozen):
    """A patch of a series, for some versions, and why they need it."""

    file: str
    versions: VersionsField
    why: str = Field(min_length=1)


class Series(Frozen):
    """A series.toml: patches in the order in which they are applied."""

    patch: tuple[Entry, ...] = ()


def patches_for(paths: Iterable[Path], version: str) -> tuple[Patch, ...]:
    """Return the patches for a kernel of that version, in order.

    Each path is a patch, a mailbox with one series of them, or a series.toml, of which those for
    the version are taken. Raises `ConfigError` for one that cannot be read, a mailbox without a
    whole series, and a series.toml that names a file that is not there.
    """
    chosen: list[Patch] = []
    for path in paths:
        if path.suffix != ".toml":
            chosen += _read(path)
            continue
        for entry in _series(path).patch:
            file = _beside(path, entry)
            chosen += _read(file) if version in entry.versions else ()
    return tuple(chosen)


def patch_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield every file that decides what is applied, whatever the kernel's version."""
    for path in paths:
        yield path
        if path.suffix == ".toml":
            yield from (_beside(path, entry) for entry in _series(path).patch)


def _series(path: Path) -> Series:
    return validate(Series, read_toml(path), path)


def _read(path: Path) -> tuple[Patch, ...]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(error.strerror or str(error), where=str(path)) from error
    if not mailbox.is_mailbox(content):
        return (Patch(path, path.name, content),)
    mails = mailbox.series(content, str(path))
    return tuple(Patch(path, mail.subject, mail.diff) for mail in mails)


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
