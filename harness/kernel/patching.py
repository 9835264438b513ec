"""A kernel's source with patches: a copy that they are applied to, in the cache.

A copy may be of hard links: patch(1) writes a new file and puts it in the place of the old one, so
what both share is never written to.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import replace
from pathlib import Path

from harness.cache import Cache
from harness.config import Patch
from harness.errors import CommandFailed, ConfigError
from harness.kernel.tree import Source, copied
from harness.process import run

_RECIPE = 1  # raise it when the steps below change what an entry holds
_SHORT = 8  # digits of a key in a working directory's name


def patched(source: Source, patches: tuple[Patch, ...], cache: Cache) -> Source:
    """Return the source with the patches applied in that order; without any, as it is.

    Raises `ConfigError` with patch, file and hunk for the first that does not apply.
    """
    if not patches:
        return source
    inputs = {
        "source": source.identity,
        "patches": [hashlib.sha256(patch.content).hexdigest() for patch in patches],
        "recipe": _RECIPE,
    }

    def fill(directory: Path) -> None:
        tree = directory / "linux"
        copied(source.tree, tree, cache.root)
        for patch in patches:
            _apply(patch, tree, source.version)

    entry = cache.make("source", inputs, fill)
    return replace(
        source,
        tree=entry.path / "linux",
        identity=f"{source.identity}+{entry.key}",
        label=f"{source.label}-{entry.key[:_SHORT]}",
        interface=f"{source.interface}+{entry.key}",
        original=source,
        settled=True,
    )


def _apply(patch: Patch, tree: Path, version: str) -> None:
    """Apply one patch; a hunk may have moved, but its context must be as the patch has it."""
    said: list[str] = []
    options = ("-p1", "--batch", "--forward", "--fuzz=0", "--no-backup-if-mismatch")
    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(patch.content)
            file.flush()
            words = ["patch", *options, "--reject-file=-", f"--input={file.name}"]
            run(words, cwd=tree, on_line=said.append)
        if not said:
            raise CommandFailed("the patch is empty")
    except CommandFailed as problem:
        raise ConfigError(
            f"does not apply to linux {version}: {refusal(said)}",
            where=patch.where,
            next_step="make it anew for this version (git format-patch), or name in a series.toml "
            "the versions that it is for",
        ) from problem


# What patch(1) says, and what is told of it.
_REFUSALS = (
    (re.compile(r"Hunk #(\d+) FAILED at (\d+)"), "hunk {}, at line {}"),
    (re.compile(r"Reversed \(or previously applied\) patch detected"), "it is applied already"),
    (re.compile(r"No file to patch"), "no such file"),
)
_FILE = re.compile(r"(?:patching file|\|\+\+\+) '?(?:b/)?([^\s']+)")


def refusal(said: list[str]) -> str:
    """Return what patch(1) refused: each file and hunk, or its last words."""
    refused, file = [], "?"
    for line in said:
        if named := _FILE.match(line):
            file = named[1]
        for pattern, text in _REFUSALS:
            if match := pattern.match(line):
                refused.append(f"{file}: {text.format(*match.groups())}")
    return "; ".join(refused) or "\n".join(said[-5:]) or "it is empty"
