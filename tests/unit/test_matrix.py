"""A matrix: its plan, what starts when, and what the record has whatever breaks."""

from __future__ import annotations

import io
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matrix_fakes import BUILD, TEST, FakeLauncher, a_cell, a_matrix, a_wish, planned
from rich.console import Console

from harness import cell as cells
from harness.cli.choice import Choice
from harness.config import CONFIGS, MIB, Area, load_kernel
from harness.errors import ConfigError, UsageError
from harness.matrix import host, launch, outcome
from harness.matrix.begin import outlook
from harness.matrix.inputs import digests
from harness.matrix.outcome import Ending
from harness.matrix.plan import OVERHEAD, Planned, plan, wishes
from harness.matrix.schedule import Limits, forecast
from harness.matrix.watch import Watch
from harness.report import html, terminal
from harness.report.grid import grid
from harness.results import plan as stored
from harness.results import record
from harness.results.plan import PlanRecord
from harness.results.record import CELL_CASE, CaseRecord, CellRecord, RunRecord, Span, now
from harness.verdict import Verdict

ROOMY = Limits(cells=4, memory=100_000)


class TestPlan:
    def test_is_every_combination_in_order(self):
        found = wishes(("6.1", "6.12"), ("plain",), ("virt",), ("a", "b"), arguments=("-x",))
        assert [(each.kernel, each.layout) for each in found] == [
            ("6.1", "a"), ("6.1", "b"), ("6.12", "a"), ("6.12", "b"),
        ]  # fmt: skip
        assert {each.arguments for each in found} == {("-x",)}

    def test_puts_the_most_worth_first_and_keeps_the_order_of_the_rest(self):
        wanted = [
            (a_wish(layout=name, worth=worth), a_cell(layout=name))
            for name, worth in (("a", 1), ("b", 5), ("c", 1))
        ]
        assert [each.cell.layout.name for each in plan(wanted, None)] == ["b", "a", "c"]

    def test_names_each_cell_of_its_own(self):
        wanted = [(a_wish(), a_cell()), (a_wish(), a_cell()), (a_wish(part="repeat"), a_cell())]
        assert [each.name for each in plan(wanted, None)] == [
            "6.12-virt-default", "6.12-virt-default.2", "repeat.6.12-virt-default",
        ]  # fmt: skip

    def test_takes_times_from_a_record_of_the_same_tests_alone(self):
        ran = CellRecord(name="6.12-virt-default", arguments=("-x",), seconds=12.0)
        earlier = RunRecord(id="r", started=now(), cells=(ran,))
        for arguments, seconds in ((("-x",), 12.0), (("-k", "a"), 99.0)):
            wish = a_wish(arguments=arguments, seconds=99.0)
            (found,) = plan([(wish, a_cell())], earlier)
            assert found.seconds == seconds

    def test_says_why_a_cell_cannot_be(self):
        area = Area(name="a", size=512 * MIB)
        full = a_cell(memory=512)
        full = cells.Cell(full.kernel, full.board, full.layout.model_copy(update={"area": (area,)}))
        none, good = plan([(a_wish(), full), (a_wish(), a_cell(memory=512))], None)
        assert none.obstacle is not None
        assert "512 MiB" in none.obstacle
        assert good.obstacle is None

    def test_counts_the_guest_and_what_drives_it(self):
        assert planned("a", memory=512).memory == 512 + OVERHEAD

    def test_is_read_back(self, tmp_path):
        whole = PlanRecord(wishes=(a_wish(arguments=("-k", "a b")),), budget=60.0)
        stored.write(tmp_path, whole)
        assert stored.read(tmp_path) == whole
        with pytest.raises(UsageError, match="no plan of a matrix"):
            stored.read(tmp_path / "none")
        (tmp_path / "plan.json").write_text("{}")
        with pytest.raises(ConfigError, match="not a plan of a matrix"):
            stored.read(tmp_path)


