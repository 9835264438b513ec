"""The areas that nodes of the device tree ask for: made, bypassed, refused, not activated.

Sources are of 6.12: drivers/of/of_reserved_mem.c, rmem_cma_setup() in kernel/dma/contiguous.c,
cma_activate_area() in mm/cma.c, init_cma_reserved_pageblock() in mm/mm_init.c, and
Documentation/devicetree/bindings/reserved-memory/shared-dma-pool.yaml in dtschema. Memory is at
0x40000000-0x60000000 here, as tests/target/conftest.py sees to; with vmalloc=640M what is from
0x57000000 on is high memory.
"""

from __future__ import annotations

from collections.abc import Callable

import libfdt
import pytest
from booted import BARE, MIB, TABLE, Facts, Fill, Scenario, disagreements, lost

from harness.cma.areas import PAGE, LiveArea
from harness.cma.helper import DEFAULT_DEVICE
from harness.cma.reality import differences
from harness.config import Area
from harness.errors import GuestError

See = Callable[[Scenario], Facts]

NOISE = 8 * PAGE  # early allocations grow with the tree; the smallest area has 1024 pages
DEFAULT = Area(name="linux,cma", size=16 * MIB, default=True)
STATIC = Area(name="linux,cma", size=16 * MIB, at=0x50000000, default=True)

# As many areas as CONFIG_CMA_AREAS allows: side by side, apart, and on either side of where high
# memory begins.
SEVEN = Scenario(
    "seven",
    "vmalloc=640M",
    (
        DEFAULT,
        Area(name="first", at=0x50400000, size=4 * MIB),
        Area(name="second", at=0x50800000, size=12 * MIB, device="cma-test"),
        Area(name="apart", at=0x54000000, size=4 * MIB),
        Area(name="last-low", at=0x56C00000, size=4 * MIB),
        Area(name="first-high", at=0x57000000, size=8 * MIB, device="cma-test-high"),
        Area(name="found", size=8 * MIB, alignment=8 * MIB),
    ),
)
# The same number beside the default area of Kconfig: one too many.
FULL = Scenario(
    "full",
    "",
    tuple(Area(name=f"area{n}", at=0x50000000 + n * 8 * MIB, size=4 * MIB) for n in range(7)),
)
FOUND = Scenario("full-dynamic", "", tuple(Area(name=f"area{n}", size=4 * MIB) for n in range(7)))
BYPASSED = Scenario("bypassed", "cma=12M", (STATIC,))
NO_CMA = Scenario("no-cma-beside-a-node", "cma=0", (STATIC,))
BOTH = Scenario("static-default", "", (STATIC,))


def _disguise(tree: libfdt.Fdt) -> None:
    """Make of three areas what is none."""
    parent = tree.path_offset("/reserved-memory")
    tree.setprop_str(tree.subnode_offset(parent, "disabled@50000000"), "status", "disabled")
    tree.delprop(tree.subnode_offset(parent, "kept@51000000"), "reusable")


def _unmap(tree: libfdt.Fdt) -> None:
    """Forbid to map an area's memory."""
    parent = tree.path_offset("/reserved-memory")
    tree.setprop(tree.subnode_offset(parent, "no-map@52000000"), "no-map", b"")


NO_MAP = Scenario("no-map", "", (DEFAULT, Area(name="no-map", at=0x52000000, size=8 * MIB)), _unmap)
DISGUISED = Scenario(
    "disguised",
    "",
    (
        DEFAULT,
        Area(name="disabled", at=0x50000000, size=8 * MIB),
        Area(name="kept", at=0x51000000, size=8 * MIB),
        Area(name="odd-size", at=0x53000000, size=6 * MIB),
        Area(name="odd-base", at=0x54200000, size=8 * MIB),
    ),
    _disguise,
)


def _plain(tree: libfdt.Fdt) -> None:
    """Make of an area memory that is reserved and nothing else, and let another ask for 4 KiB."""
    parent = tree.path_offset("/reserved-memory")
    for name in ("reusable", "compatible"):
        tree.delprop(tree.subnode_offset(parent, "firmware@5ff00000"), name)
    cells = tree.getprop(0, "#address-cells").as_uint32()
    alignment = PAGE.to_bytes(4 * cells, "big")
    tree.setprop(tree.subnode_offset(parent, "linux,cma"), "alignment", alignment)


