"""What a boot made of its areas: read out of a guest once, judged by many cases.

`read` is the only effect here. What it returns is frozen, and the guest that it came from is gone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

import libfdt

from harness.boots import Edit
from harness.cma import counters, pagetables
from harness.cma.answers import ProgramError
from harness.cma.areas import PAGE, SURVEY, LiveArea, Survey, folders, parse_survey
from harness.cma.audit import audit
from harness.cma.counters import PROGRAM, Snapshot, Zone
from harness.cma.helper import DEFAULT_DEVICE, Helper
from harness.cma.pagetables import PATH, LinearMap, PageTables, linear_map
from harness.config import Area, Layout
from harness.guest.guest import Guest

KIB, MIB = 1 << 10, 1 << 20
TABLE = 2 * MIB  # what one page of page tables maps; areas in low memory need one for each
BUFFER = 48 * KIB  # what each device is asked for: not a power of two, which the buddy would give
SECONDS = 60.0
RAM = range(0x40000000, 0x60000000)  # what the addresses of scenarios are for

# For each area: allocate all that is left of it through debugfs in one piece, say what is in use
# then, free it, and say that again. "NAME USED_FULL USED_AFTER".
_FILL = """cd /sys/kernel/debug/cma 2>/dev/null || exit 0
for area in *; do
    [ -e "$area/count" ] || continue
    left=$(($(cat $area/count) - $(cat $area/used)))
    echo $left >$area/alloc
    full=$(cat $area/used)
    echo $left >$area/free
    echo "$area $full $(cat $area/used)"
done"""
_SECTIONS = {
    "survey": SURVEY,
    "snapshot": PROGRAM,
    "config": "zcat /proc/config.gz | grep -e ^CONFIG_CMA -e ^CONFIG_PAGE_OFFSET -e ^CONFIG_KASAN=",
    "map": f"sed '1,/{pagetables.LINEAR}/d; /^---/,$d' {PATH}",
    "fill": _FILL,
    "devices": f"insmod /lib/cma/cma_test.ko && ls -d {DEFAULT_DEVICE}*",
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """A boot to look at: areas in the tree, what `edit` makes of that, and the command line."""

    name: str
    append: str = ""
    areas: tuple[Area, ...] = ()
    edit: Edit | None = None

    @property
    def layout(self) -> Layout:
        """Its areas as a layout."""
        return Layout(name=self.name, description="one boot of the contract", area=self.areas)


# No area at all: what memory there is without one, and where else buffers come from.
BARE = Scenario("bare", "cma=0 coherent_pool=1M")


@dataclass(frozen=True, slots=True)
class Fill:
    """Pages in use when all of an area was allocated, and when that was freed again."""

    full: int
    after: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What a boot made of its areas.

    `console` is the path of its console log. `log` are the kernel's messages, without their
    times. `survey` has the areas that were not activated too. `tables` are the page tables of the
    kernel's linear map. `buffers` has the address of `BUFFER` bytes for each helper device, or the
    name of its errno.
    """

    console: str
    log: tuple[str, ...]
    survey: Survey
    snapshot: Snapshot
    config: Mapping[str, str]
    tables: PageTables
    fills: Mapping[str, Fill]
    buffers: Mapping[str, int | str]

    @property
    def area(self) -> LiveArea:
        """The one area there is."""
        names = [area.name for area in self.survey.areas]
        assert len(names) == 1, f"one area was asked for, the kernel has: {', '.join(names)}"
        return self.survey.areas[0]

    @property
    def total(self) -> int:
        """MemTotal, in bytes."""
        return self.snapshot.system.mem_total * KIB

    @property
    def shadow(self) -> int:
        """What KASAN takes for each of the pages that the kernel has an address for, in bytes.

        An eighth of them, mapped by pages (kasan_init(), arch/arm/mm/kasan_init.c, 6.12).
        """
        if self.config.get("CONFIG_KASAN") != "y":
            return 0
        size = (self.linear.end - self.linear.base) // 8
        return size + size // TABLE * PAGE

    @property
    def block(self) -> int:
        """The bytes of a pageblock."""
        return self.snapshot.system.block_pages * PAGE

    @property
    def linear(self) -> LinearMap:
        """Where low memory lies."""
        return linear_map(self.snapshot, int(self.config["CONFIG_PAGE_OFFSET"], 0))

    def low_end(self) -> int:
        """The first address behind low memory."""
        return self.linear.end

    def mapped_by_pages(self, area: LiveArea) -> bool:
        """Whether all of an area in low memory is mapped so that single pages can change."""
        return self._has(self.tables.by_pages(), area.base, area.end)

    def low_is_mapped(self) -> bool:
        """Whether the linear map has all of low memory, without a hole."""
        return self._has(self.tables, self.linear.base, self.linear.end)

    def _has(self, tables: PageTables, start: int, end: int) -> bool:
        first, last = self.linear.virtual(start), self.linear.virtual(end) - 1
        return any(first in each and last in each for each in tables.stretches())

    def said(self, prefix: str) -> list[str]:
        """Return the messages that begin so, without what they begin with."""
        return [line.removeprefix(prefix) for line in self.log if line.startswith(prefix)]