some_cells = st.lists(
    st.builds(
        lambda kernel, memory, seconds: (kernel, memory, seconds),
        st.sampled_from(("5.10", "6.1", "6.12")),
        st.integers(64, 3000),
        st.floats(0.1, 100),
    ),
    min_size=1,
    max_size=12,
)
some_limits = st.builds(Limits, st.integers(1, 5), st.integers(400, 4000))


def named(shapes: list[tuple[str, int, float]]) -> list[Planned]:
    return [
        planned(f"cell{number}", kernel=kernel, memory=memory, seconds=seconds)
        for number, (kernel, memory, seconds) in enumerate(shapes)
    ]


class TestMatrix:
    @settings(deadline=None)
    @given(some_cells, some_limits, st.randoms(use_true_random=False))
    def test_never_exceeds_the_limits_and_runs_each_cell_once(self, shapes, limits, random):
        """The launcher asserts the limits at each start, and that one kernel is built at a time."""
        whole = named(shapes)
        with tempfile.TemporaryDirectory() as place:
            launcher = FakeLauncher(Path(place) / "run", limits, choose=random.randrange)
            found = a_matrix(whole, launcher).run()
        fit = [each for each in whole if each.memory <= limits.memory]
        assert sorted(name for kind, name in launcher.begun if kind == TEST) == sorted(
            each.name for each in fit
        )
        built = [name for kind, name in launcher.begun if kind == BUILD]
        assert len(built) == len({each.kernel for each in fit})
        for each in found.cells:
            (case,) = each.cases
            here = each.name in {one.name for one in fit}
            assert case.verdict is (Verdict.PASS if here else Verdict.ERROR)
        assert found.ended is not None

    def test_cells_run_while_another_kernel_is_built(self, tmp_path):
        whole = [planned("a"), planned("b", kernel="6.1")]
        launcher = FakeLauncher(tmp_path / "run", ROOMY)
        a_matrix(whole, launcher).run()
        assert launcher.begun == [(BUILD, "a"), (BUILD, "b"), (TEST, "a"), (TEST, "b")]

    def test_small_cells_run_beside_a_large_one_that_waits(self, tmp_path):
        whole = [planned("a", memory=600), planned("large", memory=3000), planned("b", memory=600)]
        limits = Limits(4, 3500)
        launcher = FakeLauncher(tmp_path / "run", limits)
        a_matrix(whole, launcher).run()
        assert [name for kind, name in launcher.begun if kind == TEST] == ["a", "b", "large"]

    def test_a_kernel_that_does_not_build_is_the_error_of_its_cells_alone(self, tmp_path):
        whole = [planned("a", kernel="6.1"), planned("b"), planned("c", kernel="6.1")]
        launcher = FakeLauncher(tmp_path / "run", ROOMY, broken=("6.1",))
        found = {each.name: each for each in a_matrix(whole, launcher).run().cells}
        for name in ("a", "c"):
            (case,) = found[name].cases
            assert (case.id, case.verdict) == (CELL_CASE, Verdict.ERROR)
            assert "no compiler" in case.message
            assert found[name].seconds is None
        assert found["b"].cases[0].verdict is Verdict.PASS

    def test_a_cell_without_a_record_is_its_own_error(self, tmp_path):
        launcher = FakeLauncher(tmp_path / "run", ROOMY, silent=("a",))
        first, second = a_matrix([planned("a"), planned("b")], launcher).run().cells
        assert first.cases[0].verdict is Verdict.ERROR
        assert first.cases[0].message == "dtc refused it"
        assert second.cases[0].verdict is Verdict.PASS

    def test_a_cell_that_cannot_be_is_skipped_with_the_reason(self, tmp_path):
        whole = [planned("a", obstacle="no such machine"), planned("b")]
        launcher = FakeLauncher(tmp_path / "run", ROOMY)
        first, _ = a_matrix(whole, launcher).run().cells
        assert first.cases[0].verdict is Verdict.SKIP
        assert first.cases[0].message == "no such machine"
        assert (BUILD, "a") not in launcher.begun

    @pytest.mark.parametrize("wait", range(4))
    def test_ctrl_c_leaves_a_record_that_a_resume_completes(self, tmp_path, wait):
        whole = [planned("a"), planned("b"), planned("c")]
        limits = Limits(2, 100_000)
        launcher = FakeLauncher(tmp_path / "run", limits, interrupt_at=wait)
        with pytest.raises(KeyboardInterrupt):
            a_matrix(whole, launcher).run()
        assert launcher.running == []
        stopped = record.read(tmp_path / "run")
        assert stopped.ended is None
        assert [each.name for each in stopped.cells] == ["a", "b", "c"]
        finished = {each.name for each in stopped.cells if each.seconds is not None}
        assert len(finished) == max(0, wait - 1)
        for each in stopped.cells:
            lost = Verdict.LOST in {case.verdict for case in each.cases}
            assert lost is (each.name not in finished)

        again = FakeLauncher(tmp_path / "run", limits)
        ended = a_matrix(whole, again).run()
        assert ended.ended is not None
        assert {name for kind, name in again.begun if kind == TEST} == {"a", "b", "c"} - finished
        assert {case.verdict for case in ended.cases()} == {Verdict.PASS}

    def test_a_resume_runs_again_what_has_changed(self, tmp_path):
        whole = [planned("a"), planned("b")]
        first = FakeLauncher(tmp_path / "run", ROOMY)
        a_matrix(whole, first).run()
        again = FakeLauncher(tmp_path / "run", ROOMY)
        a_matrix(whole, again, inputs={"a": "same", "b": "changed"}).run()
        assert again.begun == [(BUILD, "b"), (TEST, "b")]

    def test_a_second_ctrl_c_kills(self, tmp_path):
        class Stubborn(FakeLauncher):
            def ended(self, *_):
                raise KeyboardInterrupt

        launcher = Stubborn(tmp_path / "run", ROOMY)
        with pytest.raises(KeyboardInterrupt):
            a_matrix([planned("a")], launcher).run()
        assert launcher.killed == ["a"]
        assert launcher.running == []


