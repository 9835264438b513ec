"""Bisection: the question, what the runs of a commit answer, and what pytest is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.bisect import trial
from harness.bisect.question import Answer, answer, question, together
from harness.cli.bisect import _arguments
from harness.errors import BuildFailed, ConfigError, DiskFull, HostError, UsageError
from harness.results.bisect import Asked, Commit, Fate, Question
from harness.results.plan import Wish
from harness.results.record import CaseRecord, CellRecord, Metric, RunRecord, now
from harness.verdict import Verdict

ID = "kmod/cma_kunit/Kbuild::cma_driver::zeroed"
COST = "tests/exact/test_cost.py::test_cost[mlock-1M]"
CASE = Question(case=ID)
ALLOC = Question(case=COST, metric="alloc", limit=100)


class TestQuestion:
    @pytest.mark.parametrize(
        ("text", "asked"),
        [
            ("test_cost[mlock-1M] alloc>1900000", ("test_cost[mlock-1M]", "alloc", ">", 1.9e6)),
            (f"{COST} free < 12.5", (COST, "free", "<", 12.5)),
            ("test_a[x > y] took>1e3", ("test_a[x > y]", "took", ">", 1000)),
            (" s::c pages<-1 ", ("s::c", "pages", "<", -1)),
        ],
    )
    def test_a_figure_has_a_case_a_name_a_sign_and_a_limit(self, text, asked):
        found = question(None, text, None, "exact")
        assert (found.case, found.metric, found.sign, found.limit) == asked

    @pytest.mark.parametrize(
        "text", ["alloc>5", "test_cost alloc", "test_cost alloc=5", "a b>x", "a b>=5", "a b>5 ns"]
    )
    def test_what_is_none_is_told(self, text):
        with pytest.raises(UsageError, match="not understood"):
            question(None, text, None, "exact")

    @pytest.mark.parametrize(("case", "metric"), [(None, None), ("a", "a b>1")])
    def test_one_thing_is_asked(self, case, metric):
        with pytest.raises(UsageError, match="one thing"):
            question(case, metric, None, "smp")

    def test_a_run_is_enough_where_instructions_are_counted(self):
        often = {lane: question("a", None, None, lane).repeat for lane in ("exact", "smp")}
        assert often == {"exact": 1, "smp": 5}
        assert question("a", None, 3, "exact").repeat == 3


def run(*cases: CaseRecord, ended: bool = True) -> RunRecord:
    cell = CellRecord(name="c", cases=cases)
    return RunRecord(id="r", started=now(), ended=now() if ended else None, cells=(cell,))


def case(verdict: Verdict, id_: str = ID, message: str = "", **metrics: float) -> CaseRecord:
    figures = {name: Metric(value=value, unit="pages") for name, value in metrics.items()}
    return CaseRecord(
        id=id_, suite="s", name="n", verdict=verdict, message=message, metrics=figures
    )


class TestAnswer:
    @pytest.mark.parametrize(
        ("verdict", "fate"),
        [
            (Verdict.PASS, Fate.GOOD),
            (Verdict.XFAIL, Fate.GOOD),
            (Verdict.FAIL, Fate.BAD),
            (Verdict.TIMEOUT, Fate.BAD),
            (Verdict.CRASH, Fate.BAD),
            (Verdict.LOST, Fate.SKIPPED),
            (Verdict.SKIP, Fate.SKIPPED),
        ],
    )
    def test_a_verdict_is_a_fate(self, verdict, fate):
        assert answer(CASE, run(case(verdict))).fate is fate

    def test_an_error_of_ours_is_no_fate(self):
        with pytest.raises(HostError, match="no disk"):
            answer(CASE, run(case(Verdict.ERROR, message="no disk")))

    def test_nor_is_a_run_that_was_killed(self):
        with pytest.raises(HostError, match="did not end"):
            answer(CASE, run(case(Verdict.LOST), ended=False))
        assert answer(CASE, run(case(Verdict.FAIL), ended=False)).fate is Fate.BAD

    def test_a_kernel_that_does_not_boot_is_skipped_and_told(self):
        layout = case(Verdict.CRASH, "layout", "Kernel panic")
        said = answer(CASE, run(layout, case(Verdict.LOST)))
        assert said.fate is Fate.SKIPPED
        assert "layout is CRASH: Kernel panic" in said.message
        assert answer(Question(case="layout"), run(layout)).fate is Fate.BAD

    @pytest.mark.parametrize("name", [ID, "cma_driver::zeroed", "zeroed", f"/somewhere/{ID}"])
    def test_a_case_is_known_by_the_end_of_its_id(self, name):
        others = (case(Verdict.FAIL, "t.py::not_zeroed"), case(Verdict.FAIL, "layout"))
        said = answer(Question(case=name), run(*others, case(Verdict.PASS)))
        assert said.fate is Fate.GOOD

    def test_a_name_of_two_cases_or_of_none_is_told(self):
        both = run(case(Verdict.PASS), case(Verdict.PASS, "k::cma_high::zeroed"))
        with pytest.raises(UsageError, match="several"):
            answer(Question(case="zeroed"), both)
        with pytest.raises(UsageError, match=r"no case 'zero'"):
            answer(Question(case="zero"), both)

    def test_a_figure_is_only_that_of_a_case_that_passed(self):
        assert answer(ALLOC, run(case(Verdict.PASS, COST, alloc=7))).values == (7,)
        assert answer(ALLOC, run(case(Verdict.FAIL, COST, alloc=7))).fate is Fate.SKIPPED

    def test_a_figure_that_there_is_not_is_told(self):
        with pytest.raises(UsageError, match="no figure 'alloc'"):
            answer(ALLOC, run(case(Verdict.PASS, COST, free=7)))

    @pytest.mark.parametrize(
        ("sign", "values", "fate"),
        [
            (">", [101], Fate.BAD),
            (">", [100], Fate.GOOD),
            ("<", [99], Fate.BAD),
            ("<", [100], Fate.GOOD),
            (">", [50, 300, 100], Fate.GOOD),
            (">", [50, 300, 101], Fate.BAD),
        ],
    )
    def test_the_median_is_compared(self, sign, values, fate):
        runs = [run(case(Verdict.PASS, COST, alloc=value)) for value in values]
        asked = ALLOC.model_copy(update={"sign": sign})
        said = together(asked, [answer(asked, each) for each in runs])
        assert (said.fate, list(said.values)) == (fate, values)
        assert "pages" in said.message

    @pytest.mark.parametrize("worst", [Fate.BAD, Fate.SKIPPED])
    def test_one_run_that_is_not_good_decides(self, worst):
        assert together(CASE, [Answer(Fate.GOOD, ""), Answer(worst, "no")]).message == "no"


class Dropped:
    """In the place of a cache: what was dropped of it."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []

    def drop(self, kind: str, key: str) -> None:
        self.entries.append((kind, key))


