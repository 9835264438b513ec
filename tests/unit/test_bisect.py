"""Bisection: the question, what runs answer, and real `git bisect run` on a tree of one file.

In the place of a kernel that is built and run, the checked out file says what the commit is.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import bisect_fakes
import pytest
from bisect_fakes import judge
from rich.console import Console
from typer.testing import CliRunner

from harness import cli
from harness.bisect import hunt
from harness.bisect.hunt import Hunt
from harness.bisect.question import Answer, answer, question, together
from harness.bisect.repository import Repository, cloned
from harness.cache import Cache
from harness.cli.bisect import _arguments
from harness.errors import HostError, UsageError
from harness.progress import Progress
from harness.report import bisect as report
from harness.results.bisect import Asked, Fate, Question
from harness.results.plan import Wish
from harness.results.record import CaseRecord, CellRecord, Metric, RunRecord, now
from harness.verdict import Verdict

QUIET = Progress(quiet=True)
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


def git(tree: Path, *words: str, stdin: str = "") -> None:
    identity = ("-c", "user.name=A. Developer", "-c", "user.email=a@example.org")
    subprocess.run(["git", *identity, *words], cwd=tree, check=True, input=stdin, text=True)


def imported(number: int, word: str) -> str:
    """Return a commit as git fast-import reads it; its file begins with the word."""
    subject, text = f"mm/cma: {number}", f"{word} {number}\n"
    return (
        f"commit refs/heads/main\n"
        f"committer A. Developer <a@example.org> {1_700_000_000 + number} +0000\n"
        f"data {len(subject)}\n{subject}\nM 100644 inline mm/cma.c\ndata {len(text)}\n{text}\n"
    )


@pytest.fixture
def history(tmp_path, monkeypatch):
    """Make a tree whose commits say these words, and return it."""
    monkeypatch.setattr(hunt, "COMMAND", (sys.executable, bisect_fakes.__file__))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))

    def make(*words: str) -> Path:
        tree = tmp_path / "my tree"
        tree.mkdir()
        git(tree, "init", "-q", "-b", "main")
        git(tree, "fast-import", "--quiet", stdin="".join(map(imported, range(len(words)), words)))
        git(tree, "checkout", "-q", "main")
        return tree

    return make


def bisected(tree: Path, good: str, bad: str, resume: Path | None = None, **hunted: object):
    """Return the record of a bisection of the tree."""
    top = tree.parent
    theirs = Repository.at(tree)
    ends = theirs.commit(good), theirs.commit(bad)
    theirs.check_order(*ends)
    with cloned(theirs, ends, Cache(top / "cache"), QUIET) as clone:
        wish = Wish(kernel=str(clone.path), variant="plain", board="virt", layout="default")
        asked = Asked(
            tree=str(tree), good=ends[0], bad=ends[1], question=CASE, cell=wish, cwd=str(top)
        )
        directory = hunt.begin(asked, top / "runs", resume)
        return Hunt(directory, clone, judge, hunted.get("progress", QUIET)).run()


def asked_of(tree: Path) -> list[str]:
    (notes,) = (tree.parent / "runs").glob("*/asked")
    return notes.read_text().split("\n")[:-1]


def listing(tree: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in tree.rglob("*")}


class TestHunt:
    def test_the_first_bad_commit_is_found_and_the_tree_is_only_read(self, history):
        tree = history(*["good"] * 4, "skipped", "good", *["bad"] * 3)
        before = listing(tree)
        record = bisected(tree, "HEAD~8", "main")
        (found,) = record.found
        assert (found.subject, found.author) == ("mm/cma: 6", "A. Developer <a@example.org>")
        assert record.ended is not None
        assert listing(tree) == before
        fates = {each.commit.subject: each.fate for each in record.tried}
        assert fates["mm/cma: 0"] is fates["mm/cma: 5"] is Fate.GOOD
        assert fates["mm/cma: 4"] is Fate.SKIPPED
        assert fates["mm/cma: 6"] is fates["mm/cma: 8"] is Fate.BAD
        assert len(fates) == len(record.tried) < 8

    def test_what_only_skipped_commits_lie_between_is_all_told(self, history):
        record = bisected(history("good", "skipped", "skipped", "bad"), "HEAD~3", "HEAD")
        assert {each.subject for each in record.found} == {f"mm/cma: {n}" for n in (1, 2, 3)}

    def test_neighbours_need_no_more_than_their_own_trial(self, history):
        record = bisected(history("good", "bad"), "HEAD~1", "HEAD")
        assert [each.subject for each in record.found] == ["mm/cma: 1"]
        assert len(record.tried) == 2

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["bad", "good", "bad"], r"--good is bad here, so .*: it is bad"),
            (["good", "bad", "good"], r"--bad is good here"),
            (["skipped", "good", "bad"], r"--good cannot be judged, .*: it is skipped"),
        ],
    )
    def test_ends_that_are_not_what_they_are_called_are_told_at_once(self, history, words, told):
        tree = history(*words)
        with pytest.raises(UsageError, match=told):
            bisected(tree, "HEAD~2", "HEAD")
        assert len(asked_of(tree)) <= 2

    def test_an_error_of_the_host_blames_no_commit(self, history):
        tree = history("good", "good", "host", "bad", "bad")
        with pytest.raises(HostError, match="no commit is to blame: no disk"):
            bisected(tree, "HEAD~4", "HEAD")
        assert asked_of(tree) == ["good", "bad", "host"]

    @pytest.mark.parametrize("steps", [["bug"], ["good", "bug", "good"]], ids=["last", "first"])
    def test_a_step_that_breaks_down_blames_no_commit(self, history, steps):
        tree = history("good", *steps, "bad")
        with pytest.raises(HostError, match=r"git takes \w+ for bad, and no step said so"):
            bisected(tree, f"HEAD~{len(steps) + 1}", "HEAD")
        assert asked_of(tree) == ["good", "bad", "bug"]

    def test_a_commit_that_is_known_is_not_tried_again(self, history):
        tree = history("good", "good", "host", "bad", "bad")
        with pytest.raises(HostError):
            bisected(tree, "HEAD~4", "HEAD")
        (directory,) = (tree.parent / "runs").iterdir()
        (directory / "asked").unlink()
        with pytest.raises(HostError):
            bisected(tree, "HEAD~4", "HEAD", directory)
        assert asked_of(tree) == ["host"]

    def test_another_bisection_is_not_gone_on_with(self, history):
        tree = history("good", "good", "bad")
        bisected(tree, "HEAD~2", "HEAD")
        (directory,) = (tree.parent / "runs").iterdir()
        with pytest.raises(UsageError, match="another bisection"):
            bisected(tree, "HEAD~1", "HEAD", directory)

    def test_the_clone_is_kept_and_sees_new_commits(self, history, monkeypatch):
        tree = history("good", "good", "bad")
        bisected(tree, "HEAD~2", "HEAD")
        (place,) = (tree.parent / "cache" / "build").glob("bisect-*/linux")
        born = (place / ".git" / "config").stat().st_ino
        (place / ".git" / "index.lock").touch()  # of a git that was killed
        (place / "left").touch()
        (tree / "mm" / "cma.c").write_text("bad")
        git(tree, "commit", "-q", "--allow-empty", "-m", "new")
        monkeypatch.setenv("GIT_DIR", "/nowhere")
        assert [each.subject for each in bisected(tree, "HEAD~3", "HEAD").found] == ["mm/cma: 2"]
        assert (place / ".git" / "config").stat().st_ino == born
        assert not (place / "left").exists()

    def test_a_broken_clone_is_made_anew(self, history):
        tree = history("good", "good", "bad")
        bisected(tree, "HEAD~2", "HEAD")
        (place,) = (tree.parent / "cache" / "build").glob("bisect-*/linux")
        (place / ".git" / "objects" / "info" / "alternates").unlink()
        assert bisected(tree, "HEAD~2", "HEAD").found

    def test_what_was_mended_on_the_way_to_good_is_told(self, history):
        tree = history("bad", "bad")
        git(tree, "checkout", "-q", "-b", "mended", "HEAD~1")
        (tree / "mm" / "cma.c").write_text("good")
        git(tree, "commit", "-qam", "mend")
        with pytest.raises(UsageError, match="was mended on the way to --good"):
            bisected(tree, "mended", "main")

    def test_what_happens_is_told(self, history, capsys):
        record = bisected(
            history(*["good"] * 5, *["bad"] * 4), "HEAD~8", "HEAD", progress=Progress()
        )
        said = capsys.readouterr().err
        begun = re.findall(r"^commit   (\w{12}) mm/cma: \d$", said, re.M)
        assert begun == [each.commit.sha[:12] for each in record.tried]
        ended = re.findall(r"^(\w+) +\w{12} it is \w+  \d+\.\d s$", said, re.M)
        assert ended == [each.fate for each in record.tried]
        assert "\nbisect   3 commits left after the next, about 2 steps\n" in said
        assert set(re.findall(r"^\w+", said, re.M)) == {"commit", "bisect", "good", "bad"}

    def test_the_record_is_drawn(self, history):
        record = bisected(history("good", "skipped", "good", "bad"), "HEAD~3", "HEAD")
        screen = io.StringIO()
        report.show(record, Console(file=screen, width=100))
        text = screen.getvalue()
        assert f"first bad commit: {record.found[0].sha} mm/cma: 3" in text
        assert "A. Developer <a@example.org>, " in text
        assert len(re.findall(r"^ *(?:good|bad|skipped) +\w{12} ", text, re.M)) == len(record.tried)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--good", "none"], "no commit 'none'"),
        (["--good", "--all"], "no commit '--all'"),
        (["--good", "main"], "are the same commit"),
        (["--good", "main", "--bad", "main~1"], "are the wrong way round"),
        (["--tree", "/dev"], "no git tree"),
        (["--tree", "/nowhere"], "no git tree"),
        (["--board", "none"], "no board 'none'"),
        (["--board", "virt,zynq"], "for one cell"),
        (["--metric", "a b>1"], "one thing tells good from bad"),
        (["--resume", "/nowhere"], "no record of a bisection"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_is_made(history, monkeypatch, words, told):
    tree = history("good", "bad")
    monkeypatch.setenv("CMA_HARNESS_CACHE", str(tree.parent / "cache"))
    monkeypatch.chdir(tree.parent)
    right = ["--tree", str(tree), "--good", "main~1", "--bad", "main", "--case", "a"]
    done = CliRunner().invoke(cli.app, ["bisect", *right, *words])
    assert isinstance(done.exception, UsageError)
    assert told in str(done.exception)
    assert not (tree.parent / "runs").exists()


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
