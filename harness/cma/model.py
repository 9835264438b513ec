"""A reference model of an area and of the helper device on it: where each buffer must lie. Pure.

It says what the kernel promises, not how the kernel does it. An allocation takes the first run of
pages that is free, long enough, and aligned by its physical address to the power of two that its
size needs, at most CONFIG_CMA_ALIGNMENT (cma_alloc(), mm/cma.c; cma_bitmap_aligned_offset() since
b5be83e308f7, "mm: cma: align to physical address, not CMA region position", 3.19). It fails when
there is no such run. It holds for an area in which nothing is pinned: a range that is busy is
skipped, and the model does not know of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from harness.cma.areas import PAGE

SIZE_MAX = (1 << 32) - 1
_KIB = 1024
# __alloc_pages() serves up to this order of pages without giving up (PAGE_ALLOC_COSTLY_ORDER).
_COSTLY_ORDER = 3


def order_of(size: int) -> int:
    """Return the order of the smallest power of two of pages that holds `size` bytes."""
    return (max(-(-size // PAGE), 1) - 1).bit_length()


@dataclass(frozen=True, slots=True)
class AreaModel:
    """An area: base address in bytes, its pages, and those that are allocated, as bits."""

    base: int
    pages: int
    taken: int = 0

    @classmethod
    def of(cls, base: int, pages: int, runs: Iterable[tuple[int, int]]) -> AreaModel:
        """Return the area with these runs (first page, how many) allocated."""
        area = cls(base, pages)
        for first, length in runs:
            area = area.with_taken(first, length)
        return area

    @property
    def used(self) -> int:
        """How many pages are allocated."""
        return self.taken.bit_count()

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """The runs of allocated pages: the first, and how many."""
        found, at = [], 0
        while self.taken >> at:
            rest = self.taken >> at
            at += (rest & -rest).bit_length() - 1
            rest = self.taken >> at
            length = (~rest & (rest + 1)).bit_length() - 1
            found.append((at, length))
            at += length
        return tuple(found)

    def place(self, pages: int, order: int) -> int | None:
        """Return the page where a buffer must begin, aligned to `order`; None: there is no room."""
        step = 1 << order
        first = -(self.base // PAGE) % step
        wanted = (1 << pages) - 1
        starts = range(first, self.pages - pages + 1, step)
        return next((start for start in starts if not self.taken >> start & wanted), None)

    def with_taken(self, first: int, pages: int) -> AreaModel:
        """Return the area with those pages allocated; they must be free and inside."""
        mask = ((1 << pages) - 1) << first
        assert not self.taken & mask, "handed out twice"
        assert first + pages <= self.pages, "outside of the area"
        return replace(self, taken=self.taken | mask)

    def with_free(self, first: int, pages: int) -> AreaModel:
        """Return the area with those pages free; they must be allocated."""
        mask = ((1 << pages) - 1) << first
        assert self.taken & mask == mask, "freed twice"
        return replace(self, taken=self.taken & ~mask)


@dataclass(frozen=True, slots=True)
class Alloc:
    """Allocate `size` bytes; `align` and `attrs` as cma-ctl's alloc has them."""

    size: int
    align: int = 0
    attrs: tuple[str, ...] = ()

    def line(self) -> str:
        """Return it as a line of a script."""
        align = f" --align {self.align:#x}" if self.align else ""
        attrs = f" --attr {','.join(self.attrs)}" if self.attrs else ""
        return f"alloc {self.size:#x}{align}{attrs}"


@dataclass(frozen=True, slots=True)
class Free:
    """Free the buffer that a line of the script made."""

    made_by: int

    def line(self) -> str:
        """Return it as a line of a script."""
        return f"free {self.made_by}"


@dataclass(frozen=True, slots=True)
class Write:
    """The v4 interface: allocate a number of KiB."""

    kib: int

    def line(self) -> str:
        """Return it as a line of a script."""
        return f"write {self.kib}"


@dataclass(frozen=True, slots=True)
class Read:
    """The v4 interface: free the oldest buffer."""

    def line(self) -> str:
        """Return it as a line of a script."""
        return "read"


Operation = Alloc | Free | Write | Read


