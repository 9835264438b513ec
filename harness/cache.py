"""The content-addressed store of everything that is made once: sources, kernels, images.

An entry's key is the digest of all that shaped it. An entry appears whole or not at all: it is
built aside and renamed into place under a lock, so that two runs share one cache safely.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import CommandFailed, DiskFull, HarnessError
from harness.process import FREE_SPACE, host_problem

_KEY_FILE = "key.json"
_WORK = "build"
_LEAST_FREE = 1 << 20  # bytes


def default_root() -> Path:
    """Return $CMA_HARNESS_CACHE, or cma-harness below the user's cache directory."""
    if chosen := os.environ.get("CMA_HARNESS_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "cma-harness"


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_tree(root: Path, patterns: tuple[str, ...] = ("**/*",)) -> str:
    """Return one SHA-256 over the names and contents of the files that match below `root`."""
    files = sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()})
    whole = hashlib.sha256()
    for path in files:
        whole.update(f"{path.relative_to(root)}\0{digest_file(path)}\n".encode())
    return whole.hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One cached thing: where it is, its key, and whether this run had to make it."""

    path: Path
    key: str
    made: bool


class Cache:
    """The store below `root`; `on_wait` is told when another run holds what we need."""

    def __init__(
        self, root: Path | None = None, on_wait: Callable[[str], None] = lambda _: None
    ) -> None:
        self.root = root or default_root()
        self._on_wait = on_wait

    def key(self, inputs: Mapping[str, object]) -> str:
        """Return the key of what those inputs shape: 16 hex digits of a SHA-256."""
        text = json.dumps(inputs, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def make(self, kind: str, inputs: Mapping[str, object], build: Callable[[Path], None]) -> Entry:
        """Return the entry for those inputs; `build` fills a fresh directory if there is none.

        Raises `DiskFull` when there is no room; then, as after any failure of `build`, nothing
        is left behind.
        """
        key = self.key(inputs)
        final = self.root / kind / key
        if final.is_dir():
            os.utime(final)
            return Entry(final, key, made=False)
        try:
            with self.lock(f"{kind}-{key}"):
                if final.is_dir():  # made by another run while we waited
                    return Entry(final, key, made=False)
                self._fill(final, inputs, build)
        except OSError as problem:
            raise host_problem(problem, self.root) from problem
        except CommandFailed as problem:
            raise self._disk_full(problem) from problem
        return Entry(final, key, made=True)

    def _disk_full(self, problem: CommandFailed) -> CommandFailed | DiskFull:
        """Return what a program's failure was about; some end without a word on a full disk."""
        if shutil.disk_usage(self.root).free >= _LEAST_FREE:
            return problem
        return DiskFull(
            f"no space left on the disk; {problem.what}", where=problem.where, next_step=FREE_SPACE
        )

    def _fill(
        self, final: Path, inputs: Mapping[str, object], build: Callable[[Path], None]
    ) -> None:
        final.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
        try:
            aside.chmod(0o755)
            build(aside)
            (aside / _KEY_FILE).write_text(json.dumps(inputs, indent=1, default=str) + "\n")
            aside.rename(final)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock `name` against all other runs; the kernel drops it if we die."""
        directory = self.root / "locks"
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise host_problem(problem, directory) from problem
        lock = FileLock(directory / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self._on_wait(f"waiting for another run that makes {name}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def workdir(self, name: str) -> Path:
        """Return a directory that is kept between runs to make builds incremental."""
        path = self.root / _WORK / name
        path.mkdir(parents=True, exist_ok=True)
        os.utime(path)
        return path

    @contextmanager
    def building(self, name: str) -> Iterator[Path]:
        """Give such a directory to one run at a time; empty when the last one came to no end.

        What that wrote may be cut short, or be newer than what it was to be made of. A build that
        ends by itself, if only with an error of the compiler, leaves what the next can go on with.
        """
        with self.lock(f"build-{name}"):
            work, begun = self.workdir(name), self.root / "locks" / f"build-{name}.begun"
            if begun.exists():
                self._empty(work)
            begun.touch()
            try:
                yield work
            except HarnessError as problem:
                if not isinstance(problem, DiskFull):
                    begun.unlink()
                raise
            begun.unlink()

    def _empty(self, work: Path) -> None:
        """Put a directory aside, and remove it: a compiler may still write there."""
        with tempfile.TemporaryDirectory(
            prefix=f".{work.name}-", dir=work.parent, ignore_cleanup_errors=True
        ) as aside:
            work.rename(Path(aside) / "work")
        work.mkdir()

    def entries(self) -> tuple[Path, ...]:
        """Return all finished entries, the longest unused first."""
        return _by_use(path.parent for path in self.root.glob(f"*/*/{_KEY_FILE}"))

    def drop(self, kind: str, key: str) -> None:
        """Remove one entry, if it is there."""
        with self.lock(f"{kind}-{key}"):
            shutil.rmtree(self.root / kind / key, ignore_errors=True)

    def keep(self, kind: str, most: int) -> None:
        """Remove the longest unused entries of a kind beyond so many."""
        of_kind = [path for path in self.entries() if path.parent.name == kind]
        for path in of_kind[: max(0, len(of_kind) - most)]:
            self.drop(kind, path.name)

    def prune(self, unused_days: float) -> tuple[Path, ...]:
        """Remove the entries and working directories no run used for so many days; return them."""
        limit = time.time() - unused_days * 86400
        known = (*self.entries(), *(self.root / _WORK).glob("*/"))
        old = tuple(path for path in _by_use(known) if path.stat().st_mtime < limit)
        for path in old:
            with self.lock(f"{path.parent.name}-{path.name}"):
                shutil.rmtree(path)
        return old


def _by_use(paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(sorted(paths, key=lambda path: path.stat().st_mtime))
