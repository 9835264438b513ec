"""A bisection: both ends are tried first, then git asks for commits, and each answer is recorded.

git runs `cma-harness bisect-step` on each commit, which leaves its answer in the record and ends as
git wants it. A commit that the record knows is not tried again, so that a bisection which was
stopped goes on where it was.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.bisect.question import Answer
from harness.bisect.repository import Clone
from harness.errors import (
    CommandFailed,
    HarnessError,
    HostError,
    UsageError,
)
from harness.invocation import COMMAND
from harness.progress import Progress
from harness.results import bisect as results
from harness.results.bisect import Asked, BisectRecord, Commit, Fate, Tried
from harness.results.record import new_directory, now
from harness.text import printable

STEP = "bisect-step"
# What `git bisect run` understands; from 128 on it gives up.
_EXITS = {Fate.GOOD: 0, Fate.BAD: 1, Fate.SKIPPED: 125}
_ABORT = 128
_LEFT = re.compile(r"Bisecting: (\d+) revisions? left to test after this \(roughly (\d+) steps?\)")
_TOLD = tuple(f"{name:<8} " for name in ("commit", *Fate))  # lines of a step begin so
_DIGITS = 12  # of a commit's hash, as the kernel's own texts have it
Judge = Callable[[Asked, Path], Answer]
"""Says what the commit is that is checked out; the path is for what it leaves."""


@dataclass(frozen=True, slots=True)
class Hunt:
    """One bisection; its record is in `directory`, on disk after every commit."""

    directory: Path
    clone: Clone
    judge: Judge
    progress: Progress

    @property
    def record(self) -> BisectRecord:
        """The record as it is now: steps, which are other processes, add to it."""
        return results.read(self.directory)

    def run(self) -> BisectRecord:
        """Find the first bad commit; what could not be told apart is all in the record's `found`.

        Raises `UsageError` when the good commit is not good or the bad one not bad, `HostError`
        when a step could not tell.
        """
        asked = self.record.asked
        self._verify("--good", asked.good, Fate.GOOD)
        self._verify("--bad", asked.bad, Fate.BAD)
        self.clone.start(asked.good, asked.bad, self._told)
        if not self.clone.found():  # those next to each other leave nothing to run
            self._search(asked)
        self.check()
        self._keep(found=self.clone.found(), ended=now())
        return self.record

    def tried(self, commit: Commit) -> Tried:
        """Return what a commit comes to, and keep it in the record."""
        short = commit.sha[:_DIGITS]
        self.progress.say(f"commit   {short} {printable(commit.subject)}")
        found = self.record.known(commit.sha)
        if found is None:
            found = self._try(commit)
            self._keep(tried=(*self.record.tried, found))
        reason = printable(_first(found.message))
        self.progress.say(f"{found.fate:<8} {short} {reason}  {found.seconds:.1f} s")
        return found

    def check(self) -> None:
        """Raise `HostError` for a commit that git takes for what no step has said of it.

        A step that breaks down before it can say anything ends with 1, as a bad commit does.
        """
        record = self.record
        for sha, fate in self.clone.judged():
            known = record.known(sha)
            if known is None or known.fate is not fate:
                raise HostError(
                    f"git takes {sha[:_DIGITS]} for {fate}, and no step said so",
                    where=str(self.directory),
                    next_step=f"cma-harness {STEP} {self.directory} shows why",
                )

    def _verify(self, option: str, commit: Commit, fate: Fate) -> None:
        found = self.tried(commit)
        if found.fate is fate:
            return
        said = "cannot be judged" if found.fate is Fate.SKIPPED else f"is {found.fate} here"
        raise UsageError(
            f"{option} {said}, so nothing is bisected: {_first(found.message)}",
            where=f"{commit.sha[:_DIGITS]} {commit.subject}",
            next_step=f"see {found.directory}; give another commit, board, layout or limit",
        )

    def _search(self, asked: Asked) -> None:
        place = str(self.directory.absolute())
        try:
            self.clone.run(("env", f"--chdir={asked.cwd}", *COMMAND, STEP, place), self._told)
        except CommandFailed as problem:
            if error := self.record.error:
                raise HostError(
                    f"stopped, for no commit is to blame: {error}",
                    where=str(self.directory),
                    next_step=f"mend it and go on with --resume {self.directory}",
                ) from problem
            if "The merge base" in problem.what:
                raise UsageError(
                    "what --good and --bad have in common is bad: it was mended on the way to "
                    "--good, not broken on the way to --bad",
                    next_step="give a --good that --bad descends from",
                ) from problem
            if not self.clone.found():  # else only commits that were skipped are left
                raise

    def _told(self, line: str) -> None:
        if match := _LEFT.match(line):
            left, steps = match.groups()
            self.progress.say(f"bisect   left after the next: {left}; steps: about {steps}")
        elif line.startswith(_TOLD):
            self.progress.say(line)

    def _try(self, commit: Commit) -> Tried:
        began = time.monotonic()
        place = self.directory / commit.sha[:_DIGITS]
        self.clone.checkout(commit)
        said = self.judge(self.record.asked, place)
        return Tried(
            commit=commit,
            fate=said.fate,
            message=said.message,
            values=said.values,
            seconds=time.monotonic() - began,
            directory=str(place),
        )

    def _keep(self, **fields: object) -> None:
        results.write(self.directory, self.record.model_copy(update=fields))


def _first(message: str) -> str:
    """Return the first line."""
    return message.partition("\n")[0]


def begin(asked: Asked, runs: Path, resume: Path | None) -> Path:
    """Write a new record, or that of the bisection to go on with; return its directory.

    Raises `UsageError` when that one has asked for something else.
    """
    if resume is None:
        directory = new_directory(runs)
        record = BisectRecord(
            id=directory.name, started=now(), command=tuple(sys.argv), asked=asked
        )
    else:
        directory, record = resume, results.read(resume)
        if record.asked != asked:
            raise UsageError(
                "another bisection: its commits, case, cell or directory were not these",
                where=str(resume),
                next_step="repeat its command line (bisect.json has it), or leave --resume out",
            )
        ends = (asked.good, asked.bad)  # which may not boot on a host that has too much to do
        tried = (
            each
            for each in record.tried
            if each.fate is not Fate.SKIPPED or each.commit not in ends
        )
        fresh = {"error": "", "ended": None, "found": (), "tried": tuple(tried)}
        record = record.model_copy(update=fresh)
    results.write(directory, record)
    return directory


def step(directory: Path, judge: Judge, progress: Progress) -> int:
    """Try the commit that git wants to know of; return the exit status that git understands.

    Whatever keeps us from judging is kept in the record, and ends the bisection.
    """
    record = results.read(directory)
    clone = Clone(Path(record.asked.cell.kernel))
    hunt = Hunt(directory, clone, judge, progress)
    try:
        hunt.check()
        return _EXITS[hunt.tried(clone.current()).fate]
    except HarnessError as problem:
        results.write(directory, hunt.record.model_copy(update={"error": str(problem)}))
        progress.say(f"cma-harness: {problem}")
        return _ABORT
