"""The default area as Kconfig and the command line ask for it, and what is refused.

Sources are of 6.12: early_cma() and dma_contiguous_reserve() in kernel/dma/contiguous.c,
cma_declare_contiguous_nid() in mm/cma.c, dma_contiguous_remap() and atomic_pool_init() in
arch/arm/mm/dma-mapping.c; Documentation/admin-guide/kernel-parameters.txt, `cma=` and
`coherent_pool=`. A board's memory is at 0x40000000-0x60000000 here; with vmalloc=640M what is from
0x57000000 on is high memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from booted import BARE, KIB, MIB, TABLE, Facts, Fill, Scenario, disagreements, lost

from harness.cma.areas import PAGE
from harness.cma.helper import DEFAULT_DEVICE
from harness.config import Area

See = Callable[[Scenario], Facts]

POOL = 256 * KIB  # DEFAULT_DMA_COHERENT_POOL_SIZE
NOISE = 2 * PAGE  # early allocations that are no multiple of a page share their last one
NAME = "reserved"  # of an area that is no node's

KCONFIG = Scenario("kconfig")
SIZE = Scenario("size", "cma=21M")
FIXED = Scenario("fixed", "cma=16M@0x4c000000 coherent_pool=512K")
RANGE = Scenario("range", "cma=21M@0x48800000-0x50000000")
HIGH = Scenario("high", "cma=16M@0x5c000000 vmalloc=640M")
HIGHMEM = Scenario("vmalloc", "vmalloc=640M")
# More than the 144 MiB of high memory.
LARGE = Scenario("larger-than-high-memory", "cma=160M vmalloc=640M")
MADE = [
    pytest.param(each, id=each.name, marks=[pytest.mark.long] if each in (HIGH, HIGHMEM) else [])
    for each in (KCONFIG, SIZE, FIXED, RANGE, HIGH, HIGHMEM)
]


@pytest.fixture
def made(request: pytest.FixtureRequest, seen: See) -> Facts:
    """A boot with a default area and no other."""
    return seen(request.param)


def test_without_a_node_the_area_has_the_size_of_kconfig(seen: See) -> None:
    facts = seen(KCONFIG)
    assert facts.area.name == NAME
    assert facts.area.size == int(facts.config["CONFIG_CMA_SIZE_MBYTES"]) * MIB


def test_the_command_line_s_size_wins_over_kconfig_rounded_up_to_a_pageblock(seen: See) -> None:
    facts = seen(SIZE)
    assert facts.block == 4 * MIB
    assert (facts.area.name, facts.area.size) == (NAME, 24 * MIB)


def test_a_fixed_base_is_the_area_s_base(seen: See) -> None:
    area = seen(FIXED).area
    assert (area.base, area.size) == (0x4C000000, 16 * MIB)


@pytest.mark.long
def test_a_fixed_base_may_be_in_high_memory(seen: See) -> None:
    area = seen(HIGH).area
    assert (area.base, area.size) == (0x5C000000, 16 * MIB)


def test_an_area_with_a_range_lies_inside_it(seen: See) -> None:
    area = seen(RANGE).area
    assert area.size == 24 * MIB
    assert area.base >= 0x48800000
    assert area.end <= 0x50000000


OTHER_END = pytest.mark.since("6.1", "with vmalloc=, low memory ends 8 MiB later in 5.10")


# High memory is tried first, low memory where that has no room: cma_declare_contiguous_nid().
@pytest.mark.long
def test_an_area_without_a_base_goes_to_high_memory(seen: See) -> None:
    facts = seen(HIGHMEM)
    assert facts.area.base >= facts.low_end()


@pytest.mark.long
@OTHER_END
def test_an_area_with_no_room_in_high_memory_lies_in_low_memory_as_a_whole(seen: See) -> None:
    """3.18, "mm: cma: Ensure that reservations never cross the low/high mem boundary"."""
    facts = seen(LARGE)
    assert facts.low_end() == 0x57000000
    assert (facts.area.name, facts.area.size) == (NAME, 160 * MIB)
    assert facts.area.end <= facts.low_end()
    assert disagreements(facts) == []
    assert facts.fills == {NAME: Fill(160 * MIB // PAGE, facts.area.used)}


@pytest.mark.parametrize("made", MADE, indirect=True)
def test_the_area_is_aligned_to_pageblocks(made: Facts) -> None:
    assert made.area.base % made.block == 0
    assert made.area.size % made.block == 0


@pytest.mark.parametrize("made", MADE, indirect=True)
def test_the_kernel_s_accounts_of_the_area_agree(made: Facts) -> None:
    assert disagreements(made) == []


@pytest.mark.parametrize("made", MADE, indirect=True)
def test_the_area_is_free_to_its_last_page(made: Facts) -> None:
    area = made.area
    assert made.fills == {area.name: Fill(area.size // PAGE, area.used)}


# MemTotal counts a CMA area: its pages are the page allocator's too (init_cma_reserved_pageblock).
@pytest.mark.parametrize("made", MADE, indirect=True)
def test_the_area_s_memory_is_not_lost(made: Facts, seen: See) -> None:
    tables = made.area.size // TABLE * PAGE if made.area.end <= made.low_end() else 0
    assert abs(lost(made, seen(BARE)) - tables) <= NOISE


# Sections cannot change their attributes for a part: dma_contiguous_early_fixup() has it remapped.
@pytest.mark.parametrize("made", MADE, indirect=True)
def test_the_area_in_low_memory_is_mapped_by_pages(made: Facts) -> None:
    assert made.mapped_by_pages(made.area) == (made.area.end <= made.low_end())


@pytest.mark.parametrize("made", MADE, indirect=True)
def test_a_buffer_comes_from_the_area(made: Facts) -> None:
    address = made.buffers[DEFAULT_DEVICE]
    assert isinstance(address, int), address
    assert made.area.base <= address < made.area.end


@pytest.mark.parametrize(
    ("made", "pool"),
    [
        pytest.param(KCONFIG, POOL, id="kconfig"),
        pytest.param(FIXED, 512 * KIB, id="coherent_pool"),
        pytest.param(HIGH, POOL, id="high", marks=pytest.mark.long),
    ],
    indirect=["made"],
)
def test_the_atomic_pool_is_all_that_the_area_has_in_use(made: Facts, pool: int) -> None:
    assert made.said("DMA: ") == [
        f"preallocated {pool // KIB} KiB pool for atomic coherent allocations"
    ]
    assert made.area.used == pool // PAGE


def test_cma_0_makes_no_area(seen: See) -> None:
    facts = seen(BARE)
    assert facts.survey.areas == ()
    assert facts.survey.meminfo["CmaTotal"] == 0
    assert facts.said("cma: ") == []
    assert disagreements(facts) == []


def test_without_an_area_buffers_come_from_the_page_allocator(seen: See) -> None:
    assert isinstance(seen(BARE).buffers[DEFAULT_DEVICE], int)


def test_without_an_area_the_atomic_pool_does_too(seen: See) -> None:
    assert seen(BARE).said("DMA: ") == [
        "preallocated 1024 KiB pool for atomic coherent allocations"
    ]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A `cma=` that cannot be: what the kernel says before "Failed to reserve", of how many MiB."""

    scenario: Scenario
    says: tuple[str, ...] = ()
    mib: int = 16


