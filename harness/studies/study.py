"""What a study is: a claim of the literature, and how it is looked at on a live guest. Values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import JsonValue

from harness.config import PLAIN
from harness.results.study import Check, Claim, Drawing, Row

if TYPE_CHECKING:
    from harness.studies.lab import Lab


@dataclass(frozen=True, slots=True)
class Finding:
    """What a study measured: the checks decide, the rest explains.

    `reason` is a sentence or two on why the figures are what they are. `raw` is kept as it is.
    """

    checks: tuple[Check, ...]
    rows: tuple[Row, ...]
    reason: str
    drawings: tuple[Drawing, ...] = ()
    raw: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Study:
    """A claim, and the function that looks at it.

    `without` is a patch or a series of configs/patches/studies/ that takes the mechanism out of a
    kernel; there, a check must fail. `today` tells a reader of the claim what became of it.
    """

    name: str
    title: str
    claim: Claim
    setup: str
    today: str
    measure: Callable[[Lab], Finding]
    without: str
    layout: str = "default"
    variant: str = PLAIN
    skip: Mapping[str, str] = field(default_factory=dict)
    """Versions that have not what it is about ("before 5.13"), and why, with a commit."""


class NotHere(Exception):
    """Raised in a study: this kernel cannot show it; the text says why, with a commit."""
