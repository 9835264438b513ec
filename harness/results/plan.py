"""What a matrix is to run, stored beside its record: a resume goes on with it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import ConfigError, UsageError
from harness.results.record import write_whole

PLAN_FILE = "plan.json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Wish(_Frozen):
    """A cell as it was asked for, by names; `arguments` are pytest's.

    `patches` and `fragments` are files that change its kernel. `part` is the entry of
    configs/nightly.toml that asks for it. `seconds` is how long it may be expected to take where
    no earlier record knows.
    """

    kernel: str
    variant: str
    board: str
    layout: str
    append: str = ""
    lane: str = "smp"
    patches: tuple[str, ...] = ()
    fragments: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    part: str = ""
    worth: int = 0
    seconds: float | None = None

    def options(self) -> tuple[str, ...]:
        """Return the cell as it is typed, for any command that takes one; without `append`."""
        return (
            *(f"--kernel={self.kernel}", f"--variant={self.variant}"),
            *(f"--board={self.board}", f"--layout={self.layout}", f"--lane={self.lane}"),
            *(f"--patch={file}" for file in self.patches),
            *(f"--config={file}" for file in self.fragments),
        )


class PlanRecord(_Frozen):
    """All cells that were asked for, in that order; seconds for all of it, and for a new kernel.

    `parts` are those of configs/nightly.toml that were chosen; without, it is all of them.
    """

    wishes: tuple[Wish, ...]
    budget: float | None = None
    build_seconds: float = 0.0
    parts: tuple[str, ...] = ()


def read(directory: Path) -> PlanRecord:
    """Return the plan in a matrix's directory; raise `UsageError` or `ConfigError`."""
    file = directory / PLAN_FILE
    try:
        return PlanRecord.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UsageError(
            f"no plan of a matrix: {error.strerror}",
            where=str(file),
            next_step="give the directory of a run that had several cells",
        ) from error
    except ValidationError as error:
        what = f"not a plan of a matrix: {error.errors()[0]['msg']}"
        raise ConfigError(what, where=str(file), next_step="run the matrix anew") from error


def write(directory: Path, plan: PlanRecord) -> None:
    """Write the plan into the matrix's directory."""
    write_whole(directory / PLAN_FILE, plan.model_dump_json(indent=1) + "\n")
