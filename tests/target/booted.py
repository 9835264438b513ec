"""What a boot made of its areas: read out of a guest once, judged by many cases.

`read` is the only effect here. What it returns is frozen, and the guest that it came from is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import libfdt

from harness.boots import Edit
from harness.cma.answers import ProgramError
from harness.cma.areas import PAGE, SURVEY, LiveArea, Survey, parse_survey
from harness.cma.helper import DEFAULT_DEVICE, Helper
from harness.config import Area, Layout
from harness.guest.guest import Guest

KIB, MIB = 1 << 10, 1 << 20
BUFFER = 64 * KIB  # what each device is asked for; more than a page, so that CMA is asked
SECONDS = 60.0

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
    "meminfo": "grep MemTotal /proc/meminfo",
    "zones": "cat /proc/zoneinfo",
    "blocks": "cat /proc/pagetypeinfo",
    "config": "zcat /proc/config.gz | grep -e ^CONFIG_CMA -e ^CONFIG_PAGE_OFFSET",
    "map": "sed '1,/Kernel Mapping/d; /^---/,$d' /sys/kernel/debug/kernel_page_tables",
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
class Zone:
    """A zone of /proc/zoneinfo that has memory; all but its name in pages."""

    name: str
    start: int
    spanned: int
    managed: int
    cma: int
    free_cma: int

    def holds(self, area: LiveArea) -> bool:
        """Whether all of the area lies in the zone."""
        return self.start * PAGE <= area.base and area.end <= (self.start + self.spanned) * PAGE


@dataclass(frozen=True, slots=True)
class Fill:
    """Pages in use when all of an area was allocated, and when that was freed again."""

    full: int
    after: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What a boot made of its areas.

    `console` is the path of its console log. `log` are the kernel's messages, without their
    times. `total` is MemTotal in bytes. `cma_blocks` counts the pageblocks of MIGRATE_CMA by zone,
    `block` is the bytes of one. `linear` are the virtual addresses of the kernel's linear map,
    `pages` those of them that are mapped by pages, not by sections. `buffers` has the address of
    `BUFFER` bytes for each helper device, or the name of its errno.
    """

    console: str
    log: tuple[str, ...]
    survey: Survey
    total: int
    zones: tuple[Zone, ...]
    cma_blocks: Mapping[str, int]
    block: int
    config: Mapping[str, str]
    linear: tuple[range, ...]
    pages: tuple[range, ...]
    fills: Mapping[str, Fill]
    buffers: Mapping[str, int | str]

    @property
    def area(self) -> LiveArea:
        """The one area there is."""
        (area,) = self.survey.areas
        return area

    def mapped_by_pages(self, area: LiveArea) -> bool:
        """Whether all of an area in low memory is mapped so that single pages can change."""
        first, last = self._virtual(area.base), self._virtual(area.end) - 1
        return any(first in each and last in each for each in self.pages)

    def low_end(self) -> int:
        """The first address behind low memory: where ZONE_HIGHMEM begins, else all zones end."""
        high = [zone.start for zone in self.zones if zone.name == "HighMem"]
        return min(high, default=max(zone.start + zone.spanned for zone in self.zones)) * PAGE

    def low_is_mapped(self) -> bool:
        """Whether the linear map has all of low memory, without a hole."""
        first, last = self._virtual(self.zones[0].start * PAGE), self._virtual(self.low_end()) - 1
        return any(first in each and last in each for each in self.linear)

    def _virtual(self, address: int) -> int:
        return address - self.zones[0].start * PAGE + int(self.config["CONFIG_PAGE_OFFSET"], 0)

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
        total=int(section["meminfo"].split()[1]) * KIB,
        zones=tuple(zones(section["zones"])),
        cma_blocks=cma_blocks(section["blocks"]),
        block=block_size(section["blocks"]),
        config=dict(re.findall(r"^(CONFIG_\w+)=(.*)$", section["config"], re.M)),
        linear=tuple(mapped(section["map"])),
        pages=tuple(mapped(by_pages(section["map"]))),
        fills=fills(section["fill"]),
        buffers={device: _buffer(guest, device) for device in devices},
    )


