"""Real boards' trees, in small: what of their reserved memory a layout has, and what is said."""

from __future__ import annotations

import shutil
import subprocess
import tomllib

import pytest
from virt import GROUND

from harness.board import blob
from harness.config import MIB, Layout, load_layout
from harness.errors import ConfigError, UsageError
from harness.layout import realboard
from harness.layout.check import check
from harness.layout.ground import NODE_BYTES, Kind, Span
from harness.layout.transplant import transplant
from harness.layout.written import toml

# Memory at 0x10000000 and, above 4 GiB, at 0x200000000: 256 MiB and 64 MiB.
BOARD = """/dts-v1/;
/memreserve/ 0x10000000 0x1000;
/ {
	model = "Some \\"board\\"";
	#address-cells = <2>;
	#size-cells = <1>;
	chosen { bootargs = "quiet %s"; };
	memory@10000000 { device_type = "memory"; reg = <0 0x10000000 0x10000000>; };
	memory@200000000 { device_type = "memory"; reg = <2 0 0x4000000>; };
	reserved-memory {
		#address-cells = <2>;
		#size-cells = <1>;
		ranges;
		%s
	};
	soc {
		#address-cells = <1>;
		#size-cells = <1>;
		vpu@1000 { memory-region = <&vpu>; };
		gpu@2000 { memory-region = <&vpu>; status = "disabled"; };
	};
};
"""
VPU = "vpu: vpu@18000000 { POOL reg = <0 0x18000000 0x%x>; };"
DEFAULT = "linux,cma { POOL size = <0x2000000>; %s };"
POOL = 'compatible = "shared-dma-pool"; reusable;'
SHARED = "linux,cma-default;"


def imported(tmp_path, *nodes, bootargs="", vpu=VPU % 0x1000000):
    source, tree = tmp_path / "board.dts", tmp_path / "board.dtb"
    source.write_text(BOARD % (bootargs, "\n".join((vpu, *nodes)).replace("POOL", POOL)))
    command = ["dtc", "-q", "-I", "dts", "-O", "dtb", "-o", tree, source]
    subprocess.run(command, check=True)
    found = transplant(realboard.read(blob.read(tree)), GROUND, "board")
    # Whatever the board had, the result is a file that reads, and a layout without an error.
    file = tmp_path / "board.toml"
    file.write_text(toml(found, "board.dtb"))
    assert load_layout(str(file)) == found.layout
    assert [each for each in check(GROUND, found.layout) if each.level == "error"] == []
    return found.layout, "\n".join(map(str, found.notes))


def test_a_static_area_lies_as_deep_in_memory_as_on_the_board(tmp_path):
    layout, said = imported(tmp_path, DEFAULT % SHARED)
    vpu, shared = layout.area
    assert (vpu.at, vpu.size, vpu.device) == (0x48800000, 16 * MIB, "cma-test-vpu")
    assert (shared.size, shared.default, shared.at) == (32 * MIB, True, None)
    assert "0x18000000 became 0x48800000, the nearest free place to 0x48000000" in said
    assert "for /soc/vpu@1000, /soc/gpu@2000 (disabled)" in said
    assert layout.carveout[0].name == "memreserve"


def test_memory_in_several_banks_is_counted_over_the_hole(tmp_path):
    high = "h@201000000 { POOL reg = <2 0x1000000 0x800000>; };"
    layout, _said = imported(tmp_path, DEFAULT % SHARED, high)
    assert next(area.at for area in layout.area if area.name == "h") == 0x51000000


def test_a_static_default_area_becomes_a_range_of_its_size(tmp_path):
    node = VPU % 0x1000000
    layout, said = imported(tmp_path, vpu=node.replace("POOL", f"POOL {SHARED}"))
    (area,) = layout.area
    assert (area.at, area.within, area.default) == (None, (0x48800000, 0x49800000), True)
    assert "a range of its size for 'reg'" in said


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (
            'a { compatible = "shared-dma-pool"; no-map; size = <0x100000>; };',
            "coherent pool of 1M",
        ),
        ('a@1 { compatible = "ramoops"; reg = <0 0x1 0x1000>; };', "ramoops at 0x1-0x1001: not in"),
        (
            'a { POOL size = <0x100000>; status = "disabled"; };',
            "left out: /reserved-memory/a: status = 'disabled'",
        ),
        ("a { POOL size = <0>; };", "its size is 0"),
        ("a { };", "with neither 'reg' nor 'size'"),
        (
            "a { POOL size = <0x400000>; alignment = <0 12288>; };",
            "alignment 0x3000: no power of two",
        ),
        (
            "a { POOL size = <0x600000>; };",
            "6M became 8M: a pageblock has 4M",
        ),
        (
            "a { POOL size = <0x400000>; alloc-ranges = <0 0x90000000 0x1000000>; };",
            "0x90000000-0x91000000: no memory is there",
        ),
        (
            "a { POOL size = <0x400000>;"
            " alloc-ranges = <0 0x14000000 0x1000000>, <0 0x16000000 0x1000000>; };",
            "0x16000000-0x17000000: a layout has one range",
        ),
        (
            "a@14000000 { POOL reg = <0 0x14000000 0x400000>, <0 0x15000000 0x1000>; };",
            "an area of the first range",
        ),
    ],
)
def test_what_is_not_carried_over_is_said(tmp_path, node, text):
    _layout, said = imported(tmp_path, DEFAULT % SHARED, node)
    assert text in said


