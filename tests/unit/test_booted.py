"""What cases say of a boot's areas is read rightly, and a kernel's contradictions are found."""

from dataclasses import replace

import libfdt
import pytest
from booted import (
    Facts,
    Fill,
    Zone,
    block_size,
    by_pages,
    cma_blocks,
    disagreements,
    fills,
    mapped,
    messages,
    ram,
    zones,
)

from harness.cma.areas import LiveArea, Survey

# Cut from a guest of 6.12.117 with vmalloc=640M.
ZONEINFO = """Node 0, zone   Normal
  per-node stats
      nr_inactive_anon 95
  pages free     87313
        boost    0
        spanned  94208
        present  94208
        managed  91080
        cma      2048
        protection: (0, 0, 288, 288)
      nr_free_pages 87313
      nr_free_cma  2048
  pagesets
    cpu: 0
              count: 763
  start_pfn:           262144
Node 0, zone  HighMem
  pages free     36032
        spanned  36864
        present  36864
        managed  36864
        cma      4096
      nr_free_cma  4032
  start_pfn:           356352
Node 0, zone  Movable
  pages free     0
        spanned  0
        present  0
        managed  0
        cma      0
"""
PAGETYPEINFO = """Page block order: 10
Pages per block:  1024

Free pages count per migrate type at order       0      1
Node    0, zone   Normal, type          CMA      0      0

Number of blocks type     Unmovable      Movable  Reclaimable   HighAtomic          CMA      Isolate
Node 0, zone   Normal            2           87            1            0            2            0
Node 0, zone  HighMem            1           31            0            0            4            0
"""
MAP = """0xc0000000-0xc0100000           1M PGD KERNEL      RW NX SHD
0xc0100000-0xcc000000         191M PGD KERNEL      ro x  SHD
0xcc000000-0xcc040000         256K PTE KERNEL      RW NX SHD MEM/BUFFERABLE/WC
0xcc040000-0xcd000000       16128K PTE KERNEL      RW NX SHD MEM/CACHED/WBWA
0xcd100000-0xd7000000         159M PGD KERNEL      RW NX SHD
"""
LOW = LiveArea("low", 0x4C000000, 8 << 20, 0)
HIGH = LiveArea("reserved", 0x5F000000, 16 << 20, 64)
FACTS = Facts(
    console="boots/01-x/console.log",
    log=(),
    survey=Survey((LOW, HIGH), {"CmaTotal": 24 << 20, "CmaFree": 23 << 20}),
    total=(91080 + 36864) << 12,
    zones=tuple(zones(ZONEINFO)),
    cma_blocks=cma_blocks(PAGETYPEINFO),
    block=4 << 20,
    config={"CONFIG_PAGE_OFFSET": "0xC0000000"},
    linear=(range(0xC0000000, 0xD7000000),),
    pages=(range(0xCC000000, 0xCD000000),),
    fills={},
    buffers={},
)


def test_zones_without_memory_are_left_out():
    assert tuple(zones(ZONEINFO)) == (
        Zone("Normal", 262144, 94208, 91080, 2048, 2048),
        Zone("HighMem", 356352, 36864, 36864, 4096, 4032),
    )


def test_pageblocks_are_counted_by_zone():
    assert cma_blocks(PAGETYPEINFO) == {"Normal": 2, "HighMem": 4}
    assert block_size(PAGETYPEINFO) == 4 << 20


def test_stretches_that_touch_are_one():
    assert list(mapped(MAP)) == [range(0xC0000000, 0xCD000000), range(0xCD100000, 0xD7000000)]
    assert list(mapped(by_pages(MAP))) == [range(0xCC000000, 0xCD000000)]
    assert list(mapped("")) == []


def test_messages_are_the_kernel_s_without_times():
    console = "[    0.000000] cma: a\r\n# [    1.5] no\r\n[   12.345678]  b \r\ncma# ls\r\n"
    assert messages(console) == ("cma: a", " b ")


def test_fills_are_by_area():
    text = "low@50400000 2048 0\nreserved 4096 64\nsh: oops\n"
    assert fills(text) == {"low@50400000": Fill(2048, 0), "reserved": Fill(4096, 64)}


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


NORMAL, HIGHMEM = FACTS.zones


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"survey": Survey((LOW, HIGH), {"CmaTotal": 48 << 20})}, "CmaTotal is"),
        ({"zones": (replace(NORMAL, cma=1024), HIGHMEM)}, "Normal has 1024 pages of CMA"),
        ({"zones": (NORMAL, replace(HIGHMEM, free_cma=4033))}, "HighMem has 4033 free pages"),
        ({"cma_blocks": {"Normal": 2, "HighMem": 3}}, "HighMem has 3 pageblocks"),
        ({"total": FACTS.total - 4096}, "MemTotal is"),
        ({"linear": tuple(mapped(MAP))}, "the linear map of low memory has a hole"),
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
