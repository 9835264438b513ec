"""What `layout show` draws, to scale."""

from __future__ import annotations

import io
from xml.etree import ElementTree

from rich.console import Console
from virt import DEFAULT, GROUND, HIGH, RAM, layout

from harness.config import MIB, Area, load_layout
from harness.layout.drawing import draw, raster
from harness.layout.svg import svg
from harness.report import memory


def test_the_raster_has_each_item_in_its_place():
    drawing = draw(GROUND, layout(DEFAULT, Area(name="a", at=0x50000000, size="4M")))
    cell, rows = raster(drawing, RAM[0])
    assert cell * 64 * len(rows) == 512 * MIB
    letters = "".join(each.letter if each else "." for row in rows for each in row.cells)
    for address, letter in (
        (0x40000000, "K"),
        (0x48000000, "I"),
        (0x50000000, "1"),
        (0x5F000000, "2"),
        (0x50400000, "."),
        (0x44000000, "."),
    ):
        assert letters[(address - RAM[0].start) // cell] == letter
    assert letters.count("1") * cell == 4 * MIB
    assert letters.count("2") * cell == DEFAULT.size


def test_the_terminal_shows_the_boundary_and_every_item():
    out = io.StringIO()
    memory.show(draw(HIGH, load_layout("camera")), Console(file=out, width=100))
    text = out.getvalue()
    assert "0x56000000" in text
    assert "< high memory from 0x57000000" in text
    for name in ("sensor", "processor", "encoder", "linux,cma", "initrd", "kernel image"):
        assert name in text


def test_the_svg_is_to_scale_and_says_who_is_where():
    asked = layout(Area(name="big", at=0x50000000, size="64M"), DEFAULT, cmdline="<&>")
    tree = ElementTree.fromstring(svg(draw(HIGH, asked)))
    boxes = [e for e in tree.iter("{http://www.w3.org/2000/svg}rect") if e.get("stroke-width")]
    heights = {e.get("y"): float(e.get("height")) for e in boxes if e.get("width") == "220"}
    assert 640 * 64 / 512 in heights.values()
    text = "".join(tree.itertext())
    assert "0x50000000" in text
    assert "high memory from 0x57000000" in text


def test_an_area_without_a_place_is_named():
    drawing = draw(GROUND, layout(DEFAULT, Area(name="huge", size="1G")))
    assert drawing.unplaced == ("huge",)
    assert "no place for huge" in svg(drawing)
