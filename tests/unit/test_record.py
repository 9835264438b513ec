"""run.json is there early, is replaced whole, and reads back; reports are drawn from it alone."""

from __future__ import annotations

import io
import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness import ktap
from harness.errors import ConfigError, UsageError
from harness.report import html, junit, terminal
from harness.results import from_ktap, record
from harness.results.record import CaseRecord, CellRecord, Metric, Recorder, RunRecord
from harness.session import planned
from harness.verdict import EXIT_FAILED, EXIT_HOST, EXIT_PASSED, Verdict, exit_code

HOSTILE = "\x1b[31m<script>alert(1)</script>]]>&\x00\ufffe"


def cell(*cases: CaseRecord) -> CellRecord:
    return CellRecord(
        name="6.12-virt-default",
        kernel="6.12",
        kernel_version="6.12.117",
        kernel_key="k",
        board="virt",
        layout="default",
        lane="smp",
        device_tree="d",
        cases=cases,
    )


def case(name: str, verdict: Verdict = Verdict.LOST, message: str = "") -> CaseRecord:
    return CaseRecord(id=f"f::s::{name}", suite="s", name=name, verdict=verdict, message=message)


def run(*cases: CaseRecord) -> RunRecord:
    return RunRecord(id="r", started=record.now(), ended=record.now(), cells=(cell(*cases),))


def test_the_record_is_there_before_anything_has_run(tmp_path):
    recorder = Recorder.start(tmp_path, ("cma-harness", "test"))
    recorder.update(cells=(cell(case("a"), case("b")),))
    stored = record.read(tmp_path / "latest")
    assert stored.ended is None
    assert [each.verdict for each in stored.cases()] == [Verdict.LOST, Verdict.LOST]


def test_a_killed_run_keeps_its_finished_cases(tmp_path):
    recorder = Recorder.start(tmp_path, ())
    recorder.update(cells=(cell(case("a"), case("b")),))
    recorder.finish_case("6.12-virt-default", case("a", Verdict.PASS))
    stored = record.read(recorder.directory)
    assert [each.verdict for each in stored.cases()] == [Verdict.PASS, Verdict.LOST]
    assert list(recorder.directory.iterdir()) == [recorder.directory / "run.json"]


def test_latest_is_the_newest(tmp_path):
    Recorder.start(tmp_path, ())
    newest = Recorder.start(tmp_path, ())
    assert (tmp_path / "latest").resolve() == newest.directory.resolve()


def test_reading_what_is_no_record_is_told(tmp_path):
    with pytest.raises(UsageError, match="no record"):
        record.read(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"id": 7}))
    with pytest.raises(ConfigError, match="not a run record of schema 2"):
        record.read(tmp_path)


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], EXIT_PASSED),
        ([Verdict.PASS, Verdict.SKIP, Verdict.XFAIL], EXIT_PASSED),
        ([Verdict.PASS, Verdict.LOST], EXIT_FAILED),
        ([Verdict.ERROR, Verdict.PASS], EXIT_HOST),
        ([Verdict.ERROR, Verdict.FAIL], EXIT_FAILED),
    ],
)
def test_exit_codes(verdicts, code):
    assert exit_code(verdicts) == code


@pytest.mark.parametrize(
    ("node_id", "suite", "name"),
    [
        ("kmod/cma_kunit/Kbuild::cma_driver::zeroed", "cma_driver", "zeroed"),
        ("tests/target/test_guest.py::test_run[ssh]", "test_guest", "test_run[ssh]"),
        ("layout", "layout", "layout"),
    ],
)
def test_a_planned_case_is_named_by_its_id(node_id, suite, name):
    assert (planned(node_id).suite, planned(node_id).name) == (suite, name)


def test_junit_counts_as_the_record_does():
    verdicts = list(Verdict)
    text = junit.render(run(*(case(verdict, verdict, "why\nmore") for verdict in verdicts)))
    (suite,) = ElementTree.fromstring(text)
    assert suite.attrib["name"] == "6.12-virt-default.s"
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": 8, "failures": 4, "errors": 1, "skipped": 2}
    failures = {each.attrib["name"]: each.find("failure") for each in suite.iter("testcase")}
    assert failures["CRASH"].attrib["message"] == "CRASH: why"
    assert failures["CRASH"].text == "why\nmore"


def test_metrics_are_properties_of_the_test_case():
    measured = case("a", Verdict.PASS).model_copy(
        update={"metrics": {"used": Metric(value=64, unit="pages")}}
    )
    root = ElementTree.fromstring(junit.render(run(measured)))
    (found,) = root.iter("testcase")
    assert found.find("properties/property").attrib == {"name": "used", "value": "64 pages"}


@given(st.text(), st.text())
def test_junit_is_xml_whatever_the_guest_says(name, message):
    text = junit.render(run(case(name, Verdict.FAIL, message), case(name, Verdict.SKIP, message)))
    assert len(list(ElementTree.fromstring(text).iter("testcase"))) == 2


def test_what_the_guest_says_stays_text_in_every_report():
    hostile = run(case(HOSTILE, Verdict.FAIL, HOSTILE))
    assert "<script>alert" not in html.render(hostile)
    assert "&lt;script&gt;alert" in html.render(hostile)
    screen = io.StringIO()
    terminal.show(run(case("[red]x[/]", Verdict.FAIL, "[bold]y")), Console(file=screen, width=99))
    assert "[red]x[/]" in screen.getvalue()
    assert "[bold]y" in screen.getvalue()


def test_a_run_that_did_not_end_is_said_so():
    screen = io.StringIO()
    stopped = run(case("a")).model_copy(update={"ended": None})
    terminal.show(stopped, Console(file=screen, width=99))
    assert "did not end" in screen.getvalue()
    assert "did not end" in html.render(stopped)


def test_ktap_cases_become_records(tmp_path):
    log = b"KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n    1..2\n"
    log += b"    # a: took: 12 ms\n    ok 1 a\n    # b: it broke\n    not ok 2 b\nnot ok 1 s\n"
    a, b = (from_ktap.record(each, tmp_path / "x.log") for each in ktap.parse(log).leaves())
    assert (a.id, a.verdict, a.metrics["took"].value) == ("s::a", Verdict.PASS, 12)
    assert (b.verdict, b.suite) == (Verdict.FAIL, "s")
    assert "it broke" in b.message
    assert log[b.console.start : b.console.end].endswith(b"not ok 2 b\n")


KUNIT_5_10 = """\
[    3.1] TAP version 14
[    3.1] 1..1
[    3.1]     # Subtest: cma_high
[    3.1]     1..3
[    3.2]     # one: kunit_skip: no high memory
[    3.2]     ok 1 - one
[    3.2]     # two: kunit_skip: said before it failed
[    3.2]     not ok 2 - two
[    3.2]     # three: looked for kunit_skip: nothing
[    3.2]     ok 3 - three
[    3.2] not ok 1 - cma_high
"""


def test_a_case_that_skipped_itself_on_5_10_is_not_a_pass(tmp_path):
    leaves = ktap.parse(KUNIT_5_10.encode()).leaves()
    one, two, three = (from_ktap.record(each, tmp_path / "x.log") for each in leaves)
    assert (one.verdict, one.message) == (Verdict.SKIP, "no high memory")
    assert two.verdict is Verdict.FAIL
    assert three.verdict is Verdict.PASS
