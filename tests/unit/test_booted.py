"""What cases say of a boot's areas is read rightly, and a kernel's contradictions are found."""

from dataclasses import replace

import libfdt
import pytest
from booted import Facts, Fill, disagreements, fills, messages, ram

from harness.cma.areas import LiveArea, Survey
from harness.cma.counters import parse as snapshot
from harness.cma.pagetables import parse

# Cut from what cma-snapshot printed in a guest of 6.12.117 with vmalloc=640M.
SNAPSHOT = """\
{"system": {"settled": true, "readings": 1, "page_size": 4096, "block_pages": 1024, \
"MemTotal": 511776, "MemFree": 490000, "CmaTotal": 24576, "CmaFree": 24320, \
"nr_free_pages": 123345, "nr_free_cma": 6080, "zones": 2, "areas": 2}}
{"zone": {"node": 0, "name": "Normal", "start_pfn": 262144, "per_cpu": 763, "cpus": 1, \
"user": 95, "nr_free_pages": 87313, "nr_free_cma": 2048, "spanned": 94208, "present": 94208, \
"managed": 91080, "cma": 2048, "blocks": {"Movable": 90, "CMA": 2, "Isolate": 0}}}
{"zone": {"node": 0, "name": "HighMem", "start_pfn": 356352, "per_cpu": 0, "cpus": 1, \
"user": 0, "nr_free_pages": 36032, "nr_free_cma": 4032, "spanned": 36864, "present": 36864, \
"managed": 36864, "cma": 4096, "blocks": {"Movable": 32, "CMA": 4, "Isolate": 0}}}
{"area": {"name": "low", "base_pfn": 311296, "count": 2048, "order_per_bit": 0, "used": 0, \
"maxchunk": 2048, "set": []}}
{"area": {"name": "reserved", "base_pfn": 389120, "count": 4096, "order_per_bit": 0, \
"used": 64, "maxchunk": 4032, "set": [[0, 64]]}}
"""
MAP = """0xc0000000-0xc0100000           1M PGD KERNEL      RW NX SHD
0xc0100000-0xcc000000         191M PGD KERNEL      ro x  SHD
0xcc000000-0xcc040000         256K PTE KERNEL      RW NX SHD MEM/BUFFERABLE/WC
0xcc040000-0xcd000000       16128K PTE KERNEL      RW NX SHD MEM/CACHED/WBWA
0xcd000000-0xcd100000           1M PGD KERNEL      RW NX SHD
0xcd100000-0xd7000000         159M PGD KERNEL      RW NX SHD
"""
LOW = LiveArea("low", 0x4C000000, 8 << 20, 0)
HIGH = LiveArea("reserved", 0x5F000000, 16 << 20, 64)
FACTS = Facts(
    console="boots/01-x/console.log",
    log=(),
    survey=Survey((LOW, HIGH), {"CmaTotal": 24 << 20, "CmaFree": 23 << 20}),
    snapshot=snapshot(SNAPSHOT),
    config={"CONFIG_PAGE_OFFSET": "0xC0000000"},
    tables=parse(MAP),
    fills={},
    buffers={},
)


def test_messages_are_the_kernel_s_without_times():
    console = "[    0.000000] cma: a\r\n# [    1.5] no\r\n[   12.345678]  b \r\ncma# ls\r\n"
    assert messages(console) == ("cma: a", " b ")


def test_fills_are_by_area():
    text = "cma-low@5040000 2048 0\nreserved 4096 64\nsh: oops\n"
    folders = {"low@50400000": "/d/cma-low@5040000", "reserved": "/d/reserved"}
    assert fills(text, folders) == {"low@50400000": Fill(2048, 0), "reserved": Fill(4096, 64)}


def test_the_memory_of_a_tree_is_its_first_bank():
    tree = libfdt.Fdt.create_empty_tree(4096)
    tree.setprop_u32(0, "#address-cells", 2)
    tree.setprop_u32(0, "#size-cells", 2)
    node = tree.add_subnode(0, "memory@40000000")
    region = (0x40000000).to_bytes(8, "big") + (512 << 20).to_bytes(8, "big")
    tree.setprop(node, "reg", region)
    assert ram(bytes(tree.as_bytearray())) == range(0x40000000, 0x60000000)


def test_a_kernel_that_agrees_with_itself():
    assert disagreements(FACTS) == []
    assert FACTS.low_end() == 0x57000000
    assert FACTS.mapped_by_pages(LOW)
    assert not FACTS.mapped_by_pages(LiveArea("low", 0x4C800000, 16 << 20, 0))


HOLE = "0xcd000000-0xcd100000           1M PGD KERNEL      RW NX SHD\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"snapshot": snapshot(SNAPSHOT.replace('"CmaTotal": 24576', '"CmaTotal": 49152'))},
            "the areas make up CmaTotal",
        ),
        (
            {"snapshot": snapshot(SNAPSHOT.replace('"managed": 91080', '"managed": 91079'))},
            "MemTotal is",
        ),
        ({"tables": parse(MAP.replace(HOLE, ""))}, "the linear map of low memory has a hole"),
        (
            {
                "survey": Survey(
                    (LiveArea("across", 0x56800000, 16 << 20, 0), LOW, HIGH),
                    {"CmaTotal": 40 << 20},
                )
            },
            "across lies in no one zone",
        ),
    ],
)
def test_a_contradiction_is_named(change, said):
    (wrong,) = disagreements(replace(FACTS, **change))
    assert wrong.startswith(said)


def test_an_area_that_was_not_activated_is_in_no_account():
    left = LiveArea("across", 0x56800000, 0, 0)
    total = {"CmaTotal": 24 << 20}
    assert disagreements(replace(FACTS, survey=Survey((LOW, left, HIGH), total))) == []
