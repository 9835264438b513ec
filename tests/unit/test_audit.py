"""The audit of CMA's accounting: a sound snapshot, and each way in which one can be unsound."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from harness.cma.audit import INVARIANTS, audit, audited, breaches
from harness.cma.counters import Snapshot, parse, take
from harness.errors import GuestError
from harness.live import unchanged

# What a 6.12 guest with an area in each of two zones printed, shortened to round numbers.
SYSTEM = (
    '{"system": {"settled": true, "readings": 1, "page_size": 4096, "block_pages": 1024, '
    '"MemTotal": 511724, "MemFree": 40000, "CmaTotal": 49152, "CmaFree": 48384, '
    '"nr_free_pages": 20000, "nr_free_cma": 12096, "cma_alloc_success": 2, "cma_alloc_fail": 0, '
    '"zones": 2, "areas": 2}}'
)
NORMAL = (
    '{"zone": {"node": 0, "name": "Normal", "start_pfn": 262144, "per_cpu": 100, "cpus": 2, '
    '"user": 0, "nr_free_pages": 10000, "nr_free_cma": 8128, "nr_zspages": 0, "spanned": 94208, '
    '"present": 94208, "managed": 91067, "cma": 8192, "free": {"Unmovable": 872, "Movable": 1000, '
    '"HighAtomic": 0, "CMA": 8128, "Isolate": 0}, "blocks": {"Movable": 84, "CMA": 8, '
    '"Isolate": 0}}}'
)
HIGH = (
    '{"zone": {"node": 0, "name": "HighMem", "start_pfn": 356352, "per_cpu": 10, "cpus": 2, '
    '"user": 400, "nr_free_pages": 10000, "nr_free_cma": 3968, "nr_zspages": 0, "spanned": 36864, '
    '"present": 36864, "managed": 36864, "cma": 4096, "free": {"Unmovable": 32, "Movable": 6000, '
    '"CMA": 3968, "Isolate": 0}, "blocks": {"Movable": 32, "CMA": 4, "Isolate": 0}}}'
)
PRIVATE = (
    '{"area": {"name": "private@50400000", "base_pfn": 328704, "count": 8192, '
    '"order_per_bit": 0, "used": 64, "maxchunk": 8112, "alloc_pages_success": 80, '
    '"alloc_pages_fail": 0, "release_pages_success": 16, "set": [[0, 16], [32, 48]], '
    '"taken": {"free": 0, "movable": 0, "unmovable": 0, "unnamed": 64}, '
    '"open": {"free": 8128, "movable": 0, "unmovable": 0, "unnamed": 0}, "odd": []}}'
)
IN_HIGH = (
    '{"area": {"name": "high@5c000000", "base_pfn": 376832, "count": 4096, '
    '"order_per_bit": 0, "used": 0, "maxchunk": 4096, "alloc_pages_success": 0, '
    '"alloc_pages_fail": 0, "release_pages_success": 0, "set": [], '
    '"taken": {"free": 0, "movable": 0, "unmovable": 0, "unnamed": 0}, '
    '"open": {"free": 3968, "movable": 120, "unmovable": 0, "unnamed": 8}, "odd": []}}'
)
LINES = (SYSTEM, NORMAL, HIGH, IN_HIGH, PRIVATE)


def sound() -> Snapshot:
    return parse("\n".join(LINES))


def of_area(snapshot: Snapshot, **fields: Any) -> Snapshot:
    """Change the private area."""
    first, *rest = snapshot.areas
    return snapshot.model_copy(update={"areas": (first.model_copy(update=fields), *rest)})


def of_zone(snapshot: Snapshot, **fields: Any) -> Snapshot:
    """Change the zone of the private area."""
    first, *rest = snapshot.zones
    return snapshot.model_copy(update={"zones": (first.model_copy(update=fields), *rest)})


def of_system(snapshot: Snapshot, **fields: Any) -> Snapshot:
    return snapshot.model_copy(update={"system": snapshot.system.model_copy(update=fields)})


def pages(free: int = 0, movable: int = 0, unmovable: int = 0, unnamed: int = 0) -> Any:
    model = type(sound().areas[0].taken)
    return model(free=free, movable=movable, unmovable=unmovable, unnamed=unnamed)


def test_a_sound_snapshot_breaks_nothing_and_all_is_audited():
    assert audit(None, sound()) == ()
    assert audit(sound(), sound()) == ()
    assert audited(sound()) == tuple(INVARIANTS)


@pytest.mark.parametrize(
    ("snapshot", "invariant", "told"),
    [
        (
            of_system(sound(), settled=False, readings=200),
            "the counters hold still",
            "in each of 200 readings",
        ),
        (
            of_system(sound(), cma_total=98304),
            "the areas make up CmaTotal",
            "add up to 12288 pages, CmaTotal is 24576",
        ),
        (
            of_area(sound(), used=65, release_pages_success=15),
            "the bitmap has `used` pages",
            "64 pages in the bitmap, `used` is 65",
        ),
        (
            of_area(sound(), set=((0, 16), (8160, 48))),
            "no bit is behind the area",
            "bit 8207 is set, there are 8192",
        ),
        (
            of_area(sound(), maxchunk=8192),
            "maxchunk is the longest run of zero bits",
            "has 8112 pages, `maxchunk` is 8192",
        ),
        (
            of_area(sound(), release_pages_success=17),
            "pages allocated - released = used",
            "alloc_pages_success 80 - release_pages_success 17",
        ),
        (
            of_system(sound(), cma_alloc_success=81),
            "vmstat and sysfs count the same allocations",
            "cma_alloc_success (vmstat) counts 81 allocations",
        ),
        (
            of_system(sound(), cma_alloc_fail=1),
            "vmstat and sysfs count the same allocations",
            "alloc_pages_fail (sysfs) 0 pages",
        ),
        (
            of_area(sound(), alloc_pages_fail=5),
            "vmstat and sysfs count the same allocations",
            "cma_alloc_fail (vmstat) counts 0",
        ),
        (
            of_zone(sound(), cma=7168),
            "a zone's `cma` is its areas",
            "zone Normal: `cma` is 7168 pages",
        ),
        (
            of_zone(sound(), blocks={"Movable": 91, "CMA": 1, "Isolate": 0}),
            "the pageblocks of the areas are CMA",
            "zone Normal: 1024 pages in pageblocks of type CMA",
        ),
        (
            of_zone(sound(), blocks={"Movable": 84, "CMA": 8, "Isolate": 2}),
            "the pageblocks of the areas are CMA",
            "zone Normal: 2 pageblocks are still isolated",
        ),
        (
            of_zone(sound(), free={"Unmovable": 872, "Movable": 1001, "CMA": 8127, "Isolate": 0}),
            "free pages are counted",
            "8127 pages on the CMA free lists (pagetypeinfo), nr_free_cma counts 8128",
        ),
        (
            of_zone(sound(), free={"Unmovable": 872, "Movable": 999, "CMA": 8128, "Isolate": 0}),
            "free pages are counted",
            "9999 pages on the free lists (pagetypeinfo), nr_free_pages counts 10000",
        ),
        (
            of_zone(sound(), free={"Unmovable": 872, "Movable": 1000, "CMA": 8128, "Isolate": 4}),
            "free pages are counted",
            "4 pages on the Isolate free lists",
        ),
        (of_system(sound(), cma_free=48380), "the zones make up the totals", "CmaFree is 48380 kB"),
        (
            of_system(sound(), nr_free_pages=20001),
            "the zones make up the totals",
            "nr_free_pages is 20001 (vmstat), the zones have 20000",
        ),
        (
            of_zone(sound(), nr_free_cma=8129),
            "nr_free_cma <= count - used",
            "nr_free_cma is 8129 (zoneinfo), the areas in it have 8128",
        ),
        (
            of_zone(sound(), nr_free_cma=8128 - 229),
            "no page of an area is lost",
            "229 pages of its areas are neither allocated (debugfs) nor free (nr_free_cma), but "
            "at most 228",
        ),
        (
            of_area(sound(), taken=pages(free=3, unnamed=61), odd=((328704, 0x400),)),
            "pages of an area are movable, or allocated",
            "3 pages are allocated in the bitmap and free in the buddy allocator (kpageflags): "
            "pfn 0x50400 flags 0x400",
        ),
        (
            of_area(sound(), taken=pages(movable=1, unnamed=63)),
            "pages of an area are movable, or allocated",
            "1 pages are allocated in the bitmap and still a user's",
        ),
        (
            of_area(sound(), open=pages(free=8128, unmovable=2)),
            "pages of an area are movable, or allocated",
            "2 pages are slab, page tables or reserved",
        ),
        (
            of_area(sound(), open=pages(free=8000)),
            "nr_free_cma is the areas' free pages",
            "8000 pages of its areas are free in the buddy allocator (kpageflags), nr_free_cma "
            "counts 8128",
        ),
        (
            of_area(sound(), open=pages(free=8128, unnamed=229)),
            "no page of an area is without a place",
            "229 pages of its areas are neither allocated (debugfs), nor free or a user's "
            "(kpageflags), but at most 228",
        ),
    ],
)
def test_each_invariant_is_seen_broken_with_both_numbers(snapshot, invariant, told):
    said = [str(breach) for breach in breaches(snapshot) if breach.invariant == invariant]
    assert len(said) == 1
    assert told in said[0]
    assert all(line in audit(sound(), snapshot) for line in said)


def test_what_was_broken_before_is_not_the_case_s():
    bad = of_system(sound(), cma_total=98304)
    assert audit(bad, bad) == ()
    worse = of_area(bad, maxchunk=1)
    assert [line.partition(":")[0] for line in audit(bad, worse)] == [
        "maxchunk is the longest run of zero bits"
    ]


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        (((0, 16), (32, 48), (100, 5)), "5 pages are still allocated after the case (bits 100-104"),
        (((0, 16), (33, 47)), "1 pages are no longer allocated after the case (bits 32 of"),
        (((0, 16),), "48 pages are no longer allocated after the case (bits 32-79 of"),
    ],
)
def test_a_case_leaves_the_bitmap_as_it_found_it(runs, told):
    used = sum(length for _first, length in runs)
    after = of_area(sound(), set=runs, used=used, release_pages_success=80 - used)
    told_of = [line for line in audit(sound(), after) if "as it found it" in line]
    assert len(told_of) == 1
    assert told in told_of[0]


def test_pages_moved_within_the_bitmap_are_told_both_ways():
    moved = of_area(sound(), set=((0, 16), (32, 47), (200, 1)))
    (still, gone) = [line for line in audit(sound(), moved) if "as it found it" in line]
    assert "bits 200 of" in still
    assert "bits 79 of" in gone


def test_areas_stay():
    fewer = sound().model_copy(update={"areas": sound().areas[1:]})
    assert "areas stay: area 'private@50400000' is gone" in audit(sound(), fewer)
    moved = of_area(sound(), base_pfn=328705)
    assert any(
        "was 8192 pages at pfn 0x50400, is 8192 at 0x50401" in line
        for line in audit(sound(), moved)
    )


def test_what_a_kernel_does_not_show_is_left_out_and_told():
    older = sound().model_copy(
        update={
            "areas": tuple(
                area.model_copy(update={"release_pages_success": None, "taken": None, "open": None})
                for area in sound().areas
            )
        }
    )
    assert audit(None, older) == ()
    assert set(INVARIANTS) - set(audited(older)) == {
        "pages allocated - released = used",
        "pages of an area are movable, or allocated",
        "nr_free_cma is the areas' free pages",
        "no page of an area is without a place",
    }


def test_areas_come_by_address_and_know_their_zone():
    snapshot = sound()
    assert [area.name for area in snapshot.areas] == ["private@50400000", "high@5c000000"]
    assert [snapshot.zone_of(area).name for area in snapshot.areas] == ["Normal", "HighMem"]
    assert list(snapshot.area("private@50400000").zero_runs()) == [(16, 16), (80, 8112)]
    with pytest.raises(GuestError, match="no area 'camera'"):
        snapshot.area("camera")


@dataclass(frozen=True)
class Answer:
    status: int
    output: str


@pytest.mark.parametrize(
    ("status", "output", "told"),
    [
        (1, "cma-snapshot: /sys/kernel/debug/cma: ENOENT (No such file)", "ENOENT"),
        (0, "", "not a snapshot"),
        (0, SYSTEM[:50], "not a SnapshotLine"),
        (0, "[1]", "not a snapshot"),
        (0, '{"bus": {}}', "not a SnapshotLine"),
        (0, SYSTEM.replace('"areas": 2', '"areas": "x"'), "not a SnapshotLine"),
        (0, "\n".join((SYSTEM, NORMAL, HIGH, PRIVATE)), "not a snapshot: 1 systems, 1 areas"),
    ],
)
def test_what_is_no_snapshot_is_an_error(status: int, output: str, told: str):
    class Shell:
        def run(self, command: str, timeout: float) -> Answer:
            assert (command, timeout) == ("cma-snapshot", 60)
            return Answer(status, output)

    with pytest.raises(GuestError, match=told):
        take(Shell())


SOUND = "\n".join(LINES)
LEAKING = SOUND.replace('"used": 64', '"used": 65').replace("[32, 48]", "[32, 49]")
TORN = SOUND.replace('"nr_free_pages": 10000', '"nr_free_pages": 9990')


@pytest.mark.parametrize(
    ("said", "asked", "clean"),
    [
        ([SOUND], 1, True),
        ([TORN, SOUND], 2, True),
        ([TORN, TORN], 2, False),
        ([LEAKING, LEAKING], 2, False),
    ],
    ids=["at once", "in the middle of something", "broken", "left something"],
)
def test_a_guest_is_looked_at_again_only_if_something_differs(
    said: list[str], asked: int, clean: bool
):
    looked: list[str] = []

    def look(text: str) -> Snapshot:
        looked.append(text)
        return parse(text)

    assert unchanged(sound(), *(partial(look, text) for text in said)) is clean
    assert looked == said[:asked]