BLOCK = Area(name="block", at=0x50000000, size=16 * MIB)


def refusal(
    name: str,
    append: str,
    *says: str,
    mib: int = 16,
    areas: tuple[Area, ...] = (),
    marks: tuple[pytest.MarkDecorator, ...] = (),
) -> object:
    """A case of the table below."""
    return pytest.param(Refusal(Scenario(name, append, areas), says, mib), id=name, marks=marks)


REFUSED = [
    refusal(
        "misaligned-base",
        "cma=16M@0x4c200000",
        "Region at 0x4c200000 must be aligned to 0x00400000 bytes",
    ),
    refusal("over-the-kernel", "cma=16M@0x40000000"),
    refusal(
        "across-the-end-of-low-memory",
        "cma=16M@0x56800000 vmalloc=640M",
        "Region at 0x56800000 defined on low/high memory boundary (0x57000000)",
        marks=(pytest.mark.long, OTHER_END),
    ),
    refusal(
        "behind-the-memory",
        "cma=16M@0x80000000",
        "Size (0x01000000) of region at 0x80000000 exceeds limit (0x60000000)",
        marks=(pytest.mark.long,),
    ),
    # Only 8 MiB of the range are left behind the node. Below it there is room.
    refusal(
        "no-room-in-the-range",
        "cma=12M@0x50000000-0x51800000",
        mib=12,
        areas=(BLOCK,),
        marks=(pytest.mark.long,),
    ),
    refusal("over-a-node", "cma=16M@0x50800000", areas=(BLOCK,), marks=(pytest.mark.long,)),
    refusal("over-the-initrd", "cma=16M@0x48000000", marks=(pytest.mark.long,)),
    refusal(
        "larger-than-its-range",
        "cma=16M@0x4c000000-0x4c800000",
        "Size (0x01000000) of region at 0x4c000000 exceeds limit (0x4c800000)",
        marks=(pytest.mark.long,),
    ),
    refusal("larger-than-the-memory", "cma=1G", mib=1024, marks=(pytest.mark.long,)),
]


@pytest.mark.parametrize("refused", REFUSED)
def test_a_refusal_says_why(refused: Refusal, seen: See) -> None:
    *reasons, last = seen(refused.scenario).said("cma: ")
    assert reasons == list(refused.says)
    assert re.fullmatch(rf"Failed to reserve {refused.mib} MiB(?: on node -1)?", last)


@pytest.mark.parametrize("refused", REFUSED)
def test_a_refusal_leaves_no_area_and_the_memory(refused: Refusal, seen: See) -> None:
    facts = seen(refused.scenario)
    nodes = refused.scenario.areas
    assert [area.name for area in facts.survey.areas] == [area.node for area in nodes]
    assert facts.survey.meminfo["CmaTotal"] == sum(area.size for area in nodes)
    assert disagreements(facts) == []
    tables = sum(area.size // TABLE * PAGE for area in nodes)
    assert abs(lost(facts, seen(BARE)) - tables) <= NOISE


@pytest.mark.parametrize("refused", REFUSED)
def test_after_a_refusal_buffers_come_from_the_page_allocator(refused: Refusal, seen: See) -> None:
    facts = seen(refused.scenario)
    assert isinstance(facts.buffers[DEFAULT_DEVICE], int)
    assert [area.used for area in facts.survey.areas] == [0 for _ in refused.scenario.areas]
