"""The page-table dump of ARM, without a guest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cma.areas import PAGE
from harness.cma.counters import parse as snapshot
from harness.cma.pagetables import (
    LINEAR,
    VMALLOC,
    WRITE_COMBINE,
    Attributes,
    Change,
    LinearMap,
    Mapping,
    PageTables,
    changes,
    linear_map,
    parse,
    read,
)
from harness.config import MIB
from harness.errors import GuestError
from harness.guest.command import Completed

DUMP = Path(__file__).resolve().parent.parent / "data" / "pagetables" / "contract-6.12.txt"
DATA = Attributes("PTE", "KERNEL", False, True, False, True, "MEM/CACHED/WBWA")
COHERENT = Attributes("PTE", "KERNEL", False, True, False, True, WRITE_COMBINE)
SECTION = Attributes("PGD", "KERNEL", False, True, False, True, "")
SYSTEM = (
    '{"system": {"settled": true, "readings": 1, "page_size": 4096, "block_pages": 1024, '
    '"MemTotal": 511724, "MemFree": 40000, "CmaTotal": 0, "CmaFree": 0, "nr_free_pages": 10000, '
    '"nr_free_cma": 0, "zones": 2, "areas": 0}}'
)
ZONE = (
    '{"zone": {"node": 0, "name": "%s", "start_pfn": %d, "per_cpu": 0, "cpus": 2, "user": 0, '
    '"nr_free_pages": 5000, "nr_free_cma": 0, "spanned": %d, "present": 4096, "managed": 4096, '
    '"blocks": {}}}'
)


def tables(*ranges: tuple[int, int, Attributes]) -> PageTables:
    return PageTables(
        tuple(Mapping(start * PAGE, end * PAGE, LINEAR, kind) for start, end, kind in ranges)
    )


def test_a_dump_of_6_12():
    dump = parse(DUMP.read_text())
    linear = dump.region(LINEAR).mappings
    assert [(one.start, one.size // MIB, one.attributes.level) for one in linear] == [
        (0xC0000000, 1, "PGD"),
        (0xC0100000, 4, "PGD"),
        (0xC0500000, 2, "PGD"),
        (0xC0700000, 253, "PGD"),
        (0xD0400000, 32, "PTE"),
        (0xD2400000, 76, "PGD"),
    ]
    text, rodata, data = (one.attributes for one in linear[1:4])
    assert (text.writable, text.executable) == (False, True)
    assert (rodata.writable, rodata.executable) == (False, False)
    assert data == SECTION
    assert linear[4].attributes == DATA
    assert len(dump.mappings) == 72


def test_the_atomic_pool_is_the_one_uncached_memory():
    dump = parse(DUMP.read_text()).uncached()
    memory = [one for one in dump.mappings if one.attributes.memory.startswith("MEM/")]
    assert [(one.region, one.size, one.attributes) for one in memory] == [
        (VMALLOC, 256 << 10, COHERENT)
    ]
    others = {one.attributes.memory for one in dump.mappings} - {WRITE_COMBINE}
    assert others == {"DEV/SHARED"}


def test_vectors_are_for_the_user_too():
    vectors = parse(DUMP.read_text()).region("Vectors").mappings
    assert [(one.attributes.domain, one.attributes.user) for one in vectors] == [
        ("VECTORS", True),
        ("VECTORS", False),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "no range at all",
        "0xc0000000-0xc0100000           1M",
        "0xc0000000-0xc0100000           1M PXD",
        "0xc0000000-0xc0100000           2M PGD KERNEL      RW NX SHD",
    ],
)
def test_a_line_that_is_none_of_a_dump(line):
    with pytest.raises(GuestError, match=r"0xc0000000|no range"):
        parse(f"---[ {LINEAR} ]---\n{line}\n")


# 5.10.262 on virt.
OLD = """\
0xc0000000-0xc0100000           1M KERNEL      RW NX SHD
0xc0104000-0xc0105000           4K KERNEL      RW x  SHD MEM/CACHED/WBWA
"""


def test_a_dump_that_does_not_tell_levels():
    found = [one.attributes for one in parse(OLD).mappings]
    assert [(one.level, one.domain, one.cached) for one in found] == [
        ("PGD", "KERNEL", False),
        ("PTE", "KERNEL", True),
    ]


def test_the_last_page_of_the_address_space():
    (one,) = parse(
        "0xfffff000-0x00000000           4K PTE KERNEL      RW NX SHD SO/UNCACHED\n"
    ).mappings
    assert (one.end, one.attributes.cached) == (1 << 32, False)


def test_within_cuts_to_the_range():
    dump = tables((0, 4, DATA), (4, 6, COHERENT), (8, 9, DATA))
    found = dump.within(3 * PAGE, 8 * PAGE)
    assert [(one.start // PAGE, one.end // PAGE) for one in found] == [(3, 4), (4, 6)]


def test_a_buffer_is_one_change_though_it_splits_a_range_in_three():
    before = tables((0, 10, DATA))
    after = tables((0, 3, DATA), (3, 5, COHERENT), (5, 10, DATA))
    assert changes(before, after) == (Change(3 * PAGE, 5 * PAGE, DATA, COHERENT),)


def test_ranges_that_are_only_split_are_no_change():
    assert changes(tables((0, 10, DATA)), tables((0, 4, DATA), (4, 10, DATA))) == ()


def test_what_comes_and_what_goes_are_changes():
    changed = changes(tables((0, 2, DATA)), tables((1, 3, DATA)))
    assert changed == (Change(0, PAGE, DATA, None), Change(2 * PAGE, 3 * PAGE, None, DATA))


def test_neighbouring_changes_of_one_kind_are_one():
    before = tables((0, 4, DATA), (4, 8, SECTION))
    after = tables((0, 2, COHERENT), (2, 4, COHERENT), (4, 8, COHERENT))
    assert [(one.start // PAGE, one.end // PAGE) for one in changes(before, after)] == [
        (0, 4),
        (4, 8),
    ]


PAGES = st.lists(st.sampled_from([None, DATA, COHERENT, SECTION]), min_size=12, max_size=12)


@given(PAGES, PAGES)
def test_changes_are_the_pages_that_differ(old, new):
    def of(kinds):
        return tables(*((page, page + 1, kind) for page, kind in enumerate(kinds) if kind))

    found = {
        page: (change.before, change.after)
        for change in changes(of(old), of(new))
        for page in range(change.start // PAGE, change.end // PAGE)
    }
    assert found == {
        page: pair for page, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1]
    }


def test_low_memory_ends_where_high_memory_begins():
    zones = ZONE % ("Normal", 262144, 94208), ZONE % ("HighMem", 356352, 36864)
    linear = linear_map(snapshot("\n".join((SYSTEM, *zones))), 0xC0000000)
    assert linear == LinearMap(0x40000000, 0x57000000, 0xC0000000)
    assert linear.virtual(0x50400000) == 0xD0400000
    assert linear.has(0x50400000, 0x52400000)
    assert not linear.has(0x56000000, 0x58000000)


def test_without_high_memory_all_ram_is_low():
    zones = ZONE % ("Normal", 262144, 65536), ZONE % ("Movable", 327680, 65536)
    linear = linear_map(snapshot("\n".join((SYSTEM, *zones))), 0xC0000000)
    assert linear.end == 0x60000000


def test_stretches_that_touch_are_one():
    found = tables((0, 1, SECTION), (1, 4, DATA), (4, 5, COHERENT), (6, 9, SECTION))
    assert found.stretches() == (range(5 * PAGE), range(6 * PAGE, 9 * PAGE))
    assert found.by_pages().stretches() == (range(PAGE, 5 * PAGE),)
    assert tables().stretches() == ()


def test_a_kernel_without_the_file():
    class Shell:
        def run(self, command: str, timeout: float) -> Completed:
            return Completed(1, f"{command}: No such file or directory, in {timeout} s\n")

    with pytest.raises(GuestError, match="No such file"):
        read(Shell())