class TestBudget:
    def test_what_does_not_fit_is_skipped_with_the_reason(self, tmp_path):
        whole = [planned("long", seconds=100), planned("short", seconds=10)]
        launcher = FakeLauncher(tmp_path / "run", ROOMY)
        long, short = a_matrix(whole, launcher, budget=60.0).run().cells
        (case,) = long.cases
        assert case.verdict is Verdict.SKIP
        assert "did not fit" in case.message
        assert long.seconds is None
        assert short.cases[0].verdict is Verdict.PASS

    def test_what_runs_when_it_is_used_up_is_ended_and_lost(self, tmp_path):
        whole = [planned("slow", seconds=10), planned("next", seconds=10)]
        limits = Limits(1, 100_000)
        launcher = FakeLauncher(tmp_path / "run", limits, seconds={"slow": 900.0})
        slow, behind = a_matrix(whole, launcher, budget=60.0).run().cells
        assert [case.verdict for case in slow.cases] == [Verdict.PASS, Verdict.LOST, Verdict.LOST]
        assert "budget of 1 min" in slow.cases[-1].message
        assert behind.cases[0].verdict is Verdict.SKIP

    def test_counts_the_build_of_a_kernel_once(self):
        whole = [planned("a", seconds=10), planned("b", seconds=10)]
        kernel = whole[0].kernel
        known = forecast(whole, Limits(1, 100_000), {kernel: 100.0}, 130.0)
        assert known == {"a": 100.0, "b": 110.0}
        assert forecast(whole, Limits(1, 100_000), {kernel: 100.0}, 111.0) == dict.fromkeys("ab")

    @settings(deadline=None)
    @given(some_cells, some_limits, st.floats(1, 300))
    def test_a_forecast_starts_nothing_that_would_end_too_late(self, shapes, limits, budget):
        whole = named(shapes)
        known = forecast(whole, limits, {}, budget)
        assert set(known) == {each.name for each in whole}
        for each in whole:
            start = known[each.name]
            assert start is None or start + (each.seconds or 0) <= budget


