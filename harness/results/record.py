"""The record of a run: run.json, its schema, and the writer that loses nothing.

The record is written when the cases are planned, every one LOST, and replaced atomically after
each case; a run that is killed leaves a record that reads, with its unfinished cases LOST.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import ConfigError, UsageError
from harness.process import host_problem
from harness.verdict import Verdict

SCHEMA = 2  # 1 had no arguments, inputs and seconds of a cell; it still reads
RUN_FILE = "run.json"
CELL_CASE = "cell"  # the case that says what became of a cell itself, where no case of it can


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Metric(_Frozen):
    """A measured value with its unit ("" for a plain number)."""

    value: float
    unit: str = ""


class Span(_Frozen):
    """Bytes of a console log that belong to a case: file, and offsets [start, end)."""

    log: str
    start: int
    end: int


class CaseRecord(_Frozen):
    """One case: what it is called, how it ended and why, and how long it took in host seconds."""

    id: str
    suite: str
    name: str
    verdict: Verdict = Verdict.LOST
    message: str = ""
    duration: float = 0.0
    metrics: Mapping[str, Metric] = {}
    console: Span | None = None


class AreaRecord(_Frozen):
    """An area as the running kernel has it: base address and size in bytes."""

    name: str
    base: int
    size: int
    used: int


class CellRecord(_Frozen):
    """One cell: what was run where, and its cases in the order in which they were planned.

    Of a saved log of which nothing else is known, name and cases alone are given. In a matrix
    `inputs` tells one state of all that the cell is made of from another, and `seconds` is what the
    cell took on the host; it is None while the cell has not come to its end.
    """

    name: str
    kernel: str = ""
    kernel_version: str = ""
    kernel_key: str = ""
    board: str = ""
    layout: str = ""
    lane: str = ""
    device_tree: str = ""  # SHA-256 of the blob
    qemu_version: str = ""
    qemu_argv: tuple[str, ...] = ()
    seed: int = 0  # of random operations, --seed; QEMU's own is in its command line
    areas: tuple[AreaRecord, ...] = ()
    boots: tuple[float, ...] = ()  # host seconds from QEMU's start to the ready line, or:
    restored: bool = False  # until it ran on, each being a copy of a stored guest
    arguments: tuple[str, ...] = ()  # of pytest: paths and options
    inputs: str = ""
    seconds: float | None = None
    cases: tuple[CaseRecord, ...] = ()


class RunRecord(_Frozen):
    """One invocation: `ended` is None while it runs, or when it was killed."""

    schema_version: int = SCHEMA
    id: str
    started: datetime
    ended: datetime | None = None
    command: tuple[str, ...] = ()
    phases: Mapping[str, float] = {}  # host seconds
    cells: tuple[CellRecord, ...] = ()

    def cases(self) -> Iterable[CaseRecord]:
        """All cases of all cells."""
        return (case for cell in self.cells for case in cell.cases)


def now() -> datetime:
    """Return the time, as records have it."""
    return datetime.now(UTC)


def read(path: Path) -> RunRecord:
    """Return the record in a run's directory, or in a run.json itself.

    Raises `UsageError` when there is none, `ConfigError` when it is not one.
    """
    file = path / RUN_FILE if path.is_dir() else path
    try:
        return RunRecord.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UsageError(
            f"no record of a run: {error.strerror}",
            where=str(file),
            next_step="give the directory of a run, such as runs/latest",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"not a run record of schema {SCHEMA}: {first['msg']} {list(first['loc']) or ''}",
            where=str(file),
            next_step="it was cut short or is another version's; look at the file, or run again",
        ) from error


def new_directory(runs: Path) -> Path:
    """Make the directory of a new run below `runs`: <UTC>-<id>."""
    place = runs / f"{now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    try:
        place.mkdir(parents=True)
    except OSError as problem:
        raise host_problem(problem, place) from problem
    return place


class Recorder:
    """Owns a run's directory and keeps run.json in step with what is known."""

    def __init__(self, directory: Path, record: RunRecord) -> None:
        self.directory = directory
        self.record = record

    @classmethod
    def start(cls, runs: Path, command: tuple[str, ...], directory: Path | None = None) -> Recorder:
        """Make runs/<UTC>-<id>/ (or use `directory`) and point runs/latest at it."""
        place = directory or new_directory(runs)
        try:
            place.mkdir(parents=True, exist_ok=True)
            if directory is None:
                point(runs / "latest", place.name)
        except OSError as problem:
            raise host_problem(problem, place) from problem
        recorder = cls(place, RunRecord(id=place.name, started=now(), command=command))
        recorder.update()
        return recorder

    @classmethod
    def resume(cls, directory: Path) -> Recorder:
        """Go on with the record that an earlier invocation left in `directory`."""
        recorder = cls(directory, read(directory))
        recorder.update(ended=None)
        return recorder

    def update(self, **fields: Any) -> None:
        """Change fields of the record and write it."""
        self.record = self.record.model_copy(update=fields)
        self._write()

    def update_cell(self, name: str, **fields: Any) -> None:
        """Change fields of one cell and write the record."""
        cells = [
            cell.model_copy(update=fields) if cell.name == name else cell
            for cell in self.record.cells
        ]
        self.update(cells=tuple(cells))

    def put_cell(self, found: CellRecord) -> None:
        """Put a cell in the place of the one with its name, and write the record."""
        cells = (found if cell.name == found.name else cell for cell in self.record.cells)
        self.update(cells=tuple(cells))

    def finish_case(self, cell: str, case: CaseRecord, **fields: Any) -> None:
        """Put a finished case in the place of the planned one with its id; change cell fields."""
        known = next(found for found in self.record.cells if found.name == cell)
        cases = tuple(case if planned.id == case.id else planned for planned in known.cases)
        self.update_cell(cell, cases=cases, **fields)

    def end(self, phases: Mapping[str, float]) -> None:
        """Mark the run as ended."""
        self.update(ended=now(), phases=dict(phases))

    def _write(self) -> None:
        text = self.record.model_dump_json(indent=1)
        try:
            write_whole(self.directory / RUN_FILE, text + "\n")
        except OSError as problem:
            raise host_problem(problem, self.directory) from problem


def write_whole(path: Path, text: str) -> None:
    """Replace a file by one with this text; a reader sees the old one or the new one."""
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(aside).chmod(0o644)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def point(link: Path, target: str) -> None:
    """Make `link` lead to `target`, in one step."""
    aside = link.with_name(f".{link.name}-{secrets.token_hex(4)}")
    aside.symlink_to(target)
    aside.replace(link)
