"""Whole transcripts: every leaf with its path, its verdict and its message, and the report."""

from pathlib import Path

import pytest

from harness.ktap.parser import parse
from harness.ktap.tree import Case, Metric, Report
from harness.verdict import Verdict

DATA = Path(__file__).parent.parent / "data" / "ktap"
PASS, SKIP, XFAIL, FAIL = Verdict.PASS, Verdict.SKIP, Verdict.XFAIL, Verdict.FAIL
TIMEOUT, CRASH, LOST, ERROR = Verdict.TIMEOUT, Verdict.CRASH, Verdict.LOST, Verdict.ERROR

LEAVES = {
    "kunit-6.12-module": (
        FAIL,
        [
            ("cma_alloc/one_page", PASS),
            ("cma_alloc/too_big", FAIL),
            ("cma_alloc/aligned/order 0", PASS),
            ("cma_alloc/aligned/order 8", PASS),
            ("cma_alloc/highmem", SKIP),
            ("cma_second/only", PASS),
        ],
    ),
    "kunit-5.10-module": (
        FAIL,
        [
            ("cma_alloc/one_page", PASS),
            ("cma_alloc/two_pages", PASS),
            ("cma_second/before", PASS),
            ("cma_second/after", FAIL),
        ],
    ),
    "kselftest": (
        TIMEOUT,
        [
            ("selftests: mm: cma_test", PASS),
            ("2", SKIP),
            ("3", XFAIL),
            ("4", ERROR),
            ("selftests: mm: slow", TIMEOUT),
            ("known_broken", XFAIL),
            ("fixed", PASS),
            ("check return code", PASS),
            ("selftests: mm: bad", FAIL),
        ],
    ),
    "oops-midway": (
        CRASH,
        [
            ("pages/fine", PASS),
            ("pages/warned", CRASH),
            ("pages/3", CRASH),
            ("pages/4", LOST),
            ("2", LOST),
        ],
    ),
    "broken": (
        LOST,
        [
            ("twice/a", PASS),
            ("twice/a", PASS),
            ("twice/b", PASS),
            ("twice/3", LOST),
            ("backwards/b", PASS),
            ("backwards/a", PASS),
            ("liar/a", FAIL),
            ("short/b", PASS),
            ("short/without_number", FAIL),
            ("short/1", LOST),
            ("cut/a", PASS),
            ("cut/2", LOST),
        ],
    ),
    "journal": (PASS, [("suite/one", PASS), ("suite/two", PASS)]),
    "syslog": (PASS, [("suite/one", PASS)]),
    "headerless": (
        PASS,
        [
            ("only_a_plan/no_version", PASS),
            ("only_a_plan/no_subtest", PASS),
            ("nothing_but_columns/bare", PASS),
            ("3", SKIP),
        ],
    ),
    "bail-out": (LOST, [("first", PASS), ("2", LOST), ("3", LOST)]),
    "skip-all": (SKIP, []),
    "hostile": (FAIL, [("red name", PASS), ("\N{REPLACEMENT CHARACTER}" * 2, FAIL)]),
}


def load(name: str) -> Report:
    return parse((DATA / f"{name}.txt").read_bytes())


def find(report: Report, *path: str) -> Case:
    cases = report.cases
    for name in path[:-1]:
        cases = next(case for case in cases if case.name == name).cases
    return next(case for case in cases if case.name == path[-1])


def test_every_transcript_has_its_expectations():
    assert {file.stem for file in DATA.iterdir()} == set(LEAVES)


@pytest.mark.parametrize("name", LEAVES)
def test_transcript(name):
    verdict, leaves = LEAVES[name]
    report = load(name)
    assert [("/".join(case.path), case.verdict) for case in report.leaves()] == leaves
    assert report.verdict is verdict
    assert report.counts.total() == len(leaves)


def test_6_12_metrics_messages_and_diagnostics():
    report = load("kunit-6.12-module")
    assert find(report, "cma_alloc", "one_page").metrics == {
        "elapsed": Metric(12.5, "ms"),
        "used": Metric(64, "pages"),
    }
    # KUnit prints a parameterised case's texts under the case's name, and its totals, too.
    assert find(report, "cma_alloc", "aligned").metrics == {"latency_ns": Metric(123, "ns")}
    failed = find(report, "cma_alloc", "too_big")
    assert "EXPECTATION FAILED at" in failed.message
    assert failed.diagnostics[1:] == (
        "Expected ret == 0, but",
        "ret == -12 (0xfffffffffffffff4)",
    )
    assert find(report, "cma_alloc", "highmem").message == "no high memory"
    assert "Totals: pass:3 fail:1 skip:1 total:5" in find(report, "cma_alloc").diagnostics
    assert find(report, "cma_alloc").planned == 4
    assert report.problems == ()
    assert find(report, "cma_second").number == 2  # kunit_suite_counter goes on between modules


def test_kselftest_puts_the_directive_before_the_name():
    report = load("kselftest")
    assert [case.message for case in report.leaves()] == [
        "",
        "test named only in its reason",
        "known to fail",
        "could not open /dev/cma_test",
        "45 seconds",
        "fix me",
        "fix me",
        "rcode=0",
        "exit=1",
    ]
    assert "not ok 1 also inner" in find(report, "selftests: mm: cma_test").diagnostics


def test_first_fault_line_is_the_message_and_the_parents_reflect_it():
    report = load("oops-midway")
    assert find(report, "pages", "warned").message.startswith("WARNING: CPU: 0")
    assert find(report, "pages", "3").message.startswith("Unable to handle kernel NULL")
    assert find(report, "pages").verdict is CRASH


@pytest.mark.parametrize(
    ("suite", "verdict", "problems"),
    [
        ("twice", LOST, ["number 1 came twice"]),
        ("backwards", FAIL, ["number 1 expected, 2 came", "number 3 expected, 1 came"]),
        ("liar", FAIL, ["it says ok, but a case in it says not ok"]),
        (
            "short",
            LOST,
            [
                "number 1 expected, 2 came",
                "a result without a number, 3 expected: without_number",
                "it says ok, but a case in it says not ok",
            ],
        ),
        ("cut", LOST, ["its result line never came"]),
    ],
)
def test_problems_of_broken_suites(suite, verdict, problems):
    case = find(load("broken"), suite)
    assert (case.verdict, list(case.problems)) == (verdict, problems)
    assert case.message == problems[0]


def test_nothing_that_moves_a_terminal_comes_through():
    report = load("hostile")
    texts = [
        text for case in report.leaves() for text in (*case.path, case.message, *case.diagnostics)
    ]
    assert "cleared" in texts
    assert "say  evil" in texts
    assert all(text.isprintable() for text in texts)


def test_bail_out_ends_the_document():
    report = load("bail-out")
    assert report.problems[0].startswith("Bail out! no /dev/cma_test")


def test_skip_all_tells_why():
    assert load("skip-all").message == "no CMA area"


@pytest.mark.parametrize("name", LEAVES)
def test_spans_lie_in_the_log_and_end_with_the_result_line(name):
    log = (DATA / f"{name}.txt").read_bytes()
    for case in load(name).leaves():
        assert 0 <= case.span.start <= case.span.end <= len(log)
        if case.verdict in (PASS, FAIL, SKIP):
            last = log[case.span.start : case.span.end].rstrip(b"\r\n").split(b"\n")[-1]
            assert b"ok " in last
