"""What `layout check` finds; the ground is virt's with linux 6.12.117, as guests showed it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from virt import DEFAULT, GROUND, HIGH, KERNEL, RAM, TAKEN, layout

from harness.config import MIB, Area, Carveout
from harness.layout.check import check
from harness.layout.cmdline import CmaParameter, cma, default_area, vmalloc
from harness.layout.ground import (
    Span,
    end_of_low_memory,
    loaded,
    merged,
)
from harness.layout.placing import place


def static(name: str, at: int, size: int = 16 * MIB) -> Area:
    return Area(name=name, at=at, size=size)


def test_qemu_puts_initrd_and_tree_where_a_guest_found_them():
    initrd, dtb = loaded(RAM, 512 * MIB, 6928384, 7795)
    assert (initrd.span, dtb.span) == (TAKEN[2].span, TAKEN[3].span)


@pytest.mark.parametrize(
    ("asked", "end"),
    [(None, 0x60000000), (640 * MIB, 0x57000000), (576 * MIB, 0x5B000000), (1 << 40, 0x42000000)],
)
def test_low_memory_ends_where_vmalloc_begins(asked, end):
    assert end_of_low_memory(RAM, KERNEL, asked) == end


def test_before_the_gap_was_counted_low_memory_ended_later():
    """A guest of 5.10.262: "HighMem [mem 0x5b800000-0x5fffffff]" with vmalloc=576M."""
    old = replace(KERNEL, vmalloc_gap=False)
    assert end_of_low_memory(RAM, old, 576 * MIB) == 0x5B800000
    assert end_of_low_memory(RAM, old, None) == end_of_low_memory(RAM, KERNEL, None)


def test_banks_that_touch_are_one():
    assert merged([Span(8, 9), Span(0, 4), Span(4, 6), Span(7, 7)]) == (Span(0, 6), Span(8, 9))


@pytest.mark.parametrize(
    ("words", "parameter"),
    [
        ("quiet", None),
        ("cma=64M", CmaParameter(64 * MIB)),
        ("cma=0", CmaParameter(0)),
        ("cma=1 cma=16m@0x4c000000", CmaParameter(16 * MIB, 0x4C000000, 0x4D000000)),
        ("cma=8M@1G-0x50000000", CmaParameter(8 * MIB, 1 << 30, 0x50000000)),
        ("cma=010M", CmaParameter(8 * MIB)),
        ("cma=nonsense", CmaParameter(0)),
    ],
)
def test_cma_is_read_as_the_kernel_reads_it(words, parameter):
    assert cma(words) == parameter


def test_a_base_with_its_own_end_as_limit_is_fixed():
    assert cma("cma=16M@0x4c000000").fixed
    assert not cma("cma=16M@0x4c000000-0x50000000").fixed
    assert not cma("cma=16M@0").fixed
    assert vmalloc("vmalloc=640M") == 640 * MIB


def test_the_default_area_is_a_node_or_the_command_line_s():
    assert default_area(layout(DEFAULT)) == "linux,cma"
    assert default_area(layout(cmdline="cma=8M")) == "reserved"
    assert default_area(layout(DEFAULT), "cma=0") is None


# Each of these places was seen in a guest: the nightly boots of every layout compare them.
@pytest.mark.parametrize(
    ("ground", "areas", "cmdline", "places"),
    [
        (GROUND, (Area(name="linux,cma", size="64M", default=True),), "", [0x5C000000]),
        (GROUND, (DEFAULT, Area(name="a", size="16M")), "", [0x5F000000, 0x5E000000]),
        (GROUND, (), "cma=64M", [0x5C000000]),
        (GROUND, (), "", [0x5F000000]),
        (GROUND, (), "cma=0", []),
        (HIGH, (Area(name="linux,cma", size="64M", default=True),), "", [0x5C000000]),
        (HIGH, (), "cma=160M", [0x4D000000]),
        (GROUND, (), "cma=21M@0x48800000-0x50000000", [0x4E800000]),
    ],
)
def test_areas_lie_where_memblock_puts_them(ground, areas, cmdline, places):
    placed = place(ground, layout(*areas, cmdline=cmdline))
    assert [each.span.start for each in placed] == places


def rules(found):
    return [(finding.level, finding.rule, finding.area) for finding in found]


E = "error"
CASES = {
    "zero size": (layout(DEFAULT, Area(name="a", size=0)), [(E, "zero-size", "a")]),
    "beside the kernel": (
        layout(DEFAULT, carveouts=(Carveout(name="a", at=0x4099A000, size="4K"),)),
        [(E, "no-early-memory", "a@4099a000")],
    ),
    "before the kernel": (
        layout(DEFAULT, carveouts=(Carveout(name="a", at=0x40003000, size="4K"),)),
        [(E, "no-early-memory", "a@40003000")],
    ),
    "beside the kernel, by whole entries": (
        layout(DEFAULT, carveouts=(Carveout(name="a", at=0x40A00000, size="2M"),)),
        [],
    ),
    "beside the kernel, but mapped": (
        layout(DEFAULT, carveouts=(Carveout(name="a", at=0x4099A000, size="4K", no_map=False),)),
        [],
    ),
    "size": (layout(DEFAULT, Area(name="a", size="6M")), [(E, "misaligned-size", "a")]),
    "base": (
        layout(DEFAULT, static("a", 0x50100000)),
        [(E, "misaligned-base", "a@50100000")],
    ),
    "alignment": (
        layout(DEFAULT, Area(name="a", size="16M", alignment="12M")),
        [(E, "misaligned-base", "a")],
    ),
    "areas": (
        layout(DEFAULT, static("a", 0x50000000), static("b", 0x50800000)),
        [(E, "overlap", "b@50800000")],
    ),
    "kernel": (
        layout(DEFAULT, static("a", 0x40000000)),
        [(E, "overlap", "a@40000000"), (E, "overlap", "a@40000000")],
    ),
    "initrd and dtb": (
        layout(DEFAULT, static("a", 0x48000000, 4 * MIB), static("b", 0x48400000)),
        [(E, "overlap", n) for n in ("a@48000000", "b@48400000", "b@48400000")],
    ),
    "no-map": (
        layout(
            DEFAULT,
            static("a", 0x50000000),
            carveouts=(Carveout(name="secure", at=0x50F00000, size="64K"),),
        ),
        [(E, "overlap", "a@50000000")],
    ),
    "beyond": (
        layout(DEFAULT, static("a", 0x80000000)),
        [(E, "beyond-memory", "a@80000000")],
    ),
    "half beyond": (
        layout(
            Area(name="d", size="16M", within=("0x50000000", "0x51000000"), default=True),
            static("a", 0x5F800000),
        ),
        [(E, "beyond-memory", "a@5f800000")],
    ),
    "range": (
        layout(DEFAULT, Area(name="a", size="32M", within=("0x50000000", "0x51000000"))),
        [(E, "no-room", "a")],
    ),
    "names": (
        layout(DEFAULT, static("a", 0x50000000), static("a", 0x54000000)),
        [(E, "name-twice", "a")],
    ),
    "reserved": (
        layout(Area(name="reserved", size="16M"), cmdline="cma=16M"),
        [(E, "name-twice", "reserved")],
    ),
    "static default": (
        layout(static("linux,cma", 0x50000000).model_copy(update={"default": True})),
        [(E, "static-default", "linux,cma@50000000")],
    ),
    "no default": (layout(), [(E, "no-default", "reserved")]),
    "two defaults": (
        layout(DEFAULT, DEFAULT.model_copy(update={"name": "b"})),
        [(E, "default-twice", "b")],
    ),
    "cma= and node": (
        layout(DEFAULT, cmdline="cma=16M"),
        [(E, "bypassed-default", "linux,cma")],
    ),
    "cma= odd size": (layout(cmdline="cma=21M"), [("warning", "misaligned-size", "reserved")]),
    "cma= odd base": (layout(cmdline="cma=16M@0x50100000"), [(E, "misaligned-base", "reserved")]),
    "cma= over the initrd": (
        layout(cmdline="cma=16M@0x48000000"),
        [(E, "overlap", "reserved"), (E, "overlap", "reserved")],
    ),
    "cma= too large": (layout(cmdline="cma=1G"), [(E, "no-room", "reserved")]),
    "too many": (
        layout(DEFAULT, *(static(f"a{n}", 0x50000000 + n * 8 * MIB, 4 * MIB) for n in range(7))),
        [(E, "too-many", "a6@53000000")],
    ),
    "nothing left": (
        layout(
            Area(name="linux,cma", size="372M", default=True),
            Area(name="b", size="108M"),
        ),
        [(E, "absurd-size", "")],
    ),
    "all of memory": (
        layout(Area(name="linux,cma", size="512M", default=True)),
        [(E, "absurd-size", "linux,cma"), (E, "no-room", "linux,cma")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_mistake_is_found_and_nothing_else(name):
    wrong, wanted = CASES[name]
    assert rules(check(GROUND, wrong)) == wanted


def test_the_low_memory_boundary_counts_for_static_and_dynamic_areas():
    across = layout(
        Area(name="linux,cma", size="160M", default=True), static("a", 0x56C00000, 8 * MIB)
    )
    found = check(HIGH, across)
    assert (E, "across-boundary", "a@56c00000") in rules(found)
    only = check(HIGH, layout(Area(name="linux,cma", size="160M", default=True)))
    assert rules(only) == [(E, "across-boundary", "linux,cma")]
    assert "where the kernel will put it" in only[0].message


def test_a_kernel_that_sets_static_nodes_up_early_has_one_default_area():
    early = replace(GROUND, kernel=replace(KERNEL, static_late=False))
    assert check(early, CASES["static default"][0]) == ()


@pytest.mark.parametrize(
    ("wrong", "fix"),
    [
        (layout(DEFAULT, Area(name="a", size="6M")), "the nearest: 4M or 8M"),
        (layout(DEFAULT, static("a", 0x50100000)), "the nearest free place for 16M is 0x50000000"),
        (layout(DEFAULT, static("a", 0x48000000)), "the nearest free place for 16M is 0x48800000"),
        (layout(DEFAULT, static("a", 0x80000000)), "the nearest free place for 16M is 0x5e000000"),
        (layout(DEFAULT, Area(name="a", size="6K")), "the nearest: 4M"),
    ],
)
def test_the_nearest_valid_value_is_told(wrong, fix):
    assert fix in [finding.fix for finding in check(GROUND, wrong)]


spots = st.builds(
    lambda base, blocks, odd: Span.of(base * 4 * MIB + odd, blocks * 4 * MIB),
    st.integers(0xFE, 0x182),
    st.integers(1, 12),
    st.sampled_from([0, 0, 0, 4096, 2 * MIB]),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(spots, min_size=1, max_size=5), st.sampled_from([GROUND, HIGH]))
def test_what_passes_overlaps_nothing_and_is_aligned_memory(chosen, ground):
    areas = tuple(
        Area(name=f"a{n}", at=span.start, size=span.size) for n, span in enumerate(chosen)
    )
    asked = layout(*areas, Area(name="linux,cma", size="8M", default=True))
    if any(finding.level == "error" for finding in check(ground, asked)):
        return
    every = [*chosen, *(region.span for region in TAKEN)]
    every += [each.span for each in place(ground, asked) if not each.static]
    assert not any(one.overlaps(other) for n, one in enumerate(every) for other in every[n + 1 :])
    for span in chosen:
        assert span.start % (4 * MIB) == 0
        assert any(span.within(bank) for bank in RAM)
        assert not span.start < ground.low_end < span.end


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(spots, min_size=1, max_size=5))
def test_the_nearest_place_that_is_told_is_one(chosen):
    areas = [Area(name=f"a{n}", at=span.start, size=span.size) for n, span in enumerate(chosen)]
    asked = layout(DEFAULT, *areas)
    found = check(GROUND, asked)
    for index, area in enumerate(areas):
        told = [f.fix for f in found if f.area == area.node and " is 0x" in f.fix]
        if told:
            base = int(told[0].rpartition(" ")[2], 16)
            moved = [*areas]
            moved[index] = area.model_copy(update={"at": base})
            still = check(GROUND, layout(DEFAULT, *moved))
            assert not [f for f in still if f.area == f"a{index}@{base:x}" and f.rule != "too-many"]
