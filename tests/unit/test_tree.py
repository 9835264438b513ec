"""The overlay that a layout gives, and the check of the merged tree."""

from __future__ import annotations

import subprocess

import libfdt
import pytest

from harness.board import tree
from harness.config import MIB, Area, Carveout, Layout, load_layout
from harness.errors import ConfigError

BASE = """/dts-v1/;
/ {
	#address-cells = <%d>;
	#size-cells = <%d>;
	%s
};
"""


def merged(tmp_path, layout, cells=(2, 2), extra=""):
    """Compile a base tree, and apply the layout's overlay with the tools of dtc."""
    base, overlay = tmp_path / "base.dts", tmp_path / "overlay.dts"
    base.write_text(BASE % (*cells, extra))
    overlay.write_text(tree.render(layout, *cells))
    for source in (base, overlay):
        command = ["dtc", "-q", "-@", "-O", "dtb", "-o", source.with_suffix(".dtb"), source]
        subprocess.run(command, check=True)
    blob = tmp_path / "merged.dtb"
    subprocess.run(
        ["fdtoverlay", "-i", base.with_suffix(".dtb"), "-o", blob, overlay.with_suffix(".dtb")],
        check=True,
    )
    return libfdt.Fdt(blob.read_bytes())


@pytest.mark.parametrize("cells", [(1, 1), (2, 2), (2, 1)])
def test_each_area_is_a_reusable_pool_of_its_size(tmp_path, cells):
    blob = merged(tmp_path, load_layout("two-areas"), cells)
    tree.check(blob, load_layout("two-areas"))
    node = blob.path_offset("/reserved-memory/private")
    assert blob.getprop(node, "compatible").as_str() == "shared-dma-pool"
    assert int.from_bytes(bytes(blob.getprop(node, "size")), "big") == 16 * MIB
    assert len(bytes(blob.getprop(node, "size"))) == 4 * cells[1]
    device = blob.path_offset("/cma-test")
    assert blob.getprop(device, "memory-region").as_uint32() == blob.get_phandle(node)


def test_alignment_is_written_with_address_cells(tmp_path):
    layout = Layout(name="l", description="", area=(Area(name="a", size="8M", alignment="8M"),))
    blob = merged(tmp_path, layout, (2, 1))
    raw = bytes(blob.getprop(blob.path_offset("/reserved-memory/a"), "alignment"))
    assert raw == (8 * MIB).to_bytes(8, "big")


def test_nodes_stand_in_the_order_of_the_layout(tmp_path):
    areas = tuple(Area(name=name, size="4M") for name in ("c", "a", "b"))
    layout = Layout(name="l", description="", area=areas)
    tree.check(merged(tmp_path, layout), layout)
    swapped = Layout(name="l", description="", area=(areas[1], areas[0], areas[2]))
    with pytest.raises(ConfigError, match="wanted a, c, b"):
        tree.check(merged(tmp_path, layout), swapped)


def test_a_tree_that_is_not_the_layout_s_is_refused(tmp_path):
    layout = load_layout("default")
    blob = merged(tmp_path, layout)
    (area,) = layout.area
    larger = layout.model_copy(update={"area": (area.model_copy(update={"size": 128 * MIB}),)})
    with pytest.raises(ConfigError, match=r"'linux,cma' .* wrong size"):
        tree.check(blob, larger)
    private = layout.model_copy(update={"area": (area.model_copy(update={"default": False}),)})
    with pytest.raises(ConfigError, match="wrong linux,cma-default"):
        tree.check(blob, private)


@pytest.mark.parametrize(
    ("value", "count", "text"),
    [(0x4000000, 2, "0x0 0x4000000"), (1 << 32, 2, "0x1 0x0"), (7, 1, "0x7")],
)
def test_cells(value, count, text):
    assert tree.cells(value, count) == text


def test_a_size_that_does_not_fit_its_cells_is_refused():
    with pytest.raises(ConfigError, match="does not fit in 1 cell"):
        tree.cells(1 << 32, 1)


def test_a_static_area_has_a_unit_address_and_a_region(tmp_path):
    layout = Layout(name="l", description="", area=(Area(name="a", at=0x50400000, size="32M"),))
    blob = merged(tmp_path, layout, (2, 1))
    tree.check(blob, layout)
    node = blob.path_offset("/reserved-memory/a@50400000")
    region = bytes(blob.getprop(node, "reg"))
    assert region == (0x50400000).to_bytes(8, "big") + (32 * MIB).to_bytes(4, "big")
    assert not blob.hasprop(node, "size")
    elsewhere = Layout(name="l", description="", area=(Area(name="a", at=0x50400000, size="16M"),))
    with pytest.raises(ConfigError, match=r"'a@50400000' in the merged tree has the wrong reg"):
        tree.check(blob, elsewhere)


def test_an_area_may_have_a_range_to_lie_in(tmp_path):
    area = Area(name="a", size="32M", within=("0x4c000000", "0x50000000"))
    layout = Layout(name="l", description="", area=(area,))
    blob = merged(tmp_path, layout, (2, 1))
    tree.check(blob, layout)
    ranges = bytes(blob.getprop(blob.path_offset("/reserved-memory/a"), "alloc-ranges"))
    assert ranges == (0x4C000000).to_bytes(8, "big") + (0x4000000).to_bytes(4, "big")
    elsewhere = area.model_copy(update={"within": (0x48000000, 0x4C000000)})
    with pytest.raises(ConfigError, match="wrong alloc-ranges"):
        tree.check(blob, Layout(name="l", description="", area=(elsewhere,)))


def test_a_carveout_is_a_node_that_no_driver_of_cma_takes(tmp_path):
    secure = Carveout(name="secure", at="0x4f000000", size="1M")
    log = Carveout(name="log", at="0x4f200000", size="64K", no_map=False)
    blob = merged(tmp_path, Layout(name="l", description="", carveout=(secure, log)))
    for carveout in (secure, log):
        node = blob.path_offset(f"/reserved-memory/{carveout.node}")
        region = bytes(blob.getprop(node, "reg"))
        assert region == carveout.at.to_bytes(8, "big") + carveout.size.to_bytes(8, "big")
        assert blob.hasprop(node, "no-map") == carveout.no_map
        assert not blob.hasprop(node, "reusable")
