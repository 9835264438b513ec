"""A kernel's source tree, wherever it is from."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError
from harness.process import host_problem


@dataclass(frozen=True, slots=True)
class Source:
    """A kernel tree that is only read; `identity` changes whenever its content does."""

    tree: Path
    identity: str
    version: str  # as its Makefile has it, such as 6.12.117
    label: str  # of its working directory: stable, so that rebuilds are incremental
    interface: str  # changes with any file that modules are built from, headers above all
    original: Source | None = None  # what it is, with patches
    settled: bool = False  # it is the cache's, where nobody changes it


def copied(original: Path, tree: Path, cached: Path) -> None:
    """Copy a tree to the place `tree`, without its .git.

    One that lies below `cached` is copied by hard links, so no file of the copy may be written to,
    only replaced. A user's own tree is copied whole: an editor may write through a hard link.
    """
    try:
        shutil.copytree(
            original,
            tree,
            symlinks=True,
            ignore=shutil.ignore_patterns(".git"),
            copy_function=os.link if original.is_relative_to(cached) else shutil.copy2,
        )
    except OSError as problem:
        raise host_problem(problem, tree) from problem


def version_of(tree: Path) -> str:
    """Return the version that a tree's Makefile has; raise `ConfigError` when it has none."""
    try:
        top = (tree / "Makefile").read_text(errors="replace")[:1000]
    except OSError as problem:
        raise ConfigError(
            "there is no Makefile: not the top of a kernel tree", where=str(tree)
        ) from problem
    parts: dict[str, str] = dict(
        re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(\S*)$", top, re.M)
    )
    try:
        base = ".".join((parts["VERSION"], parts["PATCHLEVEL"], parts["SUBLEVEL"]))
    except KeyError as missing:
        raise ConfigError(
            f"no {missing.args[0]} in the Makefile: not the top of a kernel tree",
            where=str(tree / "Makefile"),
        ) from missing
    return base + parts.get("EXTRAVERSION", "")
