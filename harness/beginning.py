"""What a guest is found to have when it is up: it is verified by it, and audits begin with it.

A stored guest has it beside it: it is looked at once, before it is stored, so that none of its
copies spends time on what all of them have.
"""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

from harness.cma import areas, counters
from harness.cma.areas import Survey
from harness.cma.counters import Snapshot
from harness.guest.guest import Guest

_ABOUT_AREAS = re.compile(r"^\[.*(?:[Rr]eserved mem|\bcma\b|CMA).*\b", re.M)


class Beginning(BaseModel):
    """Of CMA: its areas, all its counters, and the kernel's messages about it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    survey: Survey
    snapshot: Snapshot
    messages: tuple[str, ...]


def look(guest: Guest) -> Beginning:
    """Look at a guest that is up and has done nothing yet. Raises `GuestError`."""
    console = guest.console
    survey = areas.survey(console)
    snapshot = counters.take(console, pages=True)
    said = console.text().decode("utf-8", "replace")
    return Beginning(
        survey=survey,
        snapshot=snapshot,
        messages=tuple(_ABOUT_AREAS.findall(said)),
    )
