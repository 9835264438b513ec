"""Mutants: the edits, the copy they are made in, and what a campaign makes of the suites' words."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.config import Kernel, Mutant, load_mutants
from harness.errors import BuildFailed, ConfigError, UsageError
from harness.kernel.tree import Source
from harness.mutants import campaign, edit, suites, tree
from harness.mutants.suites import Judgement
from harness.progress import Progress
from harness.results import mutants as results
from harness.results.mutants import CampaignRecord, ControlRecord, Fate, MutantRecord
from harness.results.record import CaseRecord, now
from harness.verdict import Verdict

FILE = """\
static int first(int a)
{
  if (a)
    return 1;
  return 0;
}

static unsigned long second(const struct cma *cma,
                            unsigned int order)
{
  return first(1);
}

int call(void) { return second(NULL, first(0)); }
"""


def mutant(**changes: object) -> Mutant:
    fields: dict[str, object] = {
        "id": "a-mutant",
        "file": "mm/cma.c",
        "before": "return 1;",
        "after": "return 2;",
        "promise": "one",
        "undoes": "none",
    }
    return Mutant.model_validate(fields | changes)


class TestEdit:
    def test_changes_what_stands_once(self):
        assert edit.apply(mutant(), FILE) == FILE.replace("return 1;", "return 2;")

    def test_changes_one_function_alone(self):
        found = edit.apply(mutant(function="second", before="return", after="goto"), FILE)
        assert found.count("goto") == 1
        assert "goto first(1);" in found

    def test_finds_a_function_whose_head_has_two_lines(self):
        found = edit.apply(mutant(function="second", before="first(1)", after="0"), FILE)
        assert "return 0;\n}\n\nint call" in found

    @pytest.mark.parametrize(
        "changes",
        [{"before": "return 3;"}, {"before": "return"}, {"function": "third"}],
        ids=["gone", "twice", "no-function"],
    )
    def test_names_the_file_and_the_text_of_one_that_does_not_apply(self, changes):
        with pytest.raises(ConfigError, match=r"a-mutant") as error:
            edit.apply(mutant(**changes), FILE)
        assert error.value.where == "mm/cma.c"
        assert changes.get("before", "third()") in str(error.value)


@pytest.fixture
def original(tmp_path: Path) -> Source:
    place = tmp_path / "cache" / "source" / "linux"
    (place / "mm").mkdir(parents=True)
    (place / "mm" / "cma.c").write_text(FILE)
    (place / "mm" / "slab.c").write_text("int slab;\n")
    return Source(place, "1", "6.12.0", "linux-source-6.12", "1")


@pytest.fixture
def copy(original: Source, tmp_path: Path) -> tree.Tree:
    kernel = Kernel(name="6.12", package="linux-source-6.12", config=())
    return tree.copy(kernel, original, 1, Cache(tmp_path / "cache"), Progress(quiet=True))


class TestTree:
    def test_breaks_the_copy_and_never_the_original(self, copy, original):
        with copy.broken_by(mutant()):
            assert "return 2;" in (copy.path / "mm/cma.c").read_text()
            assert (original.tree / "mm/cma.c").read_text() == FILE
        assert (copy.path / "mm/cma.c").read_text() == FILE

    def test_mends_what_the_suites_left_by_an_error(self, copy):
        with pytest.raises(BuildFailed), copy.broken_by(mutant()):
            raise BuildFailed("no")
        assert (copy.path / "mm/cma.c").read_text() == FILE

    def test_gives_a_mended_file_a_new_time_so_that_make_compiles_it(self, copy):
        file = copy.path / "mm/cma.c"
        os.utime(file, ns=(0, 0))
        with copy.broken_by(mutant()):
            broken = file.stat().st_mtime_ns
        assert 0 < broken <= file.stat().st_mtime_ns
        assert time.time_ns() - file.stat().st_mtime_ns < 60e9

    def test_shares_all_other_files(self, copy, original):
        file = "mm/slab.c"
        assert (copy.path / file).stat().st_ino == (original.tree / file).stat().st_ino

    def test_keeps_its_place(self, copy, original, tmp_path):
        kernel = Kernel(name="6.12", package="linux-source-6.12", config=())
        again = tree.copy(kernel, original, 1, Cache(tmp_path / "cache"), Progress(quiet=True))
        assert again == copy

    def test_copies_a_tree_of_the_users_whole(self, original, tmp_path):
        kernel = Kernel(name="mine", tree=original.tree, config=())
        whole = tree.copy(kernel, original, 1, Cache(tmp_path / "elsewhere"), Progress(quiet=True))
        file = "mm/slab.c"
        assert (whole.path / file).stat().st_ino != (original.tree / file).stat().st_ino

    def test_mends_what_a_killed_run_left(self, copy):
        file = copy.path / "mm/cma.c"
        file.unlink()
        file.write_text("broken")
        (copy.path / "mm/slab.c").unlink()
        assert sorted(copy.mend()) == ["mm/cma.c", "mm/slab.c"]
        assert file.read_text() == FILE
        assert copy.mend() == ()

    def test_checks_all_before_anything_is_built(self, copy):
        with pytest.raises(ConfigError, match="does not apply"):
            copy.check((mutant(), mutant(before="nowhere")))
        with pytest.raises(ConfigError, match="cannot be read"):
            copy.check((mutant(file="mm/none.c"),))


class TestSeed:
    def test_takes_over_objects_times_and_command_lines(self, copy, original, tmp_path):
        cache = Cache(tmp_path / "cache")
        for name in ("Kbuild", "Makefile"):
            (copy.path / name).write_text("VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 0\n")
        kernel = Kernel(name="linux-6.12", tree=copy.path, config=())
        known = cache.workdir(f"{original.label}-{kernel.family}")
        (known / ".config").write_text("CONFIG_CMA=y\n")
        (known / "cma.o").write_bytes(b"\x7fELF\0" + str(original.tree).encode())
        command = known / ".cma.o.cmd"
        command.write_text(f"gcc {original.tree}/mm/cma.c -ffile-prefix-map={known}/=\n")
        os.utime(command, ns=(5, 7))
        (known / "source").symlink_to(original.tree)
        tree.seed(original, kernel, cache, Progress(quiet=True))
        (work,) = (tmp_path / "cache" / "build").glob("linux-6.12-*")
        assert (work / "cma.o").read_bytes() == (known / "cma.o").read_bytes()
        assert (work / ".cma.o.cmd").read_text() == (
            f"gcc {copy.path}/mm/cma.c -ffile-prefix-map={work}/=\n"
        )
        assert (work / ".cma.o.cmd").stat().st_mtime_ns == 7
        assert (work / "source").readlink() == copy.path
        assert str(original.tree) in command.read_text()


def case(name: str, verdict: Verdict, message: str = "") -> CaseRecord:
    return CaseRecord(id=name, suite="s", name=name, verdict=verdict, message=message)


class TestJudge:
    def test_red_is_what_the_kernel_broke(self):
        said = suites.judge(
            [
                case("a", Verdict.PASS),
                case("b", Verdict.FAIL, "no"),
                case("c", Verdict.CRASH, "oops"),
                case("d", Verdict.TIMEOUT, "60 s"),
                case("e", Verdict.SKIP, "no area"),
            ]
        )
        assert said == Judgement(red=("b", "c", "d"), skipped=("e",), passed=("a",))

    def test_a_case_that_was_never_begun_kills_nothing(self):
        assert suites.judge([case("a", Verdict.LOST)]) == Judgement()

    def test_a_guest_that_died_does(self):
        assert suites.judge([case("layout", Verdict.LOST, "QEMU is gone")]).red == ("layout",)

    def test_an_error_of_the_harness_does_not(self):
        said = suites.judge([case("a", Verdict.ERROR, "no disk")])
        assert (said.red, said.errors) == ((), ("a: no disk",))


class TestVerdict:
    @pytest.mark.parametrize(
        ("said", "equivalent", "fate"),
        [
            ([Judgement(red=("a",))], "", Fate.KILLED),
            ([Judgement(passed=("a",))], "", Fate.SURVIVED),
            ([Judgement(passed=("a",))], "proof", Fate.EQUIVALENT),
            ([Judgement(red=("a",))], "proof", Fate.STALE),
            ([Judgement(red=("a",)), Judgement(passed=("a",))], "", Fate.SOMETIMES),
            ([Judgement(red=("a",)), Judgement(red=("b",))], "", Fate.KILLED),
            ([Judgement(errors=("no disk",))], "", Fate.ERROR),
            ([Judgement(red=("a",), errors=("b: no",))], "", Fate.KILLED),
        ],
    )
    def test_of_repetitions(self, said, equivalent, fate):
        assert campaign.verdict(mutant(equivalent=equivalent), said)["fate"] is fate

    def test_notes_cases_that_hide_behind_a_skip(self):
        said = [Judgement(skipped=("a", "b"))]
        assert campaign.verdict(mutant(), said, frozenset({"a"}))["skipped"] == ("a",)

    def test_names_each_killer_once(self):
        said = [Judgement(red=("a", "b")), Judgement(red=("b",))]
        assert campaign.verdict(mutant(), said)["killers"] == ("a", "b")


def record(*fates: Fate, control: ControlRecord | None = None) -> CampaignRecord:
    green = ControlRecord(passed=("a",))
    return CampaignRecord(
        id="r",
        started=now(),
        kernel="6.12",
        kernel_version="6.12.0",
        board="virt",
        layout="contract",
        control=control or green,
        mutants=tuple(
            MutantRecord(id=f"m{number}", file="mm/cma.c", digest="d", fate=fate)
            for number, fate in enumerate(fates)
        ),
    )


class TestRecord:
    @pytest.mark.parametrize(
        ("fates", "code"),
        [
            ((Fate.KILLED, Fate.EQUIVALENT), 0),
            ((Fate.KILLED, Fate.SURVIVED, Fate.BROKEN), 1),
            ((Fate.STALE,), 1),
            ((Fate.SOMETIMES,), 1),
            ((Fate.KILLED, Fate.BROKEN), 3),
            ((Fate.LEFT,), 3),
        ],
    )
    def test_decides_the_exit_code(self, fates, code):
        assert results.exit_code(record(*fates)) == code

    @pytest.mark.parametrize(
        ("control", "code"),
        [
            (ControlRecord(red=("a",), passed=("b",)), 1),
            (ControlRecord(errors=("a",)), 3),
            (ControlRecord(), 3),
        ],
    )
    def test_counts_nothing_when_the_control_is_not_green(self, control, code):
        assert results.exit_code(record(Fate.KILLED, control=control)) == code

    def test_reads_what_it_wrote(self, tmp_path):
        results.write(tmp_path, record(Fate.KILLED))
        assert results.read(tmp_path).mutants[0].fate is Fate.KILLED
        with pytest.raises(UsageError, match="no record of mutants"):
            results.read(tmp_path / "none")


class TestChoose:
    mutants = (mutant(id="a"), mutant(id="b", file="mm/page_alloc.c"), mutant(variant="debug"))

    def test_takes_those_of_the_variant(self):
        assert campaign.choose(self.mutants, "plain", (), ()) == self.mutants[:2]
        assert campaign.choose(self.mutants, "debug", (), ()) == self.mutants[2:]

    def test_takes_ids_and_files(self):
        assert campaign.choose(self.mutants, "plain", ("a",), ()) == self.mutants[:1]
        assert campaign.choose(self.mutants, "plain", (), ("mm/page_alloc.c",)) == self.mutants[1:2]

    def test_names_what_there_is_not(self):
        with pytest.raises(UsageError, match=r"no mutant 'c'"):
            campaign.choose(self.mutants, "plain", ("c",), ())
        with pytest.raises(UsageError, match=r"nearest: mm/cma.c"):
            campaign.choose(self.mutants, "plain", (), ("mm/cma",))


class TestCatalogue:
    def test_each_mutant_changes_something_and_says_why(self):
        for each in load_mutants():
            assert each.before != each.after, each.id
            assert each.promise, each.id
            assert each.undoes, each.id

    def test_is_large_enough_without_the_equivalent_ones(self):
        plain = [each for each in load_mutants() if each.variant == "plain"]
        assert sum(not each.equivalent for each in plain) >= 45

    def test_each_equivalent_one_cites_its_source(self):
        for each in load_mutants():
            if each.equivalent:
                assert ".c" in each.equivalent, each.id


def test_a_campaign_may_have_some_of_the_stages():
    assert suites.stages(()) == suites.CONTRACT
    assert [stage.name for stage in suites.stages(("kunit",))] == ["kunit"]
    with pytest.raises(UsageError, match="stage"):
        suites.stages(("unit",))
