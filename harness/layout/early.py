"""The memory that the kernel's first page tables come from. Pure.

adjust_lowmem_bounds(), arch/arm/mm/mmu.c, 5.10 to 7.3: until low memory is mapped, nothing is
allocated from the first edge of memory on that does not lie between two entries of the page
directory. A no-map region makes such edges. With no room below it the kernel hangs before it has
said a word.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.config import MIB
from harness.layout.ground import PMD, Ground, Kind, Region, Span, merged

NEEDED = MIB  # 4 KiB for each stretch that no section maps, and the vectors


def limit(ground: Ground, regions: Iterable[Region]) -> int:
    """Return the address from which on nothing is allocated early."""
    hidden = merged([region.span for region in regions if region.kind is Kind.NO_MAP])
    edges = [edge for span in hidden for edge in (span.start, span.end)]
    odd = [edge for edge in sorted(edges) if edge % PMD and ground.ram[0].start < edge]
    return min([ground.low_end, *odd]) // PMD * PMD


def room(ground: Ground, regions: Iterable[Region], areas: Iterable[Span]) -> int:
    """Return how many bytes are free below that."""
    regions = tuple(regions)
    end = limit(ground, regions)
    busy = [*(region.span for region in regions), *areas]
    return sum(max(0, min(span.end, end) - span.start) for span in ground.free(busy))
