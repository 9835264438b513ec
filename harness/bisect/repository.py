"""A clone of the user's tree to bisect in. His tree is only read: git keeps its state in the clone.

The clone borrows the objects of the user's repository, and has its place in the cache for as long
as that has its own, so that builds in it are incremental.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.cache import Cache
from harness.errors import CommandFailed, UsageError
from harness.process import run
from harness.progress import Progress
from harness.results.bisect import Commit, Fate

# What git hands on to its children, and would have us work in another repository.
_NOT_INHERITED = dict.fromkeys(
    ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
)
# Nothing of the user's own runs in the clone, and no git of ours cleans up beside a build.
_SETTINGS = ("core.hooksPath=/dev/null", "gc.auto=0", "advice.detachedHead=false")
_FORMAT = "%H%x00%s%x00%an <%ae>%x00%as"
_HEAD = "BISECT_HEAD"  # what `git bisect --no-checkout` has in the place of a checkout
_JUDGED = re.compile(r"^# (good|bad|skip): \[([0-9a-f]+)\]", re.M)
_FATES = {"good": Fate.GOOD, "bad": Fate.BAD, "skip": Fate.SKIPPED}
_FOUND = re.compile(r"^# (?:possible )?first bad commit: \[([0-9a-f]+)\]", re.M)


def git(place: Path, *words: str | Path, on_line: Callable[[str], None] | None = None) -> str:
    """Run git in a directory and return what it printed; raise `CommandFailed`."""
    command = ["git", "-C", place, *words]
    return run(command, env=_NOT_INHERITED, on_line=on_line).output.strip()


@dataclass(frozen=True, slots=True)
class Repository:
    """The user's: the tree that was named, and where git keeps the repository."""

    tree: Path
    store: Path

    @classmethod
    def at(cls, tree: Path) -> Repository:
        """Return the repository that a tree is of; raise `UsageError` when it is of none."""
        try:
            words = ("rev-parse", "--path-format=absolute", "--git-common-dir")
            return cls(tree.absolute(), Path(git(tree, *words)))
        except CommandFailed as problem:
            raise UsageError(
                f"no git tree: {problem.what.splitlines()[-1]}",
                where=str(tree),
                next_step="give a clone of the kernel's repository with --tree",
            ) from problem

    def commit(self, name: str) -> Commit:
        """Return the commit of that name; raise `UsageError` when there is none."""
        try:
            if name.startswith("-"):
                raise CommandFailed("an option")
            return described(self.tree, name)
        except CommandFailed as problem:
            raise UsageError(
                f"no commit {name!r}", where=str(self.tree), next_step="git fetch, or git log"
            ) from problem

    def check_order(self, good: Commit, bad: Commit) -> None:
        """Raise `UsageError` for commits between which there is nothing to look for."""
        try:
            base = git(self.tree, "merge-base", good.sha, bad.sha)
        except CommandFailed as problem:
            raise UsageError(
                "--good and --bad have no history in common", where=str(self.tree)
            ) from problem
        if base == bad.sha:
            same = good.sha == bad.sha
            told = "are the same commit" if same else "are the wrong way round: bad is the older"
            raise UsageError(
                f"--good and --bad {told}",
                where=f"{bad.sha[:12]} {bad.subject}",
                next_step="what broke a case is looked for: --good is the older of the two",
            )


def described(place: Path, name: str) -> Commit:
    """Return a commit with what is told of it; raise `CommandFailed` when there is none."""
    words = ("log", "-1", "--no-show-signature", f"--format={_FORMAT}", f"{name}^{{commit}}", "--")
    sha, subject, author, date = git(place, *words).rpartition("\n")[2].split("\0")
    return Commit(sha=sha, subject=subject, author=author, date=date)


@dataclass(frozen=True, slots=True)
class Clone:
    """The clone; one bisection at a time has it."""

    path: Path

    def has(self, commit: Commit) -> bool:
        """Tell whether it is there, and has the commit."""
        if not (self.path / ".git" / "HEAD").exists():
            return False
        try:
            git(self.path, "cat-file", "-e", f"{commit.sha}^{{commit}}")
        except CommandFailed:
            return False
        return True

    def checkout(self, commit: Commit) -> None:
        """Have the files of a commit, and no others; a git that was killed has left a lock."""
        (self.path / ".git" / "index.lock").unlink(missing_ok=True)
        git(self.path, "checkout", "--quiet", "--force", "--detach", commit.sha)
        git(self.path, "clean", "--quiet", "-ffdx")

    def start(self, good: Commit, bad: Commit, on_line: Callable[[str], None]) -> None:
        """Begin to bisect, whatever an earlier bisection left; no file is touched."""
        words = ("bisect", "start", "--no-checkout", bad.sha, good.sha, "--")
        git(self.path, *words, on_line=on_line)

    def run(self, command: Iterable[str], on_line: Callable[[str], None]) -> None:
        """Have git run the command on commit after commit; raise `CommandFailed`."""
        git(self.path, "bisect", "run", *command, on_line=on_line)

    def current(self) -> Commit:
        """Return the commit that git wants to know of."""
        return described(self.path, _HEAD)

    def judged(self) -> tuple[tuple[str, Fate], ...]:
        """Return what git takes each commit for, by its hash."""
        log = git(self.path, "bisect", "log")
        return tuple((sha, _FATES[word]) for word, sha in _JUDGED.findall(log))

    def found(self) -> tuple[Commit, ...]:
        """Return the first bad commit; several when it can be any of them, none before the end."""
        log = git(self.path, "bisect", "log")
        return tuple(described(self.path, sha) for sha in _FOUND.findall(log))


@contextmanager
def cloned(
    of: Repository, commits: Iterable[Commit], cache: Cache, progress: Progress
) -> Iterator[Clone]:
    """Give the clone to one bisection at a time; it is made if it is not there, or lacks a commit.

    kbuild sees one path for all commits, and make compiles what a checkout changed.
    """
    key = cache.key({"repository": str(of.store)})
    with cache.lock(f"bisect-{key}"):
        clone = Clone(cache.workdir(f"bisect-{key}") / "linux")
        if not all(clone.has(commit) for commit in commits):
            aside = clone.path.with_name("new")
            for old in (aside, clone.path):
                shutil.rmtree(old, ignore_errors=True)
            with progress.phase("clone", f"{of.tree} to {clone.path}"):
                settings = (f"--config={each}" for each in _SETTINGS)
                words = ("clone", "--quiet", "--shared", "--no-checkout", *settings)
                git(aside.parent, *words, of.store, aside)
                aside.rename(clone.path)
        yield clone
