"""Whose a page frame is, by page_owner; the kernel must be booted with page_owner=on."""

from __future__ import annotations

from collections.abc import Sequence

from harness.cma.answers import Answer, ask
from harness.cma.shell import Shell

PROGRAM = "page-owner"


class Owner(Answer):
    """Who allocated a frame: `comm` is "" when the process has ended.

    `migratetype` is "" when nobody did, and `pid` 0 where the kernel does not keep it: before 5.11
    (9cc7e96aa846, "mm/page_owner: record timestamp and pid").
    """

    pfn: int
    pid: int
    comm: str
    migratetype: str


def of(shell: Shell, frames: Sequence[int], timeout: float = 60) -> tuple[Owner, ...]:
    """Return the owner of each frame; raise `ProgramError` when the kernel does not keep them."""
    if not frames:
        return ()
    return ask(shell, [PROGRAM, *map(str, frames)], Owner, timeout)
