"""A commit on a guest: its kernel is built where it is checked out, and the case is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness import cell
from harness.bisect import question
from harness.bisect.question import Answer
from harness.cache import Cache
from harness.errors import BuildFailed, ConfigError
from harness.invocation import invoke
from harness.progress import Progress
from harness.results.bisect import Asked, Fate


@dataclass(frozen=True, slots=True)
class Trial:
    """What the commit that is checked out says; see `harness.bisect.hunt.Judge`."""

    cache: Cache

    def __call__(self, asked: Asked, place: Path) -> Answer:
        """Build the kernel and run the case; raise what says nothing of the commit."""
        wish = asked.cell
        try:
            built = cell.prepare(
                cell.wanted(wish),
                self.cache,
                Progress(quiet=True),
                append=wish.append,
                force="--force" in wish.arguments,
            )
        except BuildFailed as problem:
            return Answer(Fate.SKIPPED, _refused(problem))
        except ConfigError as problem:  # this commit has no such option, or no room for the layout
            return Answer(Fate.SKIPPED, str(problem))
        try:
            return _runs(asked, place)
        finally:
            self.cache.drop("kernel", built.kernel.key)  # 150 MB, and no other checkout has it


def _runs(asked: Asked, place: Path) -> Answer:
    """Run the case as often as is asked, or until there is no use in more."""
    wish = asked.cell
    words = (*wish.options(), f"--append={wish.append}", "--isolate", *wish.arguments)
    answers = []
    for number in range(1, asked.question.repeat + 1):
        run = invoke(words, place / f"run-{number}", cwd=Path(asked.cwd))
        answers.append(question.answer(asked.question, run))
        if answers[-1].fate is not Fate.GOOD:
            break
    return question.together(asked.question, answers)


def _refused(problem: BuildFailed) -> str:
    """Return what the compiler refused: the first line is an error, where there is one."""
    lines = problem.what.splitlines()
    first = next((line for line in lines if "error: " in line), lines[0])
    return f"does not build: {first}\n{problem.what}"
