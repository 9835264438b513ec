"""Real `git bisect run` on a tree of one file, which says what a commit is (bisect_fakes.py)."""

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
from harness.bisect.repository import Repository, cloned
from harness.cache import Cache
from harness.cli.app import app
from harness.errors import HostError, UsageError
from harness.progress import Progress
from harness.report import bisect as report
from harness.results.bisect import Asked, Fate, Question
from harness.results.plan import Wish

cli.load(["bisect"])
QUIET = Progress(quiet=True)
CASE = Question(case="zeroed")


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
            (["bad", "good", "bad"], r"--good is bad here, so nothing is bisected: it is bad"),
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

    def test_an_end_that_could_not_be_judged_is_tried_again(self, history):
        tree = history("good", "good", "skipped")
        directory = None
        for _ in range(2):
            with pytest.raises(UsageError, match="--bad cannot be judged"):
                bisected(tree, "HEAD~2", "HEAD", directory)
            (directory,) = (tree.parent / "runs").iterdir()
        assert asked_of(tree) == ["good", "skipped", "skipped"]

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

    def test_worktrees_of_one_repository_have_one_clone_and_a_head_each(self, history, tmp_path):
        tree = history("good", "bad")
        git(tree, "worktree", "add", "-q", str(tmp_path / "other"), "HEAD~1")
        one, other = Repository.at(tree), Repository.at(tmp_path / "other")
        assert one.store == other.store
        assert one.commit("HEAD").subject == "mm/cma: 1"
        assert other.commit("HEAD").subject == "mm/cma: 0"

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
        assert "\nbisect   left after the next: 3; steps: about 2\n" in said
        assert set(re.findall(r"^\w+", said, re.M)) == {"commit", "bisect", "good", "bad"}

    def test_the_record_is_drawn(self, history):
        record = bisected(history("good", "skipped", "good", "bad"), "HEAD~3", "HEAD")
        screen = io.StringIO()
        report.show(record, Console(file=screen))
        text = screen.getvalue()
        assert f"first bad commit: {record.found[0].sha} mm/cma: 3" in text
        assert "A. Developer <a@example.org>, " in text
        assert len(
            re.findall(r"^(?:good|bad|skipped) +\w{12}  mm/cma: \d +it is ", text, re.M)
        ) == len(record.tried)


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
    done = CliRunner().invoke(app, ["bisect", *right, *words])
    assert isinstance(done.exception, UsageError)
    assert told in str(done.exception)
    assert not (tree.parent / "runs").exists()
