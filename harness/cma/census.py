"""What the pages of the areas are used for, by the guest program cma-census."""

from __future__ import annotations

from collections.abc import Mapping

from harness.cma.answers import Answer, ask
from harness.cma.shell import Shell

PROGRAM = "cma-census"


class Census(Answer):
    """The pages of an area by use; `other` has those on the CPUs' lists of free pages too."""

    area: str
    buffer: int
    free: int
    movable: int
    slab: int
    page_table: int
    reserved: int
    other: int

    @property
    def unmovable(self) -> int:
        """Pages whose use forbids to move them."""
        return self.slab + self.page_table + self.reserved


def census(shell: Shell) -> Mapping[str, Census]:
    """Count the pages of all areas, by the areas' names."""
    return {found.area: found for found in ask(shell, [PROGRAM], Census)}
