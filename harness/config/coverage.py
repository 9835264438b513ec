"""configs/coverage.toml: which files' coverage is told, and what nothing can reach in them."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from harness.config.reading import CONFIGS, read_toml, validate
from harness.config.values import Frozen


class CoveredFile(Frozen):
    """A source file whose coverage is told: all of it, or some of its functions.

    `goal` is in per cent of the lines; less than this fails.
    """

    path: str
    goal: float | None = Field(default=None, ge=0, le=100)
    functions: tuple[str, ...] = ()


class Reason(Frozen):
    """Why lines are not executed: of a function, those with these texts, or all of it.

    A text may be of several lines, which follow each other; indentation does not count.
    """

    file: str
    function: str
    lines: tuple[str, ...] = ()
    reason: str = Field(min_length=1)


class Coverage(Frozen):
    """configs/coverage.toml: what is looked at, and what nothing can reach."""

    file: tuple[CoveredFile, ...]
    reason: tuple[Reason, ...] = ()

    @model_validator(mode="after")
    def _reasons_of_files(self) -> Self:
        strangers = {reason.file for reason in self.reason} - {file.path for file in self.file}
        if strangers:
            raise ValueError(f"reasons for files that are not listed: {', '.join(strangers)}")
        return self


def load_coverage() -> Coverage:
    """Return configs/coverage.toml."""
    path = CONFIGS / "coverage.toml"
    return validate(Coverage, read_toml(path), path)
