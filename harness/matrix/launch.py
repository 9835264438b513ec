"""What runs for a matrix: a process for the build of a kernel, and one for each cell.

A cell is `cma-harness test` with a folder of its own in the matrix's, as a user would start it, so
that what breaks in one cannot break another.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from harness.invocation import COMMAND, OUTPUT
from harness.matrix.plan import Planned
from harness.process import Job, first_ended


class Running(Protocol):
    """A process that was started; see `harness.process.Job`."""

    def status(self) -> int:
        """Wait for its end and return how it ended."""

    def interrupt(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it."""


class Launcher(Protocol):
    """Starts the processes of a matrix, and waits for them."""

    def build(self, planned: Planned) -> Running:
        """Begin to build a cell's kernel."""

    def test(self, planned: Planned) -> Running:
        """Begin a cell."""

    def ended(self, jobs: Iterable[Running], timeout: float | None) -> tuple[Running, ...]:
        """Wait until a job has ended and return those that have; none after `timeout` seconds."""


class Processes:
    """The real one; each process writes into the cell's folder below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def build(self, planned: Planned) -> Job:
        """See `Launcher`."""
        return Job(build_command(planned), build_output(self._directory, planned))

    def test(self, planned: Planned) -> Job:
        """See `Launcher`."""
        place = self._directory / planned.name
        place.mkdir(parents=True, exist_ok=True)
        return Job(test_command(planned, place.absolute()), place / OUTPUT)

    def ended(self, jobs: Iterable[Running], timeout: float | None) -> tuple[Running, ...]:
        """See `Launcher`."""
        return first_ended([job for job in jobs if isinstance(job, Job)], timeout)


def build_output(directory: Path, planned: Planned) -> Path:
    """Return the file that has what the build of a cell's kernel prints."""
    return directory / f"build-{planned.cell.kernel.label}.txt"


def build_command(planned: Planned) -> list[str]:
    """Return the command that builds a cell's kernel."""
    return [*COMMAND, "build", *planned.wish.options(), "--kernel-only"]


def test_command(planned: Planned, place: Path) -> list[str]:
    """Return the command that runs a cell, with its record in `place`.

    Cells beside each other do not share pytest's cache, so that `--lf` means each cell's own.
    """
    return [
        *(*COMMAND, "test", *planned.wish.options()),
        *(f"--append={planned.wish.append}", f"--run-dir={place}"),
        *("-o", f"cache_dir=.pytest_cache/{planned.name}"),
        *planned.wish.arguments,
    ]