def ran(*verdicts: Verdict, ended: bool = True) -> RunRecord:
    cases = tuple(
        CaseRecord(
            id=str(number), suite="s", name="n", verdict=verdict,
            console=Span(log="console.log", start=0, end=1),
        )
        for number, verdict in enumerate(verdicts)
    )  # fmt: skip
    cell = CellRecord(name="6.12-virt-default", cases=cases)
    return RunRecord(id="r", started=now(), ended=now() if ended else None, cells=(cell,))


class TestOutcome:
    def test_is_the_cell_s_own_cases_with_its_console_where_it_lies(self):
        found = outcome.came_to(planned("a"), "i", ran(Verdict.PASS), Ending(0, 3.0, ""))
        assert (found.name, found.inputs, found.seconds) == ("a", "i", 3.0)
        (case,) = found.cases
        assert case.console is not None
        assert case.console.log == "6.12-virt-default/console.log"

    @pytest.mark.parametrize(
        ("own", "status"),
        [
            (ran(Verdict.PASS), -9),
            (ran(Verdict.PASS), 3),
            (ran(Verdict.PASS, ended=False), 0),
            (ran(), 2),
        ],
        ids=["killed", "full disk", "cut short", "collected nothing"],
    )
    def test_an_end_that_the_cases_do_not_explain_is_an_error(self, own, status):
        found = outcome.came_to(planned("a"), "", own, Ending(status, 3.0, "x\ncma-harness: why"))
        assert found.cases[-1].verdict is Verdict.ERROR
        assert "why" in found.cases[-1].message
        assert found.seconds is None

    def test_a_red_case_explains_exit_code_1(self):
        found = outcome.came_to(planned("a"), "", ran(Verdict.FAIL), Ending(1, 3.0, ""))
        assert [case.verdict for case in found.cases] == [Verdict.FAIL]

    def test_last_words_are_the_error_or_the_end(self):
        assert outcome.last_words("a\ncma-harness: no\n  next: do\n") == "no\n  next: do"
        assert outcome.last_words("cma-harness: no") == "no"
        assert outcome.last_words("\n".join(map(str, range(30)))).startswith("10\n11")


class TestCommands:
    def test_a_cell_is_started_as_a_user_would(self, tmp_path):
        each = planned("a")
        words = launch.test_command(each, tmp_path)
        assert {"--kernel=6.12", "--layout=default", f"--run-dir={tmp_path}"} <= set(words)
        assert "--kernel-only" in launch.build_command(each)

    def test_what_changes_a_kernel_is_for_its_build_and_its_cells(self, tmp_path):
        files = {"patches": ("one.patch", "two.patch"), "fragments": ("lockdep.config",)}
        each = planned("a")
        changed = replace(each, wish=each.wish.model_copy(update=files))
        words = {"--patch=one.patch", "--patch=two.patch", "--config=lockdep.config"}
        assert words <= set(launch.build_command(changed))
        assert words <= set(launch.test_command(changed, tmp_path))

    def test_a_kernel_is_planned_with_what_changes_it(self):
        fragment = CONFIGS / "kconfig" / "debug.config"
        asked = Choice(layout="default,none", config=[str(fragment)])
        found = outlook(PlanRecord(wishes=asked.wishes(())), None, Limits(2, 100_000))
        plain = outlook(
            PlanRecord(wishes=replace(asked, config=None).wishes(())), None, Limits(2, 100_000)
        )
        assert found.plan[0].kernel == found.plan[1].kernel != plain.plan[0].kernel

    @pytest.mark.parametrize("wrong", ["0", "-1", "many", ""])
    def test_a_number_of_cells_is_one(self, wrong):
        with pytest.raises(UsageError, match="number of cells"):
            host.limits(wrong)

    def test_limits_are_the_host_s(self):
        found = host.limits(host.AUTO)
        assert found.cells >= 1
        assert found.memory > 0
        assert host.limits("3").cells == 3