@pytest.fixture
def tried(monkeypatch, tmp_path):
    """Try a commit whose preparation ends so, and whose runs have these verdicts."""

    def prepare(*_: object, append: str, force: bool) -> SimpleNamespace:
        return SimpleNamespace(kernel=SimpleNamespace(key="k"))

    def attempt(prepared=prepare, verdicts=(), question=CASE):
        left = list(verdicts)
        cache = Dropped()
        monkeypatch.setattr(trial.cell, "wanted", lambda wish: None)
        monkeypatch.setattr(trial.cell, "prepare", prepared)
        monkeypatch.setattr(trial, "invoke", lambda words, place, cwd: run(case(left.pop(0))))
        wish = Wish(kernel="k", variant="plain", board="virt", layout="default")
        commit = Commit(sha="0", subject="", author="", date="")
        asked = Asked(
            tree="t", good=commit, bad=commit, question=question, cell=wish, cwd=str(tmp_path)
        )
        try:
            return trial.Trial(cache)(asked, tmp_path), left
        finally:
            assert cache.entries == ([("kernel", "k")] if prepared is prepare else [])

    return attempt


class TestTrial:
    BROKEN = BuildFailed(
        "mm/cma.c: In function 'f':\nmm/cma.c:9:2: error: 'x' undeclared\n    9 |  x++;",
        where="tuxmake",
    )

    @staticmethod
    def refusing(problem: Exception):
        def prepare(*_: object, append: str, force: bool) -> None:
            raise problem

        return prepare

    def test_what_does_not_build_is_skipped_with_the_compiler_s_reason(self, tried):
        said, _ = tried(self.refusing(self.BROKEN))
        assert said.fate is Fate.SKIPPED
        first, rest = said.message.split("\n", 1)
        assert first == "does not build: mm/cma.c:9:2: error: 'x' undeclared"
        assert rest == self.BROKEN.what

    def test_what_cannot_be_configured_is_skipped(self, tried):
        said, _ = tried(self.refusing(ConfigError("CONFIG_CMA did not survive")))
        assert (said.fate, said.message) == (Fate.SKIPPED, "CONFIG_CMA did not survive")

    def test_what_the_host_refuses_is_not(self, tried):
        with pytest.raises(DiskFull):
            tried(self.refusing(DiskFull("no space left on the disk")))

    @pytest.mark.parametrize(
        ("verdicts", "fate", "left"),
        [
            ([Verdict.PASS] * 3, Fate.GOOD, 0),
            ([Verdict.PASS, Verdict.CRASH, Verdict.PASS], Fate.BAD, 1),
            ([Verdict.LOST, Verdict.PASS, Verdict.PASS], Fate.SKIPPED, 2),
        ],
    )
    def test_a_case_is_run_until_one_run_is_not_good(self, tried, verdicts, fate, left):
        said, rest = tried(verdicts=verdicts, question=Question(case=ID, repeat=3))
        assert (said.fate, len(rest)) == (fate, left)


class TestArguments:
    def test_a_whole_id_runs_that_case(self, monkeypatch, tmp_path):
        found = _arguments(["-v"], ID, "smp")
        assert found[0] == "-v"
        assert found[1] == ID
        monkeypatch.chdir(tmp_path)
        found = _arguments(["-v"], ID, "smp")
        assert found[1].endswith(f"/{ID}")
        assert Path(found[1].partition("::")[0]).exists()
        (tmp_path / "test_mine.py").touch()
        assert _arguments([], "test_mine.py::test_a", "smp") == ["test_mine.py::test_a"]

    def test_the_end_of_one_selects_it_of_the_lane_s_own(self):
        assert _arguments([], "test_cost[mlock-1M]", "exact")[:2] == ["-k", "test_cost[mlock-1M]"]
        assert _arguments([], "cma_driver::zeroed", "smp")[1:2] == ["zeroed"]
        assert _arguments(["-k", "x"], "zeroed", "smp")[:-1] == ["-k", "x"]

    def test_the_layout_is_a_case_of_each_run(self):
        assert len(_arguments([], "layout", "smp")) == 1

    def test_a_path_is_taken_as_it_is(self):
        assert _arguments(["tests"], ID, "smp") == ["tests"]
