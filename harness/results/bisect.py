"""The record of a bisection: what was asked, what each commit came to, and which one it was."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import ConfigError, UsageError
from harness.results.plan import Wish
from harness.results.record import write_whole

SCHEMA = 1
FILE = "bisect.json"


class Fate(StrEnum):
    """What a commit is."""

    GOOD = "good"
    BAD = "bad"
    SKIPPED = "skipped"  # nothing can be said of it: it does not build, the case did not run


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Question(_Frozen):
    """What makes a commit bad: a case that is red, or its figure `metric` beyond `limit`.

    `repeat` is how often the case is run on each commit.
    """

    case: str
    metric: str = ""
    sign: Literal["<", ">"] = ">"
    limit: float = 0.0
    repeat: int = 1


class Commit(_Frozen):
    """A commit of the tree; `date` is its author's."""

    sha: str
    subject: str
    author: str
    date: str


class Tried(_Frozen):
    """What a commit came to, and why; `values` are its figures, `directory` has the runs."""

    commit: Commit
    fate: Fate
    message: str
    values: tuple[float, ...] = ()
    seconds: float = 0.0
    directory: str = ""


class Asked(_Frozen):
    """What is looked for: `tree` is the user's, `cell` is of a clone of it; `cwd` has its paths."""

    tree: str
    good: Commit
    bad: Commit
    question: Question
    cell: Wish
    cwd: str


class BisectRecord(_Frozen):
    """One bisection. `found` is the first bad commit, or all it could be; `error` ended it."""

    schema_version: int = SCHEMA
    id: str
    started: datetime
    ended: datetime | None = None
    command: tuple[str, ...] = ()
    asked: Asked
    tried: tuple[Tried, ...] = ()
    found: tuple[Commit, ...] = ()
    error: str = ""

    def known(self, sha: str) -> Tried | None:
        """Return what a commit came to, if it was tried."""
        return next((each for each in self.tried if each.commit.sha == sha), None)


def read(directory: Path) -> BisectRecord:
    """Return the record in a bisection's directory; raise `UsageError` or `ConfigError`."""
    file = directory / FILE
    try:
        return BisectRecord.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UsageError(
            f"no record of a bisection: {error.strerror}",
            where=str(file),
            next_step="give the directory of an earlier run of 'cma-harness bisect'",
        ) from error
    except ValidationError as error:
        what = f"not a record of a bisection: {error.errors()[0]['msg']}"
        raise ConfigError(what, where=str(file)) from error


def write(directory: Path, record: BisectRecord) -> None:
    """Replace the record in the bisection's directory."""
    write_whole(directory / FILE, record.model_dump_json(indent=1) + "\n")
