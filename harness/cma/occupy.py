"""Pages that live in an area, held by the guest program cma-occupy.

`cma-occupy --help` in the guest says what kinds there are; all counts are pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from harness.cma.answers import Answer, ask_one
from harness.cma.shell import Shell
from harness.errors import GuestError

PROGRAM = "cma-occupy"
ALL_AREAS = "all"
ANYWHERE = "any"  # in place of an area: memory is not made short
COMPRESSIBLE = 1 << 31  # a seed
Run = tuple[int, int]  # the first of some page frames, and how many


class Place(Answer):
    """Where the pages lie: `inside` the area, `in_cma` in any, `moved` since they were taken.

    `absent` are those that are not in memory, `dirty` and `swapcache` what the kernel says of
    those that are.
    """

    pages: int
    inside: int
    in_cma: int
    moved: int
    absent: int
    dirty: int
    swapcache: int


class Check(Place):
    """The same, and whether each byte is what it was.

    `bad` pages have another content, `zero` pages none; `child_bad` are either, in the eyes of a
    child that has `shared` of the frames. `first` is the index of the first that is wrong, and
    `holds` the index of the page whose content that has, -1 when it is nobody's.
    """

    bad: int
    zero: int
    child_bad: int
    shared: int
    first: int | None = None
    holds: int | None = None

    @property
    def intact(self) -> bool:
        """Whether every byte is what it was, for all who have it."""
        return self.bad == self.zero == self.child_bad == 0


class Fates(Answer):
    """What became of the pages that lay in the area: runs of frames (first, count) that they had.

    `kept` are where they were, `moved` have another frame, `back` were not in memory and came back
    when they were read, `zero` read as zeroes, `lost` as something else.
    """

    kept: tuple[Run, ...]
    moved: tuple[Run, ...]
    back: tuple[Run, ...]
    zero: tuple[Run, ...]
    lost: tuple[Run, ...]

    def counts(self) -> dict[str, int]:
        """Return how many pages each fate has."""
        return {fate: sum(count for _, count in runs) for fate, runs in self.by_name()}

    def by_name(self) -> tuple[tuple[str, tuple[Run, ...]], ...]:
        """Return the runs of each fate, with its name."""
        return (
            ("kept", self.kept),
            ("moved", self.moved),
            ("back", self.back),
            ("zero", self.zero),
            ("lost", self.lost),
        )


class Pins(Answer):
    """The page frames that were pinned, lowest first."""

    frames: tuple[int, ...]


class Unpinned(Answer):
    """How many pages came out of the pipe again, and how many of them with another content."""

    drained: int
    bad: int


class Nothing(Answer):
    """An answer that says only that it is done."""


@dataclass(frozen=True, slots=True)
class Occupant:
    """A process of the guest that holds pages; `held` is where they lay when it had them all."""

    shell: Shell
    name: str
    held: Place
    timeout: float = 60.0

    def check(self) -> Check:
        """Look where the pages are, then read every byte of them."""
        return ask_one(self.shell, self._argv("check"), Check, self.timeout)

    def fates(self) -> Fates:
        """Look where each page is, read it, and tell what became of it."""
        return ask_one(self.shell, self._argv("fates"), Fates, self.timeout)

    def advise(self, advice: int) -> None:
        """Give the kernel an advice (posix_fadvise) on the file that the pages are of."""
        ask_one(self.shell, self._argv("advise", str(advice)), Nothing, self.timeout)

    def pin(self, every: int | None = None) -> tuple[int, ...]:
        """Put the first page inside the area, or in each `every` bytes of it, into a pipe."""
        argv = self._argv("pin") if every is None else self._argv("pin", str(every))
        return ask_one(self.shell, argv, Pins, self.timeout).frames

    def fix(self) -> Place:
        """Pin all pages for long (FOLL_LONGTERM), as a buffer of io_uring."""
        return ask_one(self.shell, self._argv("fix"), Place, self.timeout)

    def unpin(self) -> Unpinned:
        """Undo both."""
        return ask_one(self.shell, self._argv("unpin"), Unpinned, self.timeout)

    def relax(self) -> None:
        """End the shortage that `keep_short` let go on."""
        ask_one(self.shell, self._argv("relax"), Nothing, self.timeout)

    def end(self) -> None:
        """Free the pages, and wait until they are free."""
        ask_one(self.shell, self._argv("end"), Nothing, self.timeout)

    def _argv(self, *words: str) -> list[str]:
        return [PROGRAM, "-n", self.name, *words]


@contextmanager
def occupied(
    shell: Shell,
    kind: str,
    area: str,
    size: int,
    *,
    file: str | None = None,
    keep_short: bool = False,
    margin: int | None = None,
    seed: int | None = None,
    name: str = "1",
    timeout: float = 60.0,
) -> Iterator[Occupant]:
    """Have `size` bytes of pages of a kind brought into memory, most of them into the area.

    `file` is a path in the guest for the kinds that need one, `keep_short` leaves memory short for
    all others until `relax`, `margin` bytes (12 MiB without) of low memory stay free outside of CMA
    meanwhile. Contents are made from `seed`; from `COMPRESSIBLE` on, half of a page can be
    compressed away. The pages are freed when the block ends.
    """
    argv = [PROGRAM, "-n", name, "hold", kind, area, str(size)]
    argv += ["--file", file] if file is not None else []
    argv += ["--keep-short"] if keep_short else []
    argv += ["--margin", str(margin)] if margin is not None else []
    argv += ["--seed", str(seed)] if seed is not None else []
    occupant = Occupant(shell, name, ask_one(shell, argv, Place, timeout), timeout)
    try:
        yield occupant
    except BaseException:
        with suppress(GuestError):  # what came first is what counts
            occupant.end()
        raise
    occupant.end()
