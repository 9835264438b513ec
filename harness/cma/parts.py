"""The parts of an allocation: which functions of the kernel do what, and what QEMU counted of each.

An instruction belongs to the part whose code ran last: what migrate_pages() calls is migration,
until it returns to a function of the allocator's own, whose part is `REST`. So is what runs while
the allocation waits (the drain of per-cpu lists is done by a worker). An interrupt is a part by
itself: the timer's falls where the clock wants it, in another kernel elsewhere.

Functions are looked for in the kernel's symbols, without what the compiler appends (.constprop.0):
names differ by version, and one that is inlined belongs to its caller. A part none of whose
functions is there cannot be told apart; it is in the rest then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.errors import GuestError, HarnessError

REST, INTERRUPT = "rest", "interrupt"
_BEGIN = "dma_alloc_attrs"
# Instructions of two readings of the clock and an interrupt just then, at most: some thousands, and
# ten times that where the kernel checks its locks.
_AROUND = 100_000

# ARM has modules, cma_test among them, in the 16 MiB below the linear map, whose first code that is
# no init code lies in the first MiBs of it: arch/arm/include/asm/memory.h, MODULES_VADDR. It begins
# at one of these (arch/arm/Kconfig, PAGE_OFFSET: VMSPLIT_1G, _2G, _3G_OPT and _3G).
_LINEAR = (0x40000000, 0x80000000, 0xB0000000, 0xC0000000)
_MODULES = 16 << 20
# An interrupt begins at its vector, and ends with the last instruction of __irq_svc: `rfeia sp!` in
# Thumb-2 and `ldmia sp, {r0 - pc}^` in ARM, of four bytes (svc_exit, arch/arm/kernel/entry-*).
_VECTOR = 0xFFFF0018
_IRQ, _LAST = "__irq_svc", 4

FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    # Those that call the others, as they are named in 5.10 to 7.3.
    REST: (
        *("dma_alloc_attrs", "arm_dma_alloc", "arch_dma_alloc", "__dma_alloc"),
        *("cma_allocator_alloc", "__alloc_from_contiguous", "dma_alloc_from_contiguous"),
        *("cma_alloc", "__cma_alloc", "cma_alloc_frozen", "__cma_alloc_frozen"),
        *("cma_range_alloc", "cma_clear_bitmap"),
        *("alloc_contig_range", "alloc_contig_range_noprof", "alloc_contig_frozen_range_noprof"),
        "__alloc_contig_migrate_range",
    ),
    "search": ("bitmap_find_next_zero_area_off",),
    "isolate": (
        *("start_isolate_page_range", "undo_isolate_page_range", "test_pages_isolated"),
        *("isolate_single_pageblock", "set_migratetype_isolate", "unset_migratetype_isolate"),
    ),
    # lru_cache_disable in the place of migrate_prep since 5.13 (d479960e44f2, "mm: disable LRU
    # pagevec during the migration temporarily").
    "drain": (
        *("lru_add_drain_all", "__lru_add_drain_all", "lru_cache_disable", "migrate_prep"),
        *("drain_all_pages", "__drain_all_pages"),
    ),
    "scan": ("isolate_migratepages_range",),
    "reclaim": ("reclaim_clean_pages_from_list",),
    "migrate": ("migrate_pages", "putback_movable_pages"),
    # Out of the free lists, and back what is too much of a block.
    "take": (
        *("isolate_freepages_range", "split_free_pages", "split_free_frozen_pages"),
        *("free_contig_range", "free_contig_frozen_range", "__free_contig_range_common"),
    ),
    "clear": ("__dma_clear_buffer",),
    # In place, or in vmalloc's area for high memory.
    "remap": (
        *("__dma_remap", "apply_to_page_range", "__apply_to_page_range"),
        *("flush_tlb_kernel_range", "dma_common_contiguous_remap"),
    ),
}

NAMES = tuple(name for name in FUNCTIONS if name != REST)
_PARTS = (*FUNCTIONS, INTERRUPT)  # in the order of their numbers

Symbols = Mapping[str, Sequence[tuple[int, int]]]
"""Address and size of each function of a name."""


def ranges(symbols: Symbols) -> str:
    """Return what counter.c is to be told about a kernel with these symbols.

    Raises `HarnessError` when they are not a kernel's.
    """
    known = _plain(symbols)
    try:
        begin, (irq, size) = known[_BEGIN][0][0], known[_IRQ][0]
    except KeyError as missing:
        raise HarnessError(
            f"no function {missing}", next_step="give a vmlinux with its symbols"
        ) from missing
    linear = max(start for start in _LINEAR if start <= begin)
    marks = (
        f"begin {begin:x} 0 0\n",
        f"caller {linear - _MODULES:x} {linear:x} 0\n",
        f"interrupt {_VECTOR:x} {irq + size - _LAST:x} {_PARTS.index(INTERRUPT)}\n",
    )
    return "".join([*marks, *_lines(known)])


def told_apart(symbols: Symbols) -> frozenset[str]:
    """Return the parts of which the kernel has at least one function."""
    known = _plain(symbols)
    return frozenset(name for name in NAMES if any(each in known for each in FUNCTIONS[name]))


def _lines(known: Symbols) -> Iterator[str]:
    for number, functions in enumerate(FUNCTIONS.values()):
        for name in functions:
            for address, size in known.get(name, ()):
                yield f"part {address:x} {address + size:x} {number}\n"


def _plain(symbols: Symbols) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for name, places in symbols.items():
        found.setdefault(name.partition(".")[0], []).extend(places)
    return found


@dataclass(frozen=True, slots=True)
class Window:
    """Instructions of an allocation, from the first of dma_alloc_attrs() to its last, by part."""

    counts: Mapping[str, int]

    @property
    def path(self) -> int:
        """What the allocation itself took: all but interrupts."""
        return sum(self.counts.values()) - self.counts[INTERRUPT]

    def of(self, total: int, told: frozenset[str]) -> Mapping[str, int]:
        """Return the parts of an allocation that took `total` instructions by the guest's clock.

        The clock itself is in its total, and goes on in steps of eight instructions. Raises
        `GuestError` when the window is of another allocation.
        """
        counted = sum(self.counts.values())
        if not 0 <= total - counted <= _AROUND:
            raise GuestError(f"a window of {counted} instructions, not {total}")
        found = {name: self.counts[name] for name in NAMES if name in told}
        found[REST] = self.path - sum(found.values())
        return found | {INTERRUPT: self.counts[INTERRUPT]}


def read(text: str) -> tuple[Window, ...]:
    """Return the windows that counter.c has written, one for each allocation."""
    found = []
    for line in text.splitlines():
        counts = [int(word) for word in line.split()]
        if len(counts) != len(_PARTS):
            raise GuestError(f"{len(counts)} parts, not {len(_PARTS)}: {line!r}", where="windows")
        found.append(Window(dict(zip(_PARTS, counts, strict=True))))
    return tuple(found)
