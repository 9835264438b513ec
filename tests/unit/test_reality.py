"""The running kernel's areas against the layout's."""

from __future__ import annotations

import pytest

from harness.cma.areas import (
    DEBUGFS,
    LiveArea,
    Survey,
    folders,
    parse_files,
    parse_survey,
)
from harness.cma.reality import differences
from harness.config import MIB, Area, Layout
from harness.errors import GuestError

LAYOUT = Layout(
    name="l",
    description="",
    area=(
        Area(name="linux,cma", size=64 * MIB, default=True),
        Area(name="private", size=16 * MIB, device="cma-test", alignment=16 * MIB),
    ),
)
DEFAULT = LiveArea("linux,cma", 0x5C000000, 64 * MIB, 64)
PRIVATE = LiveArea("private", 0x5B000000, 16 * MIB, 0)


def survey(*areas: LiveArea, total: int = 80 * MIB) -> Survey:
    return Survey(areas, {"CmaTotal": total})


def test_a_layout_that_was_honoured():
    assert differences(LAYOUT, survey(PRIVATE, DEFAULT)) == ()


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        (survey(DEFAULT, total=64 * MIB), "area 'private' is missing"),
        (
            survey(PRIVATE, LiveArea("linux,cma", 0x5C000000, 32 * MIB, 0), total=48 * MIB),
            "area 'linux,cma' is 32 MiB, the layout says 64",
        ),
        (
            survey(LiveArea("private", 0x5B800000, 16 * MIB, 0), DEFAULT),
            "area 'private' at 0x5b800000 is not aligned to 0x1000000",
        ),
        (
            survey(PRIVATE, DEFAULT, LiveArea("reserved", 0x70000000, MIB, 0), total=81 * MIB),
            "area 'reserved' (1 MiB at 0x70000000) is not in the layout",
        ),
        (survey(PRIVATE, DEFAULT, total=160 * MIB), "CmaTotal is 160 MiB, the areas together"),
        (Survey((PRIVATE, DEFAULT), {}), "built without CONFIG_CMA"),
    ],
)
def test_each_difference_is_named(seen, complaint):
    assert any(complaint in text for text in differences(LAYOUT, seen))


def test_areas_that_overlap():
    low = LiveArea("private", 0x5C000000, 16 * MIB, 0)
    assert "areas 'private' and 'linux,cma' overlap at 0x5c000000" in differences(
        LAYOUT, survey(low, DEFAULT)
    )


SHOWN = """\
./{}linux,cma/{}count:16384
./{}linux,cma/{}base_pfn:376832
./{}linux,cma/used:64
/proc/meminfo:CmaTotal:          65536 kB
/proc/meminfo:CmaFree:           64000 kB
"""


@pytest.mark.parametrize(("prefix", "folder"), [("", ""), ("cma-", ""), ("", "ranges/0/")])
def test_every_version_of_debugfs_reads_the_same(prefix, folder):
    seen = parse_survey(SHOWN.format(prefix, folder, prefix, folder, prefix))
    assert seen.area("linux,cma") == LiveArea("linux,cma", 0x5C000000, 64 * MIB, 64)
    assert seen.meminfo["CmaFree"] == 64000 << 10


# 5.10.262: "cma-" and the name, 15 characters.
CUT = """\
node:linux,cma
node:private@50400000
node:sensor-front
node:sensor-front-raw
./cma-linux,cma/count:16384
./cma-private@504/count:8192
./cma-sensor-fron/count:1024
"""


def test_a_name_that_debugfs_cuts_off_is_that_of_the_node():
    assert set(parse_files(CUT)) == {"linux,cma", "private@50400000", "sensor-fron"}
    assert folders(CUT)["private@50400000"] == f"{DEBUGFS}/cma-private@504"
    assert folders(SHOWN.format("", "", "", "", "")) == {"linux,cma": f"{DEBUGFS}/linux,cma"}