# The highest free memory ends in the middle of a pageblock.
BELOW_FIRMWARE = Scenario(
    "below-firmware", "", (DEFAULT, Area(name="firmware", at=0x5FF00000, size=MIB)), _plain
)
# ZONE_MOVABLE begins 200 MiB from the start, at 0x4c800000.
ACROSS = Scenario(
    "across-movable",
    "kernelcore=200M",
    (
        DEFAULT,
        Area(name="across", at=0x4C000000, size=16 * MIB, device="cma-test"),
        Area(name="below", at=0x4A000000, size=8 * MIB),
    ),
)
ACROSS_HIGH = Scenario(
    "across-high",
    "vmalloc=640M",
    (DEFAULT, Area(name="across", at=0x56000000, size=32 * MIB, device="cma-test")),
)


def areas(facts: Facts) -> list[LiveArea]:
    """The areas that were activated; one that was not is left with a count of 0."""
    return [area for area in facts.survey.areas if area.size]


def tables(*stretches: Area | LiveArea) -> int:
    """How many bytes of page tables low memory needs to be mapped by pages there."""
    return sum(area.size // TABLE * PAGE for area in stretches)


def test_every_area_is_where_and_what_its_node_says(seen: See) -> None:
    facts = seen(SEVEN)
    assert int(facts.config["CONFIG_CMA_AREAS"]) == len(SEVEN.areas)
    assert differences(SEVEN.layout, facts.survey) == ()


# A dynamic node is placed before dma_contiguous_reserve() looks for a default area.
def test_a_dynamic_default_node_wins_over_kconfig(seen: See) -> None:
    facts = seen(SEVEN)
    default = facts.survey.area("linux,cma")
    address = facts.buffers[DEFAULT_DEVICE]
    assert isinstance(address, int)
    assert default.base <= address < default.end
    assert facts.said("cma: ") == []


ONE_MORE_SLOT = pytest.mark.since("6.12", "before, there is a slot more: 1 + CONFIG_CMA_AREAS")


@ONE_MORE_SLOT
@pytest.mark.long
def test_an_area_too_many_is_refused_and_the_others_work(seen: See) -> None:
    """cma_init_reserved_mem(). 6.12 makes Kconfig's area before those of static nodes."""
    facts = seen(FULL)
    assert facts.said("cma: ")[-1] == "Not enough slots for CMA reserved regions!"
    assert facts.said("Reserved memory: ")[-1] == "unable to setup CMA region"
    there = {area.name for area in areas(facts)}
    assert len(there) == int(facts.config["CONFIG_CMA_AREAS"])
    assert there - {area.node for area in FULL.areas} == {"reserved"}
    assert disagreements(facts) == []


@ONE_MORE_SLOT
@pytest.mark.long
def test_without_a_free_slot_there_is_no_default_area_and_buffers_come_from_the_buddy(
    seen: See,
) -> None:
    """cma_declare_contiguous_nid(): dynamic nodes have their slots before Kconfig's area."""
    facts = seen(FOUND)
    assert facts.said("cma: ")[0] == "Not enough slots for CMA reserved regions!"
    assert differences(FOUND.layout, facts.survey) == ()
    address = facts.buffers[DEFAULT_DEVICE]
    assert isinstance(address, int)
    assert [area.name for area in areas(facts) if area.base <= address < area.end] == []


@pytest.mark.long
def test_a_dynamic_area_is_aligned_to_pageblocks_whatever_its_node_asks_for(seen: See) -> None:
    """__reserved_mem_alloc_size(): "Need adjust the alignment to satisfy the CMA requirement"."""
    facts = seen(BELOW_FIRMWARE)
    assert [area.name for area in facts.survey.areas] == [DEFAULT.node]
    assert (facts.area.base, facts.area.size) == (0x5EC00000, DEFAULT.size)


@pytest.mark.parametrize("scenario", [SEVEN, DISGUISED, ACROSS, BYPASSED], ids=lambda s: s.name)
def test_the_kernel_s_accounts_of_the_areas_agree(scenario: Scenario, seen: See) -> None:
    assert disagreements(seen(scenario)) == []


@pytest.mark.parametrize("scenario", [SEVEN, ACROSS, BYPASSED], ids=lambda s: s.name)
def test_every_area_is_free_to_its_last_page(scenario: Scenario, seen: See) -> None:
    facts = seen(scenario)
    assert {name: fill for name, fill in facts.fills.items() if fill.full} == {
        area.name: Fill(area.size // PAGE, area.used) for area in areas(facts)
    }


@pytest.mark.parametrize("scenario", [SEVEN, ACROSS, BYPASSED], ids=lambda s: s.name)
def test_every_area_in_low_memory_is_mapped_by_pages(scenario: Scenario, seen: See) -> None:
    facts = seen(scenario)
    low = [area for area in areas(facts) if area.end <= facts.low_end()]
    assert low
    assert [area.name for area in low if not facts.mapped_by_pages(area)] == []


def test_the_areas_memory_is_not_lost(seen: See) -> None:
    facts = seen(SEVEN)
    low = [area for area in areas(facts) if area.end <= facts.low_end()]
    assert abs(lost(facts, seen(BARE)) - tables(*low)) <= NOISE


def test_only_the_default_area_is_in_use_after_the_boot(seen: See) -> None:
    facts = seen(SEVEN)
    assert {area.name: area.used for area in areas(facts) if area.used} == {
        "linux,cma": int(facts.said("DMA: preallocated ")[0].split()[0]) * 1024 // PAGE
    }


@pytest.mark.parametrize("area", [SEVEN.areas[2], SEVEN.areas[5]], ids=["low", "high"])
def test_a_device_s_buffer_comes_from_its_own_area(area: Area, seen: See) -> None:
    facts = seen(SEVEN)
    live = facts.survey.area(area.node)
    assert facts.buffers[f"{DEFAULT_DEVICE}-{area.node}"] == live.base


# The last two are less aligned than a pageblock, which migratetypes are of.
@pytest.mark.parametrize("node", DISGUISED.areas[1:], ids=lambda node: node.name)
def test_what_cannot_be_lent_by_the_pageblock_is_no_area(node: Area, seen: See) -> None:
    assert node.node not in [area.name for area in seen(DISGUISED).survey.areas]


@pytest.mark.long
def test_memory_that_may_not_be_mapped_is_no_area(seen: See) -> None:
    """The binding: "reusable" lets the kernel use the memory meanwhile, which no-map forbids.

    6.12 gives it back to itself, 5.10 and 7.3 leave it out of the linear map as they are told.
    """
    assert [area.name for area in seen(NO_MAP).survey.areas] == ["linux,cma"]


def test_too_little_alignment_is_told_for_each_node(seen: See) -> None:
    said = seen(DISGUISED).said("Reserved memory: ")
    assert said.count("incorrect alignment of CMA region") == 2


def test_the_memory_of_nodes_that_are_no_areas_is_given_back(seen: See) -> None:
    facts = seen(DISGUISED)
    # dma_contiguous_early_fixup() is called before they are refused.
    remapped = [area for area in DISGUISED.areas if area.name in ("odd-size", "odd-base")]
    assert abs(lost(facts, seen(BARE)) - tables(*areas(facts), *remapped)) <= NOISE


# Since 5.6, "dma-contiguous: CMA: give precedence to cmdline".
def test_the_command_line_wins_over_a_static_default_node(seen: See) -> None:
    facts = seen(BYPASSED)
    assert [(area.name, area.size) for area in facts.survey.areas] == [("reserved", 12 * MIB)]
    # What 7.3 says instead of 5.10 and 6.12.
    skipped = 'Skipping dt linux,cma-default node in favor for "cma=" kernel param.'
    bypassed = "bypass linux,cma@50000000 node, using cmdline CMA params instead"
    assert skipped in facts.log or facts.said("Reserved memory: ") == [bypassed]
    address = facts.buffers[DEFAULT_DEVICE]
    assert isinstance(address, int)
    assert facts.area.base <= address < facts.area.end


def test_the_memory_of_a_bypassed_node_is_given_back(seen: See) -> None:
    facts = seen(BYPASSED)
    assert abs(lost(facts, seen(BARE)) - tables(*areas(facts), STATIC)) <= NOISE


@pytest.mark.long
def test_cma_0_wins_over_a_static_default_node(seen: See) -> None:
    facts = seen(NO_CMA)
    assert facts.survey.areas == ()
    assert facts.survey.meminfo["CmaTotal"] == 0
    assert isinstance(facts.buffers[DEFAULT_DEVICE], int)


@pytest.mark.long
def test_a_static_default_node_wins_over_kconfig(seen: See) -> None:
    assert [area.name for area in seen(BOTH).survey.areas] == ["linux,cma@50000000"]


@pytest.mark.long
def test_a_static_default_node_is_where_buffers_come_from(seen: See) -> None:
    facts = seen(BOTH)
    default = facts.survey.area("linux,cma@50000000")
    address = facts.buffers[DEFAULT_DEVICE]
    assert isinstance(address, int)
    assert default.base <= address < default.end
    assert disagreements(facts) == []


@pytest.mark.parametrize(
    "scenario",
    [ACROSS, pytest.param(ACROSS_HIGH, marks=pytest.mark.long)],
    ids=["movable", "high"],
)
class TestAcrossZones:
    """An area with pages of two zones cannot be migrated as one: its activation fails."""

    def test_it_is_told_and_counts_for_nothing(self, scenario: Scenario, seen: See) -> None:
        facts = seen(scenario)
        node = scenario.areas[1].node
        assert facts.said("cma: ") == [f"CMA area {node} could not be activated"]
        # 7.3 does not show it any more.
        left = [area for area in facts.survey.areas if area.name == node]
        assert all((area.size, area.used) == (0, 0) for area in left)
        assert disagreements(facts) == []

    # 3a5139f1c5bb ("cma: don't quit at first error when activating reserved areas"), 5.9
    def test_the_others_are_activated(self, scenario: Scenario, seen: See) -> None:
        wanted = {area.node: area.size for area in scenario.areas if area.name != "across"}
        assert {area.name: area.size for area in areas(seen(scenario))} == wanted

    # As cma_activate_area() says: its pages are of no use for CMA.
    def test_its_memory_is_given_to_the_page_allocator(self, scenario: Scenario, seen: See) -> None:
        facts = seen(scenario)
        end = facts.low_end()
        low = [area for area in areas(facts) if area.end <= end]
        across = scenario.areas[1]
        assert across.at is not None
        below = min(across.at + across.size, end) - across.at
        assert abs(lost(facts, seen(BARE)) - tables(*low) - below // TABLE * PAGE) <= NOISE

    def test_its_device_gets_no_buffer_and_no_fault(self, scenario: Scenario, seen: See) -> None:
        facts = seen(scenario)
        assert facts.buffers[f"{DEFAULT_DEVICE}-{scenario.areas[1].node}"] == "ENOSPC"
        assert isinstance(facts.buffers[DEFAULT_DEVICE], int)


# Each is a defect of some kernels: configs/defects.toml.
REFUSED = [
    Scenario("a-dynamic-default-node-that-cma-bypasses", "cma=12M", (DEFAULT,)),
    Scenario("a-dynamic-node-of-6-MiB", "", (Area(name="odd", size=6 * MIB),)),
    Scenario("a-static-node-of-1-MiB", "", (DEFAULT, Area(name="odd", at=0x50100000, size=MIB))),
    Scenario(
        "nodes-that-overlap",
        "",
        (
            Area(name="one", at=0x50000000, size=16 * MIB),
            Area(name="odd", at=0x50800000, size=16 * MIB),
        ),
    ),
    Scenario("a-node-over-the-kernel", "", (Area(name="odd", at=0x40000000, size=16 * MIB),)),
    Scenario("a-node-behind-the-memory", "", (Area(name="odd", at=0x80000000, size=16 * MIB),)),
]


@pytest.mark.long
@pytest.mark.parametrize("scenario", REFUSED, ids=lambda scenario: scenario.name)
def test_a_node_that_cannot_be_is_refused_and_the_kernel_boots(
    scenario: Scenario, seen: See
) -> None:
    try:
        facts = seen(scenario)
    except GuestError as error:
        pytest.fail(f"the kernel does not boot: {error.what.splitlines()[0]}")
    assert disagreements(facts) == []
    assert "odd" not in [area.name.partition("@")[0] for area in facts.survey.areas]
