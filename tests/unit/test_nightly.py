"""The nightly: its cells, what its summary says, and the CI that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from harness import config
from harness.config import Nightly
from harness.errors import ConfigError, UsageError
from harness.matrix.begin import outlook
from harness.matrix.nightly import wanted
from harness.matrix.schedule import Limits
from harness.report import changes
from harness.results.compare import compare
from harness.results.record import CELL_CASE, CaseRecord, CellRecord, RunRecord, now
from harness.verdict import Verdict

ROOT = Path(__file__).resolve().parents[2]


def nightly(*parts: dict[str, object]) -> Nightly:
    shared = {
        "worth": 1, "kernels": ["6.12"], "boards": ["virt"], "layouts": ["default"],
        "paths": ["kmod/cma_kunit"], "minutes": 5,
    }  # fmt: skip
    return Nightly.model_validate(
        {"budget": 60, "build": 10, "part": [shared | part for part in parts]}
    )


class TestWanted:
    def test_is_the_parts_by_their_worth(self):
        found = wanted(nightly({"name": "a"}, {"name": "b", "worth": 5, "times": 2}), (), None)
        assert [wish.part for wish in found.wishes] == ["b", "b"]
        assert (found.budget, found.build_seconds) == (3600, 600)
        assert {wish.seconds for wish in found.wishes} == {300}

    def test_asks_for_a_cell_once_but_for_repetitions(self):
        parts = nightly({"name": "a", "worth": 5}, {"name": "b"}, {"name": "again", "times": 3})
        assert [wish.part for wish in wanted(parts, (), None).wishes] == ["a", *["again"] * 3]

    def test_takes_one_part_whole(self):
        parts = nightly({"name": "a", "worth": 5}, {"name": "b"})
        found = wanted(parts, ("b",), 7)
        assert [wish.part for wish in found.wishes] == ["b"]
        assert found.budget == 420
        with pytest.raises(UsageError, match=r"no part 'bb' \(nearest: b\)|no part 'bb'"):
            wanted(parts, ("bb",), None)

    def test_the_file_s_cells_load_and_their_paths_exist(self):
        found = wanted(config.load_nightly(), (), None)
        known = outlook(found, None, Limits(2, 100_000))
        assert {wish.part for wish in found.wishes} >= {"kernels", "layouts", "debug", "repeat"}
        assert {each.cell.layout.name for each in known.plan} == set(config.names("layouts"))
        named = {word for each in found.wishes for word in each.arguments if word[0] != "-"}
        assert named
        assert all((ROOT / path).exists() for path in named)
        worths = [each.wish.worth for each in known.plan]
        assert worths == sorted(worths, reverse=True)
        assert all(each.seconds for each in known.plan)  # or a budget could not be kept

    def test_a_mistake_in_the_file_is_named(self, tmp_path):
        file = tmp_path / "nightly.toml"
        file.write_text('budget = 60\nbuild = 1\n[[part]]\nname = "a"\nwort = 3\n')
        with pytest.raises(ConfigError, match=r"nearest: worth"):
            config.load_nightly(file)


def run(name: str, **cells: dict[str, Verdict]) -> RunRecord:
    return RunRecord(
        id=name,
        started=now(),
        cells=tuple(
            CellRecord(
                name=cell.replace("_", "."),
                cases=tuple(
                    CaseRecord(id=case, suite="s", name=case, verdict=verdict, message="why")
                    for case, verdict in cases.items()
                ),
            )
            for cell, cases in cells.items()
        ),
    )


PASS, FAIL, CRASH, SKIP = Verdict.PASS, Verdict.FAIL, Verdict.CRASH, Verdict.SKIP


class TestCompare:
    before = run("old", x={"a": PASS, "b": FAIL, "c": FAIL, "d": PASS}, y={"a": FAIL})
    after = run(
        "new",
        x={"a": CRASH, "b": PASS, "c": CRASH, "e": PASS, "f": FAIL},
        y={CELL_CASE: SKIP},
    )

    def test_tells_every_kind_of_change(self):
        found = compare(self.before, self.after)
        kinds = {
            kind: [(change.cell, change.case) for change in getattr(found, kind)]
            for kind in ("new_red", "new_green", "still_red", "gone", "appeared")
        }
        assert kinds == {
            "new_red": [("x", "a"), ("x", "f")],
            "new_green": [("x", "b")],
            "still_red": [("x", "c")],
            "gone": [("x", "d")],
            "appeared": [("x", "e")],
        }
        assert found.not_run == ("y",)

    def test_a_cell_that_broke_is_newly_red(self):
        broken = run("new", y={CELL_CASE: Verdict.ERROR})
        (change,) = compare(run("old", y={"a": PASS}), broken).new_red
        assert change.case == CELL_CASE

    def test_of_some_parts_the_other_ones_are_not_gone(self):
        before = run("old", layouts_x={"a": PASS}, debug_x={"a": PASS})
        after = run("new", layouts_x={"a": PASS})
        assert len(compare(before, after).gone) == 1
        assert compare(before, after, ("layouts",)).gone == ()

    def test_is_written_with_its_reasons(self):
        text = changes.render(compare(self.before, self.after), "old", "new")
        assert text.startswith("new against old:\n  new red      2\n")
        assert "    x: a: PASS -> CRASH: why\n" in text
        assert "    x: b: FAIL -> PASS\n" in text
        assert "  not run      1\n    y\n" in text


def yaml(file: str) -> Any:
    return YAML(typ="safe").load((ROOT / file).read_text())


def test_github_calls_make_only_and_keeps_what_was_found():
    (job,) = yaml(".github/workflows/nightly.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make nightly"]
    actions = {step["uses"].partition("@")[0]: step for step in job["steps"] if "uses" in step}
    assert "actions/cache/restore" in actions
    for late in ("actions/cache/save", "actions/upload-artifact"):
        assert actions[late]["if"] == "always()"
    assert job["timeout-minutes"] > config.load_nightly().budget


def test_gitlab_calls_make_only_and_keeps_what_was_found():
    jobs = {name: job for name, job in yaml(".gitlab-ci.yml").items() if "script" in job}
    assert {name: job["script"] for name, job in jobs.items()} == {
        "test": ["make test"],
        "nightly": ["make nightly"],
    }
    assert jobs["nightly"]["cache"]
    assert jobs["nightly"]["artifacts"]["when"] == "always"
