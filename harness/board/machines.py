"""Which machines the host's QEMU emulates; newer ones drop boards, older ones lack some."""

from __future__ import annotations

import re

from harness.config import Board
from harness.errors import HostError
from harness.process import run

_QEMU = "qemu-system-arm"


def offered() -> frozenset[str]:
    """Return the names that `-machine` takes. Raises `MissingTool` without QEMU."""
    return parse(run([_QEMU, "-machine", "help"]).output)


def parse(text: str) -> frozenset[str]:
    """Return the machines, and their aliases, of what `-machine help` prints."""
    _, _, table = text.partition("\n")  # the first line is a heading
    return frozenset(re.findall(r"^(\S+)", table, re.M))


def require(board: Board) -> None:
    """Raise `HostError` when this QEMU has no machine for the board."""
    if board.machine not in offered():
        raise HostError(
            f"this QEMU has no machine {board.machine!r}, which the board {board.name!r} is",
            where=_QEMU,
            next_step="'cma-harness doctor' lists the boards it has; choose one, or another QEMU",
        )
