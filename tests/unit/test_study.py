"""Studies: their record, their pages, and what decides."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from harness.cma.counters import Area
from harness.cma.pagetables import (
    LINEAR,
    VMALLOC,
    WRITE_COMBINE,
    Attributes,
    LinearMap,
    Mapping,
    PageTables,
)
from harness.config import patches_for
from harness.errors import ConfigError, UsageError
from harness.guest.executed import Call
from harness.report import study as report
from harness.report.plots import svg
from harness.results import study as results
from harness.results.study import (
    Chart,
    Check,
    Claim,
    Curve,
    Map,
    Outcome,
    Row,
    Sequence,
    Step,
    Strip,
    StudiesRecord,
    StudyRecord,
)
from harness.studies import STUDIES, arm_aliasing, deep_dive, helper
from harness.studies.lab import PATCHES
from harness.studies.run import _ended
from harness.studies.study import Finding

CHART = Chart(
    kind="bars", title="<Ratios>", x="kind", y="pages", names=("clean", "dirty"),
    curves=(Curve(label="now", x=(0, 1), y=(3, 4)), Curve(label="then", x=(0, 1), y=(5, 6))),
)  # fmt: skip
DRAWINGS = (
    CHART,
    CHART.model_copy(update={"kind": "lines", "names": (), "log": True}),
    Map(title="Pages", strips=(Strip(label="before", pages=64, runs=((0, 8, "pinned"),)),)),
    Sequence(title="Boot", at="ms", steps=(Step(lane="mm", at=1.5, what="reserve"),)),
)


def made(**changes) -> StudyRecord:
    fields = {
        "name": "pins",
        "title": "Pins <b>",
        "claim": Claim(text="It fails.", source="Somebody, 2012", figure="48 of 64"),
        "setup": "Pages are pinned.",
        "today": "Still so.",
        "kernel": "6.12",
        "kernel_version": "6.12.117",
        "outcome": Outcome.HOLDS,
        "checks": (Check(what="one is enough", seen="ENOSPC", held=True),),
        "rows": (Row(what="allocation", then="fails", now="fails"),),
        "drawings": DRAWINGS,
        "raw": {"frames": [1, 2]},
    }
    return StudyRecord(**(fields | changes))


def record(*studies: StudyRecord) -> StudiesRecord:
    return StudiesRecord(id="1", started=datetime(2026, 1, 1, tzinfo=UTC), studies=studies)


def test_bars_stand_over_their_names():
    values = {"now": (3, 4), "then": (5, 6)}
    assert Chart.bars("<Ratios>", "kind", "pages", ("clean", "dirty"), values) == CHART


def test_a_record_reads_back_as_it_was(tmp_path):
    stored = record(made())
    results.write(tmp_path, stored)
    assert results.read(tmp_path) == stored


def test_what_is_no_record_is_told(tmp_path):
    with pytest.raises(UsageError, match="no record"):
        results.read(tmp_path)
    (tmp_path / results.FILE).write_text("{}")
    with pytest.raises(ConfigError, match="not a record"):
        results.read(tmp_path)


@pytest.mark.parametrize(
    ("studies", "code"),
    [
        ([made()], 0),
        ([made(), made(outcome=Outcome.SKIP)], 0),
        ([made(), made(outcome=Outcome.FAILS)], 1),
        ([made(outcome=Outcome.FAILS), made(outcome=Outcome.ERROR)], 3),
        ([made(outcome=Outcome.LEFT)], 3),
        ([made(outcome=Outcome.FAILS, without="pins.toml")], 0),
        ([made(without="pins.toml")], 1),
    ],
)
def test_without_its_mechanism_a_study_must_not_hold(studies, code):
    assert results.exit_code(record(*studies)) == code


def test_one_broken_check_decides_and_no_check_is_none_held():
    held, broken = (Check(what="a", seen="b", held=value) for value in (True, False))
    outcomes = [
        _ended(Finding(checks=checks, rows=(), reason=""))["outcome"]
        for checks in ((held,), (held, broken), ())
    ]
    assert outcomes == [Outcome.HOLDS, Outcome.FAILS, Outcome.FAILS]


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: drawing.kind)
def test_a_drawing_is_an_element_with_its_text_and_the_same_each_time(drawing):
    one = svg(drawing)
    assert one.startswith("<svg")
    assert one == svg(drawing)
    assert drawing.title.replace("<", "&lt;").replace(">", "&gt;") in one


def test_a_map_of_nothing_is_drawn_all_the_same():
    assert "<svg" in svg(Map(title="what lay there", strips=()))


def test_the_pages_need_nothing_from_elsewhere(tmp_path):
    other = made(kernel="5.10", kernel_version="5.10.262", outcome=Outcome.SKIP, reason="no <x>")
    index = report.write(record(made(), other), tmp_path)
    page = (tmp_path / "pins.html").read_text()
    for text in (index.read_text(), page):
        assert "Pins &lt;b&gt;" in text
        assert 'src="' not in text
        assert "no &lt;x&gt;" in text
    assert page.count("<svg") == len(DRAWINGS) * 2
    assert "5.10.262" in page


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_a_study_says_all_that_a_reader_needs_and_can_be_taken_out(study):
    assert all((study.claim.text, study.claim.source, study.setup, study.today))
    assert patches_for([PATCHES / study.without], "6.12.0")


def area(**changes) -> Area:
    return Area(**({"name": "a", "base_pfn": 1024, "count": 16384, "order_per_bit": 0,
                    "used": 0, "set": ()} | changes))  # fmt: skip


def session() -> tuple[helper.Told, ...]:
    """The session as a kernel answers that has all: each buffer aligned to its size."""
    live: list[tuple[int, int]] = []
    told = []
    for command, name in helper.SESSION.items():
        lines = []
        if command.startswith("echo") and not name:
            size = int(command.split()[1]) << 10
            live.append((4096 * 1024 + size, size))
            lines = [f"alloc: virt: 1234abcd dma: {live[-1][0]:#x} size: {size >> 10}K"]
        elif command.startswith("cat") and not name:
            address, size = live.pop(0)
            lines = [f"free: CM virt: 1234abcd dma: {address:#x} size:{size >> 10}K"]
        elif name == "ENOSPC":
            lines = ["no mem in CMA area"]
        elif not name:
            lines = ["registered."]
        runs = tuple((address // 4096 - 1024, size // 4096) for address, size in live)
        told.append(helper.Told(command, name, tuple(lines), sum(n for _, n in runs), runs))
    return tuple(told)


def broken(told: tuple[helper.Told, ...]) -> list[bool]:
    return [not check.held for check in helper.checks(told, area(), area())]


def test_song_s_session_holds_and_each_deviation_breaks_a_check():
    told = session()
    assert not any(broken(told))
    first = told[1]
    for change in (
        {"errno": "EIO"},
        {"log": ()},
        {"log": ("alloc: virt: (ptrval) dma: 0x0 size: 1024K",)},
        {"used": first.used - 1},
        {"taken": ((first.taken[0][0] + 1, first.taken[0][1]),)},
    ):
        assert any(broken((told[0], replace(first, **change), *told[2:]))), change


def test_a_pointer_that_could_not_be_hashed_yet_breaks_no_check():
    hidden = [
        replace(each, log=tuple(re.sub(r"virt: \S+", "virt: (ptrval)", line) for line in each.log))
        for each in session()
    ]
    assert hidden[1].log[0].startswith("alloc: virt: (ptrval) dma: 0x")
    assert not any(broken(tuple(hidden)))


def test_a_shell_tells_an_errno_in_words():
    assert helper.errno_of("cat: read error: Identifier removed\n") == "EIDRM"
    assert helper.errno_of("") == ""


def mapped(start: int, pages: int, region: str, memory: str) -> Mapping:
    kind = Attributes("PTE" if memory else "PGD", "KERNEL", False, True, False, True, memory)
    return Mapping(start, start + pages * 4096, region, kind)


def watched(*during: Mapping) -> arm_aliasing.Watched:
    """An area of 256 pages at 0x40000000, and a buffer of 16 in it; by sections when idle."""
    idle = PageTables((mapped(0xC0000000, 256, LINEAR, ""),))
    moments = (
        arm_aliasing.Moment("before", idle, ()),
        arm_aliasing.Moment("during", PageTables(during), ((0x40000000, 16 * 4096),)),
    )
    linear = LinearMap(0x40000000, 0x40100000, 0xC0000000)
    return arm_aliasing.Watched("a", 0x40000000, 0x40100000, linear, moments)


def test_a_cached_and_an_uncached_mapping_of_a_buffer_are_a_conflict():
    elsewhere = mapped(0xE0000000, 16, VMALLOC, WRITE_COMBINE)
    for linear, conflicts in (
        ([mapped(0xC0000000, 256, LINEAR, "")], 16),
        ([mapped(0xC0000000, 256, LINEAR, "MEM/CACHED/WBWA")], 16),
        ([mapped(0xC0000000, 16, LINEAR, WRITE_COMBINE)], 0),
        ([], 0),  # high memory
    ):
        found = watched(*linear, elsewhere)
        assert [found.conflicts(moment) for moment in found.moments] == [0, conflicts]
    alone = watched(mapped(0xC0000000, 256, LINEAR, ""))
    assert alone.conflicts(alone.moments[1]) == 0


def test_of_all_calls_a_buffer_s_own_are_told():
    call = partial(Call, cpu=0, returns=0)
    calls = (
        call("cma_alloc", words=(0, 64, 6, 0)),  # somebody else's
        call("cma_alloc", words=(0, 16, 4, 0)),
        call("alloc_contig_range", words=(0x40000, 0x40010, 4, 0)),
        call("apply_to_page_range", words=(0, 0xC0000000, 0x10000, 0)),
        call("apply_to_page_range", words=(0, 0xE0000000, 0x10000, 0)),
        call("free_contig_range", words=(0x40000, 16, 0, 0)),
    )
    linear = LinearMap(0x40000000, 0x40100000, 0xC0000000)
    traced = deep_dive.Traced(calls, 0x40000000, 0x100000, 4096, (0x40000000, 0x10000), linear)
    assert [index for _, index in traced.life()] == [1, 2, 3, 5]
    assert traced.first("cma_alloc", "cma_release") == [0, -1]
