"""Where buffers lie: apart from each other, and inside an area. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from harness.cma.areas import PAGE, LiveArea
from harness.cma.helper import LiveBuffer


def pages(size: int) -> int:
    """Return how many pages hold `size` bytes."""
    return -(-size // PAGE)


def overlapping(buffers: Iterable[LiveBuffer]) -> list[tuple[LiveBuffer, LiveBuffer]]:
    """Return the pairs, neighbours by address, of which the first reaches into the second."""
    ordered = sorted(buffers, key=lambda buffer: buffer.dma_address)
    return [(low, high) for low, high in pairwise(ordered) if _end(low) > high.dma_address]


def outside(buffers: Iterable[LiveBuffer], area: LiveArea) -> list[LiveBuffer]:
    """Return the buffers that do not lie in the area with all their pages."""
    return [
        buffer for buffer in buffers if buffer.dma_address < area.base or _end(buffer) > area.end
    ]


def _end(buffer: LiveBuffer) -> int:
    return buffer.dma_address + pages(buffer.size) * PAGE
