"""Taking all of an area, or all of its ranges, through the device that owns it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.cma.areas import PAGE, LiveArea, survey
from harness.cma.helper import Helper, LiveBuffer
from harness.config import Layout
from harness.guest.console import Console
from harness.layout.cmdline import DEFAULT_NAME, cma

MIB = 1 << 20
SECONDS = 60.0
# The largest buffer that has room in each area whose base and size are multiples of a pageblock,
# as all areas' are (4 MiB without LPAE), whatever else is in it: CMA aligns it to its size.
RANGE = 4 * MIB
NEEDED = 16 * MIB


def need_room(layout: Layout, name: str | None) -> None:
    """Skip a case that puts several MiB into an area, where the layout's is smaller than 16."""
    sizes = {area.node: area.size for area in layout.area}
    asked = cma(layout.cmdline)
    if asked is not None:
        sizes[DEFAULT_NAME] = asked.size
    if name in sizes and sizes[name] < NEEDED:
        pytest.skip(f"area {name!r} has {sizes[name] // MIB} MiB, and 16 are needed")


@dataclass(frozen=True, slots=True)
class Own:
    """A device, and its area as it was before the test."""

    console: Console
    helper: Helper
    device: str
    area: LiveArea

    @property
    def pages(self) -> int:
        """How many pages of the area were free."""
        return self.area.size // PAGE - self.area.used

    def used(self) -> int:
        """How many pages of the area are in use now, beside those from before."""
        return survey(self.console).area(self.area.name).used - self.area.used

    def take_ranges(self, *sizes: int) -> tuple[LiveBuffer, ...]:
        """Allocate buffers of each size until there is no room for one more; return all buffers."""
        alloc = f"cma-ctl -d {self.device} alloc $size --attr no-warn"
        loop = f"while {alloc}; do :; done >/dev/null 2>&1"
        words = " ".join(str(size) for size in sizes or (RANGE,))
        done = self.console.run(f"for size in {words}; do {loop}; done; true", SECONDS)
        done.checked("taking ranges")
        return self.helper.list()

    def take_all(self) -> tuple[LiveBuffer, ...]:
        """Allocate every page of the area that was free before the test; assert that it worked."""
        buffers = self.take_ranges()
        if self.used() < self.pages:  # something is in some of the ranges, such as the atomic pool
            buffers = self.take_ranges(*(RANGE >> shift for shift in range(1, 11)))
        assert self.used() == self.pages, "pages of the area were not to be had"
        return buffers

    def give_back(self) -> None:
        """Free all buffers of the device."""
        free = f"while cat {self.device}; do :; done 2>/dev/null; true"
        self.console.run(free, SECONDS).checked("freeing all buffers")


def ranges_with(buffers: tuple[LiveBuffer, ...], frame: int) -> list[LiveBuffer]:
    """Return the buffers in which a page frame lies."""
    return [
        buffer
        for buffer in buffers
        if buffer.dma_address <= frame * PAGE < buffer.dma_address + buffer.allocated
    ]
