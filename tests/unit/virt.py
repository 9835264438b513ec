"""virt's memory with linux 6.12.117, as a guest showed it, for the tests of harness/layout."""

from __future__ import annotations

from dataclasses import replace

from harness.config import MIB, Area, Carveout, Layout
from harness.layout.ground import Ground, KernelFacts, Kind, Region, Span, unpacking

RAM = (Span(0x40000000, 0x60000000),)
KERNEL = KernelFacts(
    version="6.12.117",
    block=4 * MIB,
    slots=7,
    default_mib=16,
    default_percent=0,
    selection="MBYTES",
    static_late=True,
    vmalloc_gap=True,
    high_memory=True,
    page_offset=0xC0000000,
    image=Span(0x8000, 0x999FC8),
    tables=Span(0x4000, 0x8000),
    inflated=0x9307C8,
    zimage=3455824,
)
# What a guest of that kernel said with memblock=debug, and /sys/firmware/fdt of its size.
TAKEN = (
    Region(Kind.TABLES, "first page table", Span(0x40004000, 0x40008000)),
    Region(Kind.KERNEL, "kernel image", Span(0x40008000, 0x40999FC8)),
    Region(Kind.INITRD, "initrd", Span(0x48000000, 0x4869C000)),
    Region(Kind.DTB, "dtb", Span(0x4869C000, 0x486A4B06)),
)
GROUND = Ground("virt", KERNEL, RAM, TAKEN, unpacking(KERNEL, 0x40000000), 0x60000000)
HIGH = replace(GROUND, low_end=0x57000000)
DEFAULT = Area(name="linux,cma", size="16M", default=True)


def layout(*areas: Area, cmdline: str = "", carveouts: tuple[Carveout, ...] = ()) -> Layout:
    return Layout(name="l", description="", area=areas, cmdline=cmdline, carveout=carveouts)
