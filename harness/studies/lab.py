"""What a study works with: guests of one kernel, and the same kernel changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from harness import cell
from harness.boots import Boots
from harness.cache import Cache
from harness.cell import Prepared
from harness.closing import Closing
from harness.config import CONFIGS, Layout, edited, patches_for
from harness.errors import KernelFaulted
from harness.guest.guest import Guest
from harness.progress import Progress

PATCHES = CONFIGS / "patches" / "studies"
_SECONDS = 600.0  # of a guest that counts, until it is done


class Lab(Closing):
    """Boots guests of a study's kernel, each in a directory of its own below `directory`."""

    def __init__(
        self, prepared: Prepared, directory: Path, cache: Cache, progress: Progress
    ) -> None:
        self.prepared = prepared
        self.directory = directory
        self._cache = cache
        self._progress = progress
        self._boots = Boots(prepared, directory, cache, append="")
        self._others: list[Lab] = []

    def is_for(self, patches: str) -> bool:
        """Whether a series of configs/patches/studies/ has something for this kernel's version."""
        return bool(patches_for([PATCHES / patches], self.prepared.kernel.version))

    def option(self, symbol: str) -> str:
        """Return the value of a CONFIG_ symbol; "n" when it is not set."""
        return self.prepared.kernel.option(symbol)

    @contextmanager
    def boot(
        self, layout: Layout | str | None = None, append: str = "", *, watch: Sequence[int] = ()
    ) -> Iterator[Guest]:
        """Boot a guest, of the study's layout if none is given; `append` ends its command line.

        `watch` are addresses of functions, whose calls `harness.boots.EXECUTED_LOG` will have.
        It ends with the block, and a fault of its kernel that nobody took is raised then.
        """
        chosen = self.prepared.cell.layout if layout is None else layout
        with self._boots.boot(chosen, append, watch=watch) as guest:
            yield guest
        log = self._boots.log_of(guest)
        for fault in self._boots.take_faults():
            raise KernelFaulted(fault.headline, where=log, tail=fault.text)

    def counted(
        self, program: str, done: bytes, layout: Layout | str | None = None, append: str = ""
    ) -> bytes:
        """Boot a guest of the lane exact whose init runs `program`; return its console.

        Nothing comes in from outside until it prints `done`: a pattern, of the end or a failure.
        """
        exact = self.exact()
        with exact.boot(layout, f'{append} CMA_RUN="{program}"'.strip()) as guest:
            guest.console.wait_for(done, _SECONDS, f"counting in {program}")
            return guest.console.text()

    def exact(self) -> Lab:
        """Return a lab of the same kernel whose guests count instructions: one processor."""
        here = self.prepared.cell
        counting = replace(here, lane="exact", board=here.board.counting())
        return self._beside("exact", replace(self.prepared, cell=counting))

    def with_memory(self, size: int) -> Lab:
        """Return a lab of the same kernel on a board with so many bytes of memory."""
        here = self.prepared.cell
        board = here.board.model_copy(update={"memory": size})
        return self._beside(
            f"{size >> 20}M", replace(self.prepared, cell=replace(here, board=board))
        )

    def changed(self, name: str, patches: Sequence[str] = (), fragments: Sequence[str] = ()) -> Lab:
        """Return a lab of the same kernel with patches of configs/patches/studies/, or options.

        The kernel is built if it is not in the cache; `name` is for people and for the directory.
        """
        here = self.prepared.cell
        files = [str(PATCHES / patch) for patch in patches]
        other = replace(here, kernel=edited(here.kernel, files, fragments))
        self._progress.say(f"study    the same kernel, {name}")
        return self._beside(name, cell.prepare(other, self._cache, self._progress))

    def close(self) -> None:
        """End every guest that still runs."""
        for other in self._others:
            other.close()
        self._boots.close()

    def _beside(self, name: str, prepared: Prepared) -> Lab:
        number = len(self._others) + 1
        other = Lab(prepared, self.directory / f"{number}-{name}", self._cache, self._progress)
        self._others.append(other)
        return other
