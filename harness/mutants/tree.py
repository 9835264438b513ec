"""A copy of a kernel's source to break, and a build directory that knows most of it already.

The copy is made of hard links, so a file is replaced, never written to. make goes by the times of
files: a mutant and its removal are both a new file, and so both are compiled.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.cache import Cache
from harness.config import Kernel, Mutant
from harness.errors import ConfigError
from harness.kernel import source
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
        """Give back what a run that was killed left broken, or anybody changed; return the files.

        A file that is another than the original's, and of another time, is compared.
        """
        mended = []
        for folder, _, names in os.walk(self.original):
            for name in names:
                healthy = Path(folder, name)
                file = self.path / healthy.relative_to(self.original)
                if not _current(file, healthy):
                    _replace(file, healthy)
                    mended.append(str(file.relative_to(self.path)))
        return tuple(mended)

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

    Objects, and the times of files, are taken over; the copy's sources are the same files. What
    kbuild remembers of paths (command lines, dependencies) is changed to the copy's paths, so that
    it finds little to do again: what differs in the configuration, when the last build was of
    another variant. It decides that itself, file by file. Not done when the copy was built before,
    or the original never; then the first build is a whole one.
    """
    target = source.obtain(kernel, cache, Progress(quiet=True))
    family = kernel.family
    with workdir(cache, target, family) as work, workdir(cache, original, family) as known:
        if (work / ".config").exists() or not (known / ".config").exists():
            return
        paths = {
            str(known).encode(): str(work).encode(),
            str(original.tree).encode(): str(target.tree).encode(),
        }
        with progress.phase("seed", f"the build directory {known.name}"):
            try:
                shutil.copytree(known, work, symlinks=True, dirs_exist_ok=True)
                for file in work.rglob("*"):
                    _rename(file, paths)
            except BaseException as problem:
                shutil.rmtree(work, ignore_errors=True)
                if isinstance(problem, OSError):
                    raise host_problem(problem, work) from problem
                raise


def _rename(file: Path, paths: dict[bytes, bytes]) -> None:
    """Change the paths in a text file or a symbolic link; its time stays."""
    if file.is_symlink():
        old = os.fsencode(file.readlink())
        if (new := _renamed(old, paths)) != old:
            file.unlink()
            file.symlink_to(os.fsdecode(new))
    elif file.is_file():
        old = file.read_bytes()
        if b"\0" not in old and (new := _renamed(old, paths)) != old:
            status = file.stat()
            file.write_bytes(new)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def _renamed(content: bytes, paths: dict[bytes, bytes]) -> bytes:
    for old, new in paths.items():
        content = content.replace(old, new)
    return content


def _current(file: Path, healthy: Path) -> bool:
    if healthy.is_symlink() or ".git" in healthy.parts:
        return True
    try:
        one, other = file.stat(), healthy.stat()
    except FileNotFoundError:
        return False
    same = (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
    return same or file.read_bytes() == healthy.read_bytes()


def _replace(file: Path, healthy: Path, text: str | None = None) -> None:
    """Put a new file in the place of one that may be a hard link: the text, or the healthy one."""
    aside = file.with_name(f".{file.name}.mutant")
    try:
        aside.write_bytes(healthy.read_bytes() if text is None else text.encode())
        aside.chmod(healthy.stat().st_mode)
        aside.replace(file)
    except OSError as problem:
        raise host_problem(problem, file) from problem