def test_an_area_without_its_files_is_an_error():
    with pytest.raises(GuestError, match="has no base_pfn, used"):
        parse_survey("./x/count:1\n")


def test_asking_for_an_area_that_is_not_there_names_those_that_are():
    with pytest.raises(GuestError, match="it has private, linux,cma"):
        survey(PRIVATE, DEFAULT).area("nope")


def test_a_static_area_is_where_the_layout_says():
    layout = Layout(name="l", description="", area=(Area(name="a", at=0x50400000, size=4 * MIB),))
    there = LiveArea("a@50400000", 0x50400000, 4 * MIB, 0)
    assert differences(layout, survey(there, total=4 * MIB)) == ()
    moved = LiveArea("a@50400000", 0x50800000, 4 * MIB, 0)
    assert differences(layout, survey(moved, total=4 * MIB)) == (
        "area 'a@50400000' is at 0x50800000, the layout says 0x50400000",
    )


def test_an_area_s_files_are_together_wherever_they_stand():
    text = (
        "/sys/kernel/debug/cma/linux,cma/used:64\n"
        "/sys/kernel/debug/cma/linux,cma/bitmap:4294967295 4294967295 0 0\n"
        "/sys/kernel/debug/cma/private@50400000/ranges/0/base_pfn:328704\n"
        "/sys/kernel/mm/cma/linux,cma/alloc_pages_success:64\n"
        "/sys/kernel/debug/cma/linux,cma/alloc: Permission denied\n"
    )
    assert parse_files(text) == {
        "linux,cma": {
            "used": "64",
            "bitmap": "4294967295 4294967295 0 0",
            "alloc_pages_success": "64",
        },
        "private@50400000": {"base_pfn": "328704"},
    }


RESERVED = LiveArea("reserved", 0x5C000000, 64 * MIB, 64)


@pytest.mark.parametrize(
    ("cmdline", "append", "wrong"),
    [
        ("cma=64M", "", ()),
        ("cma=62M@0x5c000000", "", ()),  # rounded up to a pageblock
        ("", "cma=64M", ()),
        ("cma=16M", "", ("area 'reserved' is 64 MiB, 'cma=' asks for 16",)),
        (
            "cma=64M@0x50000000",
            "",
            ("area 'reserved' is at 0x5c000000, 'cma=' asks for 0x50000000",),
        ),
        (
            "cma=64M@0x50000000-0x5e000000",
            "",
            ("area 'reserved' (0x5c000000-0x60000000) is not inside 0x50000000-0x5e000000",),
        ),
        ("cma=0", "", ("area 'reserved' (64 MiB at 0x5c000000) is not in the layout",)),
    ],
)
def test_the_command_line_s_area_is_compared_too(cmdline, append, wrong):
    layout = Layout(name="l", description="", cmdline=cmdline)
    assert differences(layout, survey(RESERVED, total=64 * MIB), append) == wrong


def test_an_area_that_the_command_line_asks_for_may_be_missing():
    layout = Layout(name="l", description="", cmdline="cma=64M")
    assert "'cma=' asks for, is missing" in differences(layout, survey(total=0))[0]


def test_no_area_is_what_cma_0_asks_for():
    layout = Layout(name="none", description="", cmdline="cma=0")
    assert differences(layout, survey(total=0)) == ()


def test_an_area_lies_inside_its_range():
    area = Area(name="a", size=4 * MIB, within=("0x50000000", "0x51000000"))
    layout = Layout(name="l", description="", area=(area,), cmdline="cma=0")
    there = LiveArea("a", 0x50C00000, 4 * MIB, 0)
    assert differences(layout, survey(there, total=4 * MIB)) == ()
    behind = LiveArea("a", 0x51000000, 4 * MIB, 0)
    assert (
        "is not inside 0x50000000-0x51000000"
        in differences(layout, survey(behind, total=4 * MIB))[0]
    )