@dataclass(frozen=True, slots=True)
class Expected:
    """What an operation must do: an address, an errno (or none), and the area behind it.

    `elsewhere`: the buffer may not come from the area, and `address` is None.
    `may_fail`: no promise of CMA's is involved, so ENOSPC would be right too.
    """

    area: AreaModel
    address: int | None = None
    errno_name: str = ""
    elsewhere: bool = False
    may_fail: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A buffer: the line that made it, and its pages in the area (none: it lies elsewhere)."""

    line: int
    first: int = 0
    pages: int = 0


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """A helper device without buffers, on an area; `step` returns it with what was done.

    `max_order` is CONFIG_CMA_ALIGNMENT. `private`: the area is the device's own. `falls_back`: what
    needs no address in the kernel may come from the page allocator (dma_direct_alloc(), which ARM
    uses since 6.0).
    """

    area: AreaModel
    max_order: int
    private: bool
    falls_back: bool = True
    held: tuple[Held, ...] = field(default=())
    lines: int = 0

    def step(self, operation: Operation) -> tuple[DeviceModel, Expected]:
        """Return the device behind the next operation, and what that must have done."""
        then = replace(self, lines=self.lines + 1)
        match operation:
            case Alloc():
                return then._alloc(operation)
            case Write(kib):
                if kib == 0:
                    return then._refuse("EINVAL")
                if kib > SIZE_MAX // _KIB:
                    return then._refuse("EOVERFLOW")
                return then._alloc(Alloc(kib * _KIB))
            case Free(made_by):
                found = next((held for held in self.held if held.line == made_by), None)
                return then._free(found, "ENOENT")
            case Read():
                return then._free(self.held[0] if self.held else None, "EIDRM")

    def without(self, line: int) -> DeviceModel:
        """Return the device without the buffer of that line: it was allowed to fail, and did."""
        return replace(self, held=tuple(held for held in self.held if held.line != line))

    def _refuse(self, errno_name: str) -> tuple[DeviceModel, Expected]:
        return self, Expected(self.area, errno_name=errno_name)

    def _free(self, held: Held | None, missing: str) -> tuple[DeviceModel, Expected]:
        if held is None:
            return self._refuse(missing)
        area = self.area.with_free(held.first, held.pages)
        return replace(self.without(held.line), area=area), Expected(area)

    def _alloc(self, asked: Alloc) -> tuple[DeviceModel, Expected]:
        if not asked.size:
            return self._refuse("EINVAL")
        if max(asked.size, asked.align) > SIZE_MAX:
            return self._refuse("EOVERFLOW")
        if asked.align & (asked.align - 1):
            return self._refuse("EINVAL")
        # Beyond the natural alignment the helper asks for so much that an aligned part is in it.
        extra = asked.align - PAGE if asked.align > self._alignment(asked.size) else 0
        size = asked.size + extra
        pages = -(-size // PAGE)
        if pages * PAGE > SIZE_MAX:
            return self._refuse("ENOSPC")
        first = self.area.place(pages, min(order_of(size), self.max_order))
        unmapped = self.falls_back and "no-kernel-mapping" in asked.attrs
        if unmapped and (first is None or self._passes_by(pages)):
            return self._elsewhere(size)
        if first is None:
            return self._refuse("ENOSPC")
        area = self.area.with_taken(first, pages)
        address = area.base + first * PAGE
        address += -address % asked.align if asked.align else 0
        held = (*self.held, Held(self.lines, first, pages))
        return replace(self, area=area, held=held), Expected(area, address)

    def _passes_by(self, pages: int) -> bool:
        """Whether dma_alloc_contiguous() leaves the default area alone: for a single page."""
        return pages == 1 and not self.private

    def _elsewhere(self, size: int) -> tuple[DeviceModel, Expected]:
        held = (*self.held, Held(self.lines))
        may_fail = order_of(size) > _COSTLY_ORDER
        return replace(self, held=held), Expected(self.area, elsewhere=True, may_fail=may_fail)

    def _alignment(self, size: int) -> int:
        """Return the bytes to which a buffer of that size is aligned without being asked."""
        return PAGE << min(order_of(size), self.max_order)
