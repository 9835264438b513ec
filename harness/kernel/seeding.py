"""Beginning the build of a changed tree with what was built of the original.

Objects, and the times of files, are taken over. What kbuild remembers of paths (command lines,
dependencies) is changed to the new tree's, so that it finds little to do again: what was changed,
and what differs in the configuration when the last build was of another variant. It decides that
itself, file by file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from harness.process import host_problem
from harness.progress import Progress


def seed(work: Path, tree: Path, known: Path, original: Path, progress: Progress) -> bool:
    """Fill `work`, where `tree` is to be built, out of `known`, where `original` was built.

    Both must be locked. Returns whether it was done: not when something was built in `work`
    already, nor when `known` has no build; then the first build is a whole one.
    """
    if work == known or (work / ".config").exists() or not (known / ".config").exists():
        return False
    paths = {str(known).encode(): str(work).encode(), str(original).encode(): str(tree).encode()}
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
    return True


def touch_changed(tree: Path, original: Path) -> None:
    """Make each file of the tree that the original has not so newer than any object of it.

    make goes by times, and a patch may have been applied before its original was built.
    """
    for file in differing(tree, original):
        (tree / file).touch()


def differing(one: Path, other: Path) -> Iterator[str]:
    """Yield the files of a tree that are others in the other one, or missing there.

    What is of another time is compared; symbolic links and .git are not.
    """
    for folder, folders, names in os.walk(one):
        folders[:] = [name for name in folders if name != ".git"]
        for name in names:
            file = Path(folder, name)
            below = file.relative_to(one)
            if not file.is_symlink() and not _same(file, other / below):
                yield str(below)


def _same(file: Path, theirs: Path) -> bool:
    try:
        one, two = file.stat(), theirs.stat()
    except FileNotFoundError:
        return False
    alike = (one.st_size, one.st_mtime_ns) == (two.st_size, two.st_mtime_ns)
    return alike or file.read_bytes() == theirs.read_bytes()


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
