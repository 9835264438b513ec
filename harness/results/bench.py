"""The record of a bench: each figure with its raw values, beside what it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from pydantic import BaseModel, ConfigDict

from harness.results.record import write_whole

FILE = "bench.json"
SCHEMA = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Row(_Frozen):
    """One comparison: medians are compared; `most` is what the ratio may be."""

    name: str
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    most: float

    @classmethod
    def of(
        cls, name: str, ours: Sequence[float], theirs: Sequence[float], unit: str, *, most: float
    ) -> Row:
        """Make one of measured values."""
        return cls(name=name, unit=unit, ours=tuple(ours), theirs=tuple(theirs), most=most)

    @property
    def ratio(self) -> float:
        """Ours over theirs, of the medians."""
        return median(self.ours) / median(self.theirs)

    @property
    def good(self) -> bool:
        """Whether the goal is met."""
        return self.ratio <= self.most


class BenchRecord(_Frozen):
    """One invocation."""

    schema_version: int = SCHEMA
    kernel_version: str
    kernel_key: str
    qemu_version: str
    processors: int
    rows: tuple[Row, ...] = ()


def write(record: BenchRecord, directory: Path) -> None:
    """Write it whole into a run's directory."""
    write_whole(directory / FILE, record.model_dump_json(indent=1) + "\n")