def _buffer(guest: Guest, device: str) -> int | str:
    try:
        return Helper(guest.console, device=device).alloc(BUFFER).dma_address
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


def zones(text: str) -> Iterator[Zone]:
    """Yield the zones of /proc/zoneinfo that have memory."""
    for name, body in re.findall(r"^Node \d+, zone +(\w+)\n(.*?)(?=^Node |\Z)", text, re.M | re.S):
        value = {key: int(number) for key, number in re.findall(r"^ +(\w+):? +(\d+)$", body, re.M)}
        if value["spanned"]:
            yield Zone(
                name,
                value["start_pfn"],
                value["spanned"],
                value["managed"],
                value["cma"],
                value["nr_free_cma"],
            )


def block_size(text: str) -> int:
    """Return the bytes of a pageblock, from /proc/pagetypeinfo."""
    (pages,) = re.findall(r"^Pages per block: +(\d+)$", text, re.M)
    return int(pages) * PAGE


def cma_blocks(text: str) -> dict[str, int]:
    """Return the pageblocks of MIGRATE_CMA by zone, from /proc/pagetypeinfo."""
    _, _, table = text.partition("Number of blocks type")
    head, *rows = table.splitlines()
    column = head.split().index("CMA")
    found = (re.match(r"Node +\d+, zone +(\w+) (.*)", row) for row in rows)
    return {row[1]: int(row[2].split()[column]) for row in found if row}


def mapped(text: str) -> Iterator[range]:
    """Yield the stretches that lines of ARM's page-table dump show; those that touch are one."""
    start = end = 0
    for first, last in re.findall(r"^0x([0-9a-f]+)-0x([0-9a-f]+) ", text, re.M):
        if int(first, 16) != end:
            if end:
                yield range(start, end)
            start = int(first, 16)
        end = int(last, 16)
    if end:
        yield range(start, end)


def by_pages(text: str) -> str:
    """Return the dump's lines of page tables, not of sections."""
    return "".join(line for line in text.splitlines(keepends=True) if " PTE " in line)


def fills(text: str) -> dict[str, Fill]:
    """Return what `_FILL` printed."""
    return {
        name: Fill(int(full), int(after))
        for name, full, after in re.findall(r"^(\S+) (\d+) (\d+)$", text, re.M)
    }


def disagreements(facts: Facts) -> list[str]:
    """Return where the kernel's accounts of its areas differ; CmaTotal, zones, pageblocks."""
    areas = [area for area in facts.survey.areas if area.size]
    told = facts.survey.meminfo["CmaTotal"]
    counted = sum(area.size for area in areas)
    wrong = [f"CmaTotal is {told}, the areas have {counted}"] if told != counted else []
    for zone in facts.zones:
        inside = [area for area in areas if zone.holds(area)]
        pages = sum(area.size for area in inside) // PAGE
        idle = pages - sum(area.used for area in inside)
        blocks = facts.cma_blocks.get(zone.name, 0)
        if zone.cma != pages:
            wrong.append(f"{zone.name} has {zone.cma} pages of CMA, its areas {pages}")
        if blocks * facts.block != pages * PAGE:
            wrong.append(f"{zone.name} has {blocks} pageblocks of CMA, its areas {pages} pages")
        if zone.free_cma > idle:
            wrong.append(f"{zone.name} has {zone.free_cma} free pages of CMA, of {idle} not in use")
    if not facts.low_is_mapped():
        wrong.append("the linear map of low memory has a hole")
    homeless = [area.name for area in areas if not any(zone.holds(area) for zone in facts.zones)]
    managed = sum(zone.managed for zone in facts.zones) * PAGE
    if managed != facts.total:
        wrong.append(f"MemTotal is {facts.total}, the zones manage {managed}")
    return wrong + [f"{name} lies in no one zone" for name in homeless]
