"""The parts of an allocation: functions to ranges, counts to figures, figures to a page."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from harness.cma import parts
from harness.cma.parts import FUNCTIONS, INTERRUPT, NAMES, REST, Window
from harness.errors import GuestError, HarnessError, HostError
from harness.guest import counter
from harness.report import html
from harness.report.parts import bars, names
from harness.results.record import CaseRecord, CellRecord, Metric, RunRecord

SYMBOLS = {
    "dma_alloc_attrs": [(0xC0100000, 0x100)],
    "__irq_svc": [(0xC0100100, 0x80)],
    "isolate_single_pageblock.constprop.0": [(0xC0200000, 0x40)],
    "migrate_pages": [(0xC0300000, 0x20)],
    "kmalloc": [(0xC0400000, 0x20)],
}


def number(part: str) -> int:
    return list(FUNCTIONS).index(part)


def test_a_window_is_from_the_allocation_to_its_return_to_a_module():
    lines = parts.ranges(SYMBOLS).splitlines()
    assert lines[:2] == ["begin c0100000 0 0", "caller bf000000 c0000000 0"]


def test_an_interrupt_is_from_its_vector_to_the_last_instruction_of_its_handler():
    line = parts.ranges(SYMBOLS).splitlines()[2]
    assert line == f"interrupt ffff0018 c010017c {len(FUNCTIONS)}"


@pytest.mark.parametrize(("start", "modules"), [(0x8, "7f"), (0xB, "af"), (0x4, "3f")])
def test_the_modules_are_below_the_linear_map_wherever_that_begins(start, modules):
    symbols = SYMBOLS | {"dma_alloc_attrs": [((start << 28) + 0x100000, 0x100)]}
    assert f"caller {modules}000000 {start:x}0000000 0\n" in parts.ranges(symbols)


def test_ranges_are_those_of_functions_that_are_there_whatever_gcc_appended():
    assert parts.ranges(SYMBOLS).splitlines()[3:] == [
        f"part c0100000 c0100100 {number(REST)}",
        f"part c0200000 c0200040 {number('isolate')}",
        f"part c0300000 c0300020 {number('migrate')}",
    ]


def test_the_rest_is_the_part_in_which_a_window_begins():
    assert number(REST) == 0


def test_a_part_without_a_function_is_not_told_apart():
    assert parts.told_apart(SYMBOLS) == {"isolate", "migrate"}


def test_no_function_has_two_parts():
    every = [name for functions in FUNCTIONS.values() for name in functions]
    assert len(every) == len(set(every))


def test_symbols_without_an_interrupt_are_refused():
    with pytest.raises(HarnessError, match="no function '__irq_svc'"):
        parts.ranges({"dma_alloc_attrs": [(4, 4)]})


def line(**counts: int) -> str:
    return " ".join(str(counts.get(name, 0)) for name in (*FUNCTIONS, INTERRUPT)) + "\n"


def test_each_line_is_a_window():
    first, second = parts.read(line(rest=30, clear=12) + line(migrate=7, interrupt=9))
    assert (first.counts["clear"], first.counts[REST]) == (12, 30)
    assert (second.counts["migrate"], second.path) == (7, 7)


def test_a_line_of_fewer_parts_is_refused():
    with pytest.raises(GuestError, match="3 parts, not"):
        parts.read("1 2 3\n")


def test_parts_are_what_was_counted_and_interrupts_are_told_apart():
    (window,) = parts.read(line(rest=130, clear=5000, search=70, interrupt=900))
    found = window.of(6200, frozenset(NAMES))
    assert window.path == 5200
    assert (found["clear"], found["search"], found[REST], found[INTERRUPT]) == (5000, 70, 130, 900)


def test_what_is_not_told_apart_is_of_the_rest():
    (window,) = parts.read(line(rest=130, clear=5000, search=70))
    assert window.of(5300, frozenset({"clear"})) == {"clear": 5000, REST: 200, INTERRUPT: 0}


@pytest.mark.parametrize("total", [110_000, 6199])
def test_a_window_of_another_allocation_is_refused(total: int):
    window = Window({REST: 1200, "clear": 5000, INTERRUPT: 0})
    with pytest.raises(GuestError, match="a window of 6200 instructions"):
        window.of(total, frozenset({"clear"}))


def test_qemu_is_given_the_plugin_and_its_files(tmp_path):
    words = counter.options(tmp_path / "c.so", tmp_path / "r", tmp_path / "o")
    assert words == ("-plugin", f"{tmp_path}/c.so,ranges={tmp_path}/r,output={tmp_path}/o")


def test_a_comma_in_a_path_is_refused(tmp_path):
    with pytest.raises(HostError, match="a comma"):
        counter.options(tmp_path / "c,d.so", tmp_path / "r", tmp_path / "o")


def cell() -> CellRecord:
    counted = {name: Metric(value=value, unit="instructions") for name, value in FIGURES.items()}
    cases = (
        CaseRecord(id="a", suite="s", name="parts[anon-1M]", metrics=counted),
        CaseRecord(id="b", suite="s", name="other", metrics={"took": Metric(value=1, unit="s")}),
    )
    return CellRecord(name="cell", cases=cases)


FIGURES = {"alloc": 400, "part.migrate": 300, "part.rest": 100}


def test_a_case_with_parts_has_a_bar():
    (bar,) = bars(cell())
    assert (bar.case, bar.total, bar.unit) == ("parts[anon-1M]", 400, "instructions")
    assert [(piece.name, piece.percent) for piece in bar.pieces] == [("migrate", 75), ("rest", 25)]
    assert names((bar,)) == ("migrate", "rest")


def test_the_page_has_the_bar_and_one_without_parts_has_none():
    run = RunRecord(id="r", started=datetime(2026, 1, 1, tzinfo=UTC), cells=(cell(),))
    assert 'style="width: 75.000%" title="migrate 300 (75.0 %)"' in html.render(run)
    bare = run.model_copy(update={"cells": (CellRecord(name="cell"),)})
    assert 'class="bar"' not in html.render(bare)
