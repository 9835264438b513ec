"""The record of studies: study.json, with what was claimed, what was seen, and how it is drawn.

A study is run on kernels; each of those is a `StudyRecord` of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from harness.errors import ConfigError, UsageError
from harness.results.record import write_whole
from harness.verdict import EXIT_FAILED, EXIT_HOST, EXIT_PASSED

SCHEMA = 1
FILE = "study.json"


class Outcome(StrEnum):
    """How a study ended on a kernel."""

    HOLDS = "holds"  # every check held: the kernel does what the claim says
    FAILS = "DOES NOT HOLD"
    SKIP = "SKIP"  # this kernel has not what the study is about; the reason says since when
    ERROR = "ERROR"  # nothing is known: the guest, the host or the harness failed
    LEFT = "not run"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Claim(_Frozen):
    """What was written, by whom and where, and the figure that was given for it."""

    text: str
    source: str
    figure: str


class Check(_Frozen):
    """A count or an invariant that fails where the mechanism is absent, and what was seen of it."""

    what: str
    seen: str
    held: bool


class Row(_Frozen):
    """A figure then and now; "" where there was none."""

    what: str
    then: str
    now: str


class Curve(_Frozen):
    """Values over values; of bars, `x` is their place in `Chart.names`."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]


class Chart(_Frozen):
    """A plot. Bars stand side by side over `names`; lines and points have numbers below them."""

    kind: Literal["lines", "points", "bars"]
    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]
    names: tuple[str, ...] = ()
    log: bool = False

    @classmethod
    def bars(
        cls, title: str, x: str, y: str, names: Iterable[str], curves: Mapping[str, Iterable[float]]
    ) -> Self:
        """Return bars: by their label, the values over each of `names`."""
        over = tuple(names)
        places = tuple(map(float, range(len(over))))
        return cls(
            kind="bars",
            title=title,
            x=x,
            y=y,
            names=over,
            curves=tuple(
                Curve(label=label, x=places, y=tuple(map(float, values)))
                for label, values in curves.items()
            ),
        )


class Strip(_Frozen):
    """Pages next to each other: runs of (first, how many, what they are), in any order."""

    label: str
    pages: int
    runs: tuple[tuple[int, int, str], ...]


class Map(_Frozen):
    """Pages of a stretch of memory at several moments, to be compared by eye."""

    kind: Literal["map"] = "map"
    title: str
    strips: tuple[Strip, ...]


class Step(_Frozen):
    """Something that happened: in which lane, when (any unit, in order), and what."""

    lane: str
    at: float
    what: str


class Sequence(_Frozen):
    """What happened in what order, and who did it."""

    kind: Literal["sequence"] = "sequence"
    title: str
    at: str  # the unit of `Step.at`; "" when only the order counts
    steps: tuple[Step, ...]


Drawing = Annotated[Chart | Map | Sequence, Field(discriminator="kind")]


class StudyRecord(_Frozen):
    """A study on a kernel. `raw` is all that was measured; `without` what was taken out of it."""

    name: str
    title: str
    claim: Claim
    setup: str
    today: str  # what became of it, for a reader of the claim
    kernel: str
    kernel_version: str = ""
    without: str = ""
    outcome: Outcome = Outcome.LEFT
    reason: str = ""
    checks: tuple[Check, ...] = ()
    rows: tuple[Row, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    raw: Mapping[str, JsonValue] = {}
    seconds: float = 0.0
    directory: str = ""  # of its guests' consoles, below the run's

    @property
    def good(self) -> bool:
        """Whether it is as it should be: without its mechanism a study must not hold."""
        wanted = Outcome.FAILS if self.without else Outcome.HOLDS
        return self.outcome in (wanted, Outcome.SKIP)


class StudiesRecord(_Frozen):
    """One invocation: its studies, in the order in which they were asked for."""

    schema_version: int = SCHEMA
    id: str
    started: datetime
    ended: datetime | None = None
    command: tuple[str, ...] = ()
    studies: tuple[StudyRecord, ...] = ()


def read(directory: Path) -> StudiesRecord:
    """Return the record in a run's directory; raise `UsageError` or `ConfigError`."""
    file = directory / FILE
    try:
        return StudiesRecord.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UsageError(
            f"no record of studies: {error.strerror}",
            where=str(file),
            next_step="give the directory of an earlier run of 'cma-harness study'",
        ) from error
    except ValidationError as error:
        what = f"not a record of studies: {error.errors()[0]['msg']}"
        raise ConfigError(what, where=str(file)) from error


def write(directory: Path, record: StudiesRecord) -> None:
    """Replace the record in the run's directory."""
    write_whole(directory / FILE, record.model_dump_json(indent=1) + "\n")


def exit_code(record: StudiesRecord) -> int:
    """Return 0 when all are as they should be, 1 when one is not, 3 when one could not be run."""
    if any(study.outcome in (Outcome.ERROR, Outcome.LEFT) for study in record.studies):
        return EXIT_HOST
    return EXIT_PASSED if all(study.good for study in record.studies) else EXIT_FAILED