def test_other_reserved_memory_stays_away_from_everybody(tmp_path):
    secure = "tz@14000000 { no-map; reg = <0 0x14000000 0x100000>; };"
    log = 'log@15000000 { compatible = "ramoops"; reg = <0 0x15000000 0x10000>; };'
    layout, _said = imported(tmp_path, DEFAULT % SHARED, secure, log)
    places = {each.name: (each.at, each.no_map) for each in layout.carveout}
    assert places["tz"] == (0x44000000, True)
    assert places["log"] == (0x45000000, False)


def test_other_reserved_memory_leaves_the_kernel_half(tmp_path):
    firmware = [
        f"fw@1{digit}000000 {{ no-map; reg = <0 0x1{digit}000000 0x4000000>; }};"
        for digit in "048c"
    ]
    beyond = "far@200000000 { no-map; reg = <2 0 0x4000000>; };"
    layout, said = imported(tmp_path, *firmware, beyond, vpu="vpu: vpu {};")
    assert sum(each.size for each in layout.carveout) <= GROUND.memory // 2
    assert "memory without a driver of 64M: the others have 256M of 512M" in said


@pytest.mark.parametrize("address", [0x10003000, 0x10990000, 0x10BFF000])
def test_what_is_not_mapped_stays_away_from_the_kernel(tmp_path, address):
    near = f"tz@{address:x} {{ no-map; reg = <0 {address:#x} 0x1000>; }};"
    layout, _said = imported(tmp_path, DEFAULT % SHARED, near)
    (tz,) = [each for each in layout.carveout if each.name == "tz"]
    assert tz.at == 0x40C00000


def test_a_tree_grows_with_what_is_imported(tmp_path):
    dtb = next(region.span for region in GROUND.taken if region.kind is Kind.DTB)
    beside = dtb.end // 4096 * 4096 + 4096 - GROUND.ram[0].start + 0x10000000
    logs = [
        f"log@{beside + number * 4096:x} {{ reg = <0 {beside + number * 4096:#x} 0x1000>; }};"
        for number in range(20)
    ]
    layout, _said = imported(tmp_path, DEFAULT % SHARED, *logs)
    at = min(each.at for each in layout.carveout if each.name.startswith("log"))
    assert at >= dtb.end + 20 * 2 * NODE_BYTES


def test_areas_too_large_for_the_board_become_smaller(tmp_path):
    large = "g { POOL size = <0x40000000>; };"
    layout, said = imported(tmp_path, DEFAULT % SHARED, large)
    assert next(area.size for area in layout.area if area.name == "g") < 400 * MIB
    assert "1G became" in said


def test_bootargs_that_ask_for_an_area_pass_the_node_over(tmp_path):
    layout, said = imported(tmp_path, DEFAULT % SHARED, bootargs="cma=30M@0x14000000 vmalloc=300M")
    assert layout.cmdline == "cma=32M"
    assert [area.name for area in layout.area] == ["vpu"]
    assert "cma=30M@0x14000000 became cma=" in said
    assert "passes it over for 'cma='" in said


def test_without_a_default_node_the_command_line_has_kconfig_s(tmp_path):
    layout, said = imported(tmp_path)
    assert layout.cmdline == "cma=16M"
    assert "no node is it" in said


def test_more_areas_than_slots_are_left_out(tmp_path):
    many = [f"a{n} {{ POOL size = <0x400000>; }};" for n in range(9)]
    layout, said = imported(tmp_path, DEFAULT % SHARED, *many)
    assert len(layout.area) == GROUND.kernel.slots
    assert said.count("this kernel has 7 slots") == 4


def test_a_tree_without_memory_is_taken_for_one_from_a_round_address():
    board = realboard.RealBoard("x", (), (), (), "")
    found = transplant(board, GROUND, "x")
    assert "the tree has no memory" in str(found.notes[0])
    assert isinstance(found.layout, Layout)


def test_a_text_of_the_tree_does_not_break_the_file(tmp_path):
    layout, _said = imported(tmp_path, DEFAULT % SHARED)
    found = transplant(realboard.RealBoard('a"\\\x1b[31m', (), (), (), ""), GROUND, "x")
    text = toml(found, 'b"\n[[area]].dtb')
    assert tomllib.loads(text)["description"].endswith('a"\\?[31m')
    assert "area" not in tomllib.loads(text)
    assert layout.area


def test_what_is_no_device_tree_is_told(tmp_path):
    file = tmp_path / "x.dtb"
    file.write_bytes(b"nothing of the sort, but long enough for a header of a tree....")
    with pytest.raises(ConfigError, match="no device tree"):
        blob.read(file)
    with pytest.raises(UsageError, match="no such file"):
        blob.read(tmp_path / "y.dtb")


@pytest.mark.skipif(not shutil.which("arm-linux-gnueabihf-cpp"), reason="the cross cpp of gcc")
def test_a_dts_is_preprocessed_and_compiled(tmp_path):
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "size.h").write_text("#define LENGTH 0x1000000\n")
    source = tmp_path / "board.dts"
    text = BOARD % ("", VPU.replace("0x%x", "LENGTH").replace("POOL", POOL))
    source.write_text(text.replace("/dts-v1/;", '/dts-v1/;\n#include "size.h"', 1))
    board = realboard.read(blob.read(source, [tmp_path / "include"], "arm-linux-gnueabihf-cpp"))
    assert board.reservations[0].spans == (Span(0x18000000, 0x19000000),)
    assert board.ram == (Span(0x10000000, 0x20000000), Span(0x200000000, 0x204000000))
