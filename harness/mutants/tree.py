"""A copy of a kernel's source to break, and a build directory that knows most of it already.

The copy is made of hard links, so a file is replaced, never written to. make goes by the times of
files: a mutant and its removal are both a new file, and so both are compiled.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.cache import Cache
from harness.config import Kernel, Mutant
from harness.errors import ConfigError
from harness.kernel import seeding, source
from harness.kernel.build import workdir
from harness.kernel.tree import Source, copied
from harness.mutants.edit import apply
from harness.process import host_problem
from harness.progress import Progress

_COMPLETE = ".complete"  # beside the copy: it was finished


@dataclass(frozen=True, slots=True)
class Tree:
    """The copy, and what it is a copy of."""

    path: Path
    original: Path

    def check(self, mutants: tuple[Mutant, ...]) -> None:
        """Raise `ConfigError` for the first mutant that does not apply; nothing is written."""
        for mutant in mutants:
            apply(mutant, self._read(mutant.file))

    def mend(self) -> tuple[str, ...]:
        """Give back what a killed run left broken, or anybody changed; return the files."""
        mended = tuple(seeding.differing(self.original, self.path))
        for file in mended:
            _replace(self.path / file, self.original / file)
        return mended

    @contextmanager
    def broken_by(self, mutant: Mutant) -> Iterator[None]:
        """Have the mutant in the copy, for as long as this lasts."""
        file, healthy = self.path / mutant.file, self.original / mutant.file
        _replace(file, healthy, apply(mutant, self._read(mutant.file)))
        try:
            yield
        finally:
            _replace(file, healthy)

    def _read(self, file: str) -> str:
        try:
            return (self.original / file).read_text(encoding="utf-8")
        except OSError as problem:
            raise ConfigError(
                f"a mutant's file cannot be read: {problem.strerror}",
                where=str(self.original / file),
                next_step="mend it in configs/mutants/, or remove it",
            ) from problem


def copy(kernel: Kernel, original: Source, number: int, cache: Cache, progress: Progress) -> Tree:
    """Return the copy of that number of a kernel's source, made if it is not there.

    Its place is stable for as long as the original does not change, so that builds of it are
    incremental; `cma-harness cache prune` removes it when it is not used.
    """
    key = cache.key({"source": original.identity})
    place = cache.workdir(f"mutants-{key}" if number == 1 else f"mutants-{key}-{number}")
    tree = place / f"linux-{kernel.name}"
    with progress.phase("copy", str(tree)), cache.lock(place.name):
        if not (place / _COMPLETE).exists():
            shutil.rmtree(tree, ignore_errors=True)
            copied(original.tree, tree, cache.root)
            try:
                (place / _COMPLETE).touch()
            except OSError as problem:
                raise host_problem(problem, tree) from problem
    return Tree(tree, original.tree)


def seed(original: Source, kernel: Kernel, cache: Cache, progress: Progress) -> None:
    """Begin the copy's build directory with the original's, so that little is compiled.

    The copy's sources are the same files.
    """
    target = source.obtain(kernel, cache, Progress(quiet=True))
    family = kernel.family
    with workdir(cache, target, family) as work, workdir(cache, original, family) as known:
        seeding.seed(work, target.tree, known, original.tree, progress)


def _replace(file: Path, healthy: Path, text: str | None = None) -> None:
    """Put a new file in the place of one that may be a hard link: the text, or the healthy one."""
    aside = file.with_name(f".{file.name}.mutant")
    try:
        aside.write_bytes(healthy.read_bytes() if text is None else text.encode())
        aside.chmod(healthy.stat().st_mode)
        aside.replace(file)
    except OSError as problem:
        raise host_problem(problem, file) from problem