def test_inputs_change_with_the_tests_and_the_definition(tmp_path):
    test = tmp_path / "test_mine.py"
    test.write_text("one")

    def digest(each: Planned) -> str:
        return digests([each], cache=None)[each.name]  # type: ignore[arg-type]

    def mine(layout: str = "default") -> Planned:
        wish = a_wish(arguments=(f"{test}::test_a",))
        return Planned("a", wish, a_cell(layout=layout))

    first = digest(mine())
    assert first == digest(mine())
    assert first != digest(mine("two-areas"))
    test.write_text("two")
    assert first != digest(mine())


@pytest.mark.parametrize("name", ["fix.patch", "series.toml"])
def test_inputs_change_with_a_patch(tmp_path, name):
    entry = '[[patch]]\nfile = "fix.patch"\nversions = "since 6.1"\nwhy = "a fix"\n'
    (tmp_path / "series.toml").write_text(entry)

    def digest(text: str) -> str:
        (tmp_path / "fix.patch").write_text(text)
        kernel = load_kernel("6.12", patches=[str(tmp_path / name)])
        each = Planned("a", a_wish(), replace(a_cell(), kernel=kernel))
        return digests([each], cache=None)["a"]  # type: ignore[arg-type]

    assert digest("one") != digest("two")


def two_cells() -> RunRecord:
    def case(suite: str, name: str, verdict: Verdict) -> CaseRecord:
        return CaseRecord(id=name, suite=suite, name=name, verdict=verdict)

    first = CellRecord(
        name="one",
        cases=(
            case("s", "a", Verdict.PASS), case("s", "b", Verdict.FAIL), case("t", "c", Verdict.PASS)
        ),
    )  # fmt: skip
    second = CellRecord(name="two", cases=(case("s", "a", Verdict.SKIP),))
    return RunRecord(id="r", started=now(), ended=now(), cells=(first, second))


def test_the_grid_has_a_square_for_each_suite_on_each_cell():
    rows = grid(two_cells()).rows
    assert [square.text for square in rows["s"]] == ["1F/2", "-"]
    assert [square.text for square in rows["t"]] == ["1", ""]
    page = html.render(two_cells())
    assert "1F/2" in page
    assert 'href="#two"' in page


@pytest.mark.parametrize(("width", "tables"), [(80, 1), (8, 2)])
def test_the_grid_fits_the_terminal(width, tables):
    screen = io.StringIO()
    terminal.show_grid(two_cells(), Console(file=screen, width=width))
    assert screen.getvalue().count("\ns ") == tables


def watched(tmp_path: Path, **options: object) -> str:
    """Return what is printed of a cell of which one case of two has ended, and then the other."""
    screen = io.StringIO()
    watch = Watch(Console(file=screen, width=80, **options), tmp_path, 1)
    each = planned("one")
    with watch:
        watch.began(each, builds=False)
        (tmp_path / "one").mkdir()
        half = ran(Verdict.PASS, Verdict.LOST, ended=False)
        (tmp_path / "one" / "run.json").write_text(half.model_dump_json())
        watch.refresh()
        watch.ended(each, outcome.waiting(each, ""))
    return screen.getvalue()


def test_a_log_has_plain_lines_for_what_begins_and_ends(tmp_path):
    began, ended, said = watched(tmp_path).splitlines()[:3]
    assert began == "one: began"
    assert re.fullmatch(r"one: 1 LOST  \d+\.\d s \(1 of 1\)", ended)
    assert said.startswith("LOST    cell")


def test_a_terminal_shows_how_far_each_cell_is(tmp_path):
    shown = watched(tmp_path, force_terminal=True, color_system=None)
    assert re.search(r"one +\d+ s +1 of 2: 1 PASS", shown)
    assert "began" not in shown
