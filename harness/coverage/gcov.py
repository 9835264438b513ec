"""Reading counters with gcov, and adding up those of several guests."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.coverage.counters import COUNTS
from harness.errors import CommandFailed, HostError
from harness.process import run

_FORMAT = "1"  # of gcov's JSON: gcc 9 to 14


@dataclass(frozen=True, slots=True)
class Count:
    """How often a line was executed, and how often each way out of its branches was taken."""

    executed: int
    branches: tuple[int, ...] = ()

    def __add__(self, other: Count) -> Count:
        """Add up the same line of two guests; the branches are the same, in the same order."""
        pairs = zip(self.branches, other.branches, strict=True)
        return Count(self.executed + other.executed, tuple(a + b for a, b in pairs))


@dataclass(frozen=True, slots=True)
class Source:
    """A source file, with the counts of those of its lines that were compiled into anything."""

    path: Path
    lines: Mapping[int, Count]


def read(gcov: str, notes: Path, counters: Path) -> Source:
    """Return what an object's counters say of its own source file, not of headers.

    The notes name the source by its absolute path. Raises `HostError` when the counters are those
    of another build, which gcov tells by a stamp.
    """
    with tempfile.TemporaryDirectory(prefix="cma-gcov-") as private:
        work = Path(private)
        for file in (notes, counters):
            shutil.copyfile(file, work / file.name)
        said = work / "said.json"
        data = work / notes.with_suffix(COUNTS).name
        try:
            run(
                [gcov, "--json-format", "--branch-probabilities", "--stdout", data],
                cwd=work,
                stdout=said,
            )
        except CommandFailed as error:
            if "stamp mismatch" not in error.what:
                raise
            raise HostError(
                "the counters belong to another build of the kernel",
                where=str(counters),
                next_step="run the tests again",
            ) from error
        return parse(said.read_text(), notes)


def parse(text: str, notes: Path) -> Source:
    """Return the counts of the source file of an object out of gcov's JSON."""
    facts = json.loads(text)
    if facts["format_version"] != _FORMAT:
        raise HostError(
            f"gcov's format {facts['format_version']} is not known, only {_FORMAT}",
            where=str(notes),
            next_step="use a gcc from 9 to 14",
        )
    name = notes.with_suffix(".c").name
    found = [file for file in facts["files"] if Path(file["file"]).name == name]
    if len(found) != 1:
        raise HostError(f"gcov knows {len(found)} files {name}, not one", where=str(notes))
    return Source(Path(found[0]["file"]), _lines(found[0]["lines"]))


def _lines(entries: Iterable[Mapping[str, Any]]) -> dict[int, Count]:
    """Return the count of each line; one that was inlined twice has two entries."""
    lines: dict[int, Count] = {}
    for entry in entries:
        before = lines.get(entry["line_number"], Count(0))
        lines[entry["line_number"]] = Count(
            before.executed + entry["count"],
            (*before.branches, *(branch["count"] for branch in entry["branches"])),
        )
    return lines


def add(sources: Iterable[Source]) -> Source:
    """Return the sum of one object's counters over several guests of one kernel."""
    first, *others = sources
    lines = dict(first.lines)
    for other in others:
        lines = {number: count + other.lines[number] for number, count in lines.items()}
    return Source(first.path, lines)
