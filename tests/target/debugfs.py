"""An area's alloc and free in debugfs, and the area's state behind each write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from state import AreaState, parse_areas, reading

from harness.guest.guest import Guest

END = "---"


@dataclass(frozen=True, slots=True)
class Step:
    """What writing to a file led to: the words of its errno, and the areas behind it."""

    error: str
    area: AreaState


@dataclass(frozen=True, slots=True)
class Debugfs:
    """One area's directory; `before` is how the case found the area."""

    guest: Guest
    before: AreaState

    @property
    def name(self) -> str:
        return self.before.name

    def path(self, file: str) -> str:
        return f"'{self.before.folder}/{file}'"

    def run(self, command: str) -> str:
        return self.guest.console.run(command, timeout=60).output

    def write(self, *writes: tuple[str, object]) -> list[Step]:
        """Write to files, one after the other, in one command."""
        script = [
            f"echo {text} 2>&1 >{self.path(file)}; echo {END}; {reading(self.before)}; echo {END}"
            for file, text in writes
        ]
        *parts, rest = self.run("\n".join(script)).split(f"{END}\n")
        assert (len(parts), rest) == (2 * len(writes), "")
        return [
            Step(error.strip().rpartition(": ")[2], parse_areas(text)[self.name])
            for error, text in zip(parts[::2], parts[1::2], strict=True)
        ]

    def states(self, *writes: tuple[str, int]) -> list[AreaState]:
        """Write numbers that must be taken; return the area after each."""
        steps = self.write(*writes)
        assert [step.error for step in steps] == [""] * len(writes)
        return [step.area for step in steps]

    def now(self) -> AreaState:
        return parse_areas(self.run(reading(self.before)))[self.name]


@contextmanager
def opened(guest: Guest, found: AreaState) -> Iterator[Debugfs]:
    """Give an area's directory, and free in the end what was allocated through it."""
    directory = Debugfs(guest, found)
    try:
        yield directory
    finally:
        # All that was allocated here, and no more: the list has nobody else's pages.
        directory.run(f"echo {found.count} >{directory.path('free')}")