def read(guest: Guest, console: str) -> Facts:
    """Ask a guest for all of it. The helper module stays loaded: its guest is asked no more."""
    script = "\n".join(f"echo '== {name}'; ({text})" for name, text in _SECTIONS.items())
    text = guest.console.run(script, SECONDS).output
    section = dict(re.findall(r"^== (\w+)\n(.*?)(?=^== |\Z)", text, re.M | re.S))
    boot = guest.console.text(0, guest.console.position).decode("utf-8", "replace")
    devices = section["devices"].split()
    return Facts(
        console=console,
        log=messages(boot),
        survey=parse_survey(section["survey"]),
        snapshot=counters.parse(section["snapshot"]),
        config=dict(re.findall(r"^(CONFIG_\w+)=(.*)$", section["config"], re.M)),
        tables=pagetables.parse(section["map"]),
        fills=fills(section["fill"], folders(section["survey"])),
        buffers={device: _buffer(guest, device) for device in devices},
    )


def _buffer(guest: Guest, device: str) -> int | str:
    helper = Helper(guest.console, device=device)
    try:
        buffer = helper.alloc(BUFFER)
        helper.free(buffer.handle)
        return buffer.dma_address
    except ProgramError as error:
        if not error.errno_name:
            raise
        return error.errno_name


def messages(console: str) -> tuple[str, ...]:
    """Return printk's messages on a console, without their times."""
    return tuple(re.findall(r"^\[ *\d+\.\d+\] (.*?)\r?$", console, re.M))


def ram(blob: bytes) -> range:
    """Return the physical addresses of the memory that a device tree has, in its first bank."""
    tree = libfdt.Fdt(blob)
    node = tree.first_subnode(0)
    while not tree.get_name(node).startswith("memory@"):
        node = tree.next_subnode(node)  # raises FdtException behind the last
    cells = [tree.getprop(0, name).as_uint32() for name in ("#address-cells", "#size-cells")]
    region = bytes(tree.getprop(node, "reg"))
    split = 4 * cells[0]
    start = int.from_bytes(region[:split], "big")
    return range(start, start + int.from_bytes(region[split : split + 4 * cells[1]], "big"))


def fills(text: str, folders: Mapping[str, str]) -> dict[str, Fill]:
    """Return what `_FILL` printed, by area; `folders` are their paths in debugfs."""
    names = {PurePath(path).name: name for name, path in folders.items()}
    return {
        names[folder]: Fill(int(full), int(after))
        for folder, full, after in re.findall(r"^(\S+) (\d+) (\d+)$", text, re.M)
    }


def lost(facts: Facts, bare: Facts) -> int:
    """Return how many bytes fewer a kernel has than another, but for what KASAN takes of each."""
    return bare.total + bare.shadow - facts.total - facts.shadow


def disagreements(facts: Facts) -> list[str]:
    """Return where the kernel's accounts of its areas differ: the audit's, and a boot's own."""
    wrong = list(audit(None, facts.snapshot))
    if not facts.low_is_mapped():
        wrong.append("the linear map of low memory has a hole")
    managed = sum(zone.managed for zone in facts.snapshot.zones) * PAGE
    if managed != facts.total:
        wrong.append(f"MemTotal is {facts.total}, the zones manage {managed}")
    homeless = [
        area.name
        for area in facts.survey.areas
        if area.size and not any(_holds(zone, area) for zone in facts.snapshot.zones)
    ]
    return wrong + [f"{name} lies in no one zone" for name in homeless]


def _holds(zone: Zone, area: LiveArea) -> bool:
    """Whether all of the area lies in the zone."""
    start, end = zone.start_pfn * PAGE, (zone.start_pfn + zone.spanned) * PAGE
    return start <= area.base and area.end <= end
