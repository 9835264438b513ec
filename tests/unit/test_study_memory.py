"""What studies read of memory: indexes, counters, transfers, and where scanners were."""

from __future__ import annotations

from harness.cma.extfrag import parse_unusable
from harness.cma.tracing import Event, parse_format
from harness.cma.vmstat import growth, parse
from harness.studies.compaction import longest, runs
from harness.studies.zram import Transfers, parse_transfers

INDEX = """Node 0, zone   Normal 0.000 0.695 0.735 
Node 0, zone  Movable 0.000 0.000 0.000 
"""  # noqa: W291


def event(name: str, pid: int = 80, task: str = "sh", **fields: int) -> Event:
    return Event(f"mm_compaction_{name}", task, pid, 0, 0, fields)


def ended(**fields: int) -> Event:
    bounds = {"zone_start": 0, "zone_end": 64}
    return event("end", **(bounds | fields))


def test_the_index_is_read_by_zone_and_order():
    assert parse_unusable(INDEX) == {"Normal": (0, 0.695, 0.735), "Movable": (0, 0, 0)}


def test_counters_are_compared_by_name():
    before, after = parse("pglazyfree 1\n"), parse("pglazyfree 4\npglazyfreed 3\nmalformed\n")
    assert growth(before, after) == {"pglazyfree": 3, "pglazyfreed": 3}


def test_both_ends_of_a_range_are_read():
    scan = parse_format("range=(0x%lx ~ 0x%lx) nr_taken=%lu")
    assert scan.read("range=(0x40000 ~ 0x40400) nr_taken=2") == {
        "range": 0x40000,
        "range_end": 0x40400,
        "nr_taken": 2,
    }


def test_a_run_is_what_one_process_scanned_between_begin_and_end():
    events = [
        event("begin"),
        event("isolate_migratepages", range=3),
        event("isolate_migratepages", pid=30, task="kcompactd0", range=40),
        event("isolate_freepages", range=50),
        event("isolate_freepages", range=41),
        event("isolate_migratepages", range=9),
        ended(migrate_pfn=24, free_pfn=16),
        event("begin"),
        ended(migrate_pfn=0, free_pfn=56),
    ]
    first, second = runs(events, 8)
    assert (first.migrate, first.free) == ((0, 8), (48, 40))
    assert first.order == ("migrate", "free", "free", "migrate")
    assert (first.start, first.end) == (0, 64)
    assert (first.met, second.met) == (True, False)
    assert longest([second, first]) is first
    assert longest([]) is None


def test_a_run_without_an_end_is_none():
    assert runs([event("begin"), event("isolate_freepages", range=50)], 8) == ()


def test_what_a_block_device_transferred_is_counted_in_pages():
    stat = (
        "     10        0      80        4       3        0       24        1        0        8\n"
    )
    assert parse_transfers(stat) == Transfers(read=10, written=3)
    assert Transfers(10, 3).since(Transfers(4, 3)) == Transfers(6, 0)
