"""The record of a campaign: which mutants the suites killed, and which survived."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import ConfigError, UsageError
from harness.results.record import write_whole
from harness.verdict import EXIT_FAILED, EXIT_HOST, EXIT_PASSED

SCHEMA = 1
FILE = "mutants.json"


class Fate(StrEnum):
    """How a mutant ended."""

    KILLED = "killed"  # a case was red, in every repetition
    SOMETIMES = "sometimes"  # in some of the repetitions
    SURVIVED = "SURVIVED"
    EQUIVALENT = "equivalent"  # nothing was red, as configs/mutants says
    STALE = "STALE"  # said to be equivalent, and yet killed
    BROKEN = "does not build"
    ERROR = "ERROR"  # the harness or the host failed, so nothing is known
    LEFT = "not run"


_RED = (Fate.SOMETIMES, Fate.SURVIVED, Fate.STALE)
_FAULTY = (Fate.BROKEN, Fate.ERROR, Fate.LEFT)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MutantRecord(_Frozen):
    """One mutant: its fate, the cases that were red, and what it took (host seconds).

    `skipped` are cases that the unmodified kernel passes and this one skips: they would have
    gone unnoticed. `digest` tells one definition of the mutant from another.
    """

    id: str
    file: str
    digest: str
    fate: Fate = Fate.LEFT
    killers: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    killed: int = 0  # repetitions in which it was killed
    repetitions: int = 0
    build_seconds: float = 0.0
    suites_seconds: float = 0.0
    directory: str = ""
    message: str = ""


class ControlRecord(_Frozen):
    """The suites on the unmodified kernel. Nothing counts unless it is green."""

    red: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    build_seconds: float = 0.0
    suites_seconds: float = 0.0
    directory: str = ""

    @property
    def green(self) -> bool:
        """Whether the mutants may be judged."""
        return bool(self.passed) and not self.red and not self.errors


class CampaignRecord(_Frozen):
    """One invocation: the control and the mutants, in their order."""

    schema_version: int = SCHEMA
    id: str
    started: datetime
    ended: datetime | None = None
    command: tuple[str, ...] = ()
    kernel: str
    kernel_version: str
    board: str
    layout: str
    control: ControlRecord | None = None
    mutants: tuple[MutantRecord, ...] = ()


def read(directory: Path) -> CampaignRecord:
    """Return the record in a campaign's directory; raise `UsageError` or `ConfigError`."""
    file = directory / FILE
    try:
        return CampaignRecord.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UsageError(
            f"no record of mutants: {error.strerror}",
            where=str(file),
            next_step="give the directory of an earlier run of 'cma-harness mutants'",
        ) from error
    except ValidationError as error:
        what = f"not a record of mutants: {error.errors()[0]['msg']}"
        raise ConfigError(what, where=str(file)) from error


def write(directory: Path, record: CampaignRecord) -> None:
    """Replace the record in the campaign's directory."""
    write_whole(directory / FILE, record.model_dump_json(indent=1) + "\n")


def exit_code(record: CampaignRecord) -> int:
    """Return 0 when all are killed or equivalent, 1 when one is not, else 3 for a faulty one.

    The same for the control: 1 when it is red, 3 when it did not come to an end.
    """
    control = record.control
    if control is None or not control.green:
        return EXIT_FAILED if control and control.red else EXIT_HOST
    fates = {mutant.fate for mutant in record.mutants}
    if fates.intersection(_RED):
        return EXIT_FAILED
    return EXIT_HOST if fates.intersection(_FAULTY) else EXIT_PASSED
