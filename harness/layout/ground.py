"""What areas are laid on: a board's physical memory as a kernel finds it. Values only. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.config import MIB

KIB = 1 << 10
_END_OF_VMALLOC = 0xFF800000  # VMALLOC_END, arch/arm/include/asm/pgtable.h, 5.10 to 6.12
_GAP = 8 * MIB  # VMALLOC_OFFSET
_VMALLOC = 240 * MIB  # vmalloc_size unless `vmalloc=` says otherwise, arch/arm/mm/mmu.c
PMD = 2 * MIB  # what an entry of the page directory maps
NODE_BYTES = 512  # what an area and its device, or a carveout, add to a tree, at most


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Physical addresses from `start` up to, and without, `end`."""

    start: int
    end: int

    @classmethod
    def of(cls, start: int, size: int) -> Span:
        """Return the span of `size` bytes."""
        return cls(start, start + size)

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self.end - self.start

    def overlaps(self, other: Span) -> bool:
        """Whether both have a byte in common."""
        return max(self.start, other.start) < min(self.end, other.end)

    def within(self, other: Span) -> bool:
        """Whether all of it lies in the other."""
        return other.start <= self.start and self.end <= other.end

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.end:#x}"


class Kind(StrEnum):
    """What lies in a region that no area may have."""

    KERNEL = "kernel"
    TABLES = "page tables"
    INITRD = "initrd"
    DTB = "dtb"
    NO_MAP = "no-map"
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True)
class Region:
    """Memory that is taken before any area is."""

    kind: Kind
    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """What a built kernel does with areas, of its configuration, symbols and source.

    `block` is the alignment in bytes that an area's base and size must have
    (CMA_MIN_ALIGNMENT_BYTES), `slots` how many areas there can be, `default_mib` and
    `default_percent` what Kconfig wants as a default area: the bytes of both, and `selection` says
    which counts (MBYTES, PERCENTAGE, MIN, MAX). `static_late`: static nodes become areas only
    after Kconfig's has been made. `vmalloc_gap`: what `vmalloc=` says comes on top of the gap
    between low memory and vmalloc()'s. `image` is the kernel from _text to _end, `tables` the first
    page table, both as offsets from the start of memory; `inflated` is the length of the image
    that is decompressed, `zimage` of the compressed one.
    """

    version: str
    block: int
    slots: int
    default_mib: int
    default_percent: int
    selection: str
    static_late: bool
    vmalloc_gap: bool
    high_memory: bool
    page_offset: int
    image: Span
    tables: Span
    inflated: int
    zimage: int

    def default_size(self, memory: int) -> int:
        """Return how many bytes Kconfig's default area wants of so much memory; 0: none.

        cma_early_percent_memory() and dma_contiguous_reserve() in kernel/dma/contiguous.c, 6.12.
        """
        megabytes, share = self.default_mib * MIB, memory * self.default_percent // 100
        return {
            "MBYTES": megabytes,
            "PERCENTAGE": share,
            "MIN": min(megabytes, share),
            "MAX": max(megabytes, share),
        }.get(self.selection, 0)

    def round_up(self, size: int) -> int:
        """Return the next multiple of a pageblock."""
        return -(-size // self.block) * self.block

    def round_down(self, size: int) -> int:
        """Return the multiple of a pageblock below, or the size itself."""
        return size // self.block * self.block


@dataclass(frozen=True, slots=True)
class Ground:
    """A board's memory before any area is in it.

    `ram` are the banks in the order of their addresses. `taken` are regions that the kernel keeps;
    `unpacking` is where the decompressor works before there is a kernel, which is free again
    afterwards. `low_end` is the first address behind low memory.
    """

    board: str
    kernel: KernelFacts
    ram: tuple[Span, ...]
    taken: tuple[Region, ...]
    unpacking: Span
    low_end: int

    @property
    def memory(self) -> int:
        """The bytes of all banks."""
        return sum(bank.size for bank in self.ram)

    def with_nodes(self, count: int) -> Ground:
        """Return it with a device tree that has so many nodes more; QEMU gives it twice that."""
        room = 2 * NODE_BYTES * count
        grown = tuple(
            replace(each, span=Span(each.span.start, each.span.end + room))
            if each.kind is Kind.DTB
            else each
            for each in self.taken
        )
        return replace(self, taken=grown)

    def usable(self) -> tuple[Span, ...]:
        """Return the banks without what a kernel without CONFIG_HIGHMEM ignores."""
        if self.kernel.high_memory:
            return self.ram
        return tuple(
            Span(bank.start, min(bank.end, self.low_end))
            for bank in self.ram
            if bank.start < self.low_end
        )

    def free(self, taken: Iterable[Span]) -> Iterator[Span]:
        """Yield what of the usable memory is free, lowest first, when `taken` is not."""
        busy = sorted(taken)
        for bank in self.usable():
            at = bank.start
            for span in busy:
                if span.end > at and span.start < bank.end:
                    if span.start > at:
                        yield Span(at, span.start)
                    at = max(at, span.end)
            if at < bank.end:
                yield Span(at, bank.end)


def merged(banks: Iterable[Span]) -> tuple[Span, ...]:
    """Return the banks by address, those that touch as one: memblock has no border there."""
    whole: list[Span] = []
    for bank in sorted(bank for bank in banks if bank.size > 0):
        if whole and bank.start <= whole[-1].end:
            whole[-1] = Span(whole[-1].start, max(whole[-1].end, bank.end))
        else:
            whole.append(bank)
    return tuple(whole)


def start_of_memory(ram: tuple[Span, ...]) -> int:
    """Return PHYS_OFFSET: the start of the first bank, at a multiple of 2 MiB.

    fdt_check_mem_start() in arch/arm/boot/compressed/fdt_check_mem_start.c.
    """
    return -(-ram[0].start // PMD) * PMD


def end_of_low_memory(ram: tuple[Span, ...], kernel: KernelFacts, vmalloc: int | None) -> int:
    """Return the first physical address behind low memory; `vmalloc` is in bytes.

    adjust_lowmem_bounds() and early_vmalloc() in arch/arm/mm/mmu.c, 5.10 and 6.12.
    """
    gap = _GAP if vmalloc is None or kernel.vmalloc_gap else 0
    most = _END_OF_VMALLOC - (kernel.page_offset + 32 * MIB + gap)
    reserve = _VMALLOC if vmalloc is None else min(max(vmalloc, 16 * MIB), most)
    limit = _END_OF_VMALLOC - reserve - gap - kernel.page_offset + start_of_memory(ram)
    return max(min(limit, bank.end) for bank in ram if bank.start < limit)


def unpacking(kernel: KernelFacts, start: int) -> Span:
    """Return where the decompressor moves itself: behind the image that it will write.

    arch/arm/boot/compressed/head.S, "Relocate ourselves past the end of the decompressed kernel";
    a stack of 4 KiB and 64 KiB for malloc() are behind it.
    """
    behind = start + kernel.image.start + kernel.inflated
    return Span.of(behind, kernel.zimage + 68 * KIB + KIB)


def loaded(ram: tuple[Span, ...], memory: int, initrd: int, dtb: int) -> tuple[Region, Region]:
    """Return where QEMU puts an initrd and a device tree of so many bytes.

    hw/arm/boot.c, arm_setup_direct_kernel_boot(): the initrd goes halfway into memory, and to
    128 MiB at most; the tree behind it, to a page of its own. load_device_tree() in
    softmmu/device_tree.c gives the tree room: twice its size and 10000 bytes.
    """
    start = -(-(ram[0].start + min(memory // 2, 128 * MIB)) // 4096) * 4096
    first = Span.of(start, -(-initrd // 4096) * 4096)
    second = Span.of(first.end, (dtb + 10000) * 2)
    return Region(Kind.INITRD, "initrd", first), Region(Kind.DTB, "dtb", second)
