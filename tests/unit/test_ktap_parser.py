"""Single rules of the parser, each on a log as small as it can be."""

import tracemalloc

import pytest

from harness.faults import starts_fault
from harness.ktap.levels import MAX_DIAGNOSTICS, MAX_LOST, MAX_METRICS
from harness.ktap.lines import NO_REASON, metric, printable
from harness.ktap.parser import MAX_DEPTH, Parser, parse
from harness.ktap.scanner import MAX_LINE
from harness.ktap.tree import Metric, Span, overall, worse
from harness.verdict import Verdict

PASS, SKIP, XFAIL, FAIL = Verdict.PASS, Verdict.SKIP, Verdict.XFAIL, Verdict.FAIL
TIMEOUT, CRASH, LOST, ERROR = Verdict.TIMEOUT, Verdict.CRASH, Verdict.LOST, Verdict.ERROR
OOPS = b"Unable to handle kernel NULL pointer dereference at virtual address 00000000\n"


def leaves(log):
    return [("/".join(case.path), case.verdict) for case in parse(log).leaves()]


@pytest.mark.parametrize(
    ("line", "name", "verdict", "message"),
    [
        (b"ok 1 name", "name", PASS, ""),
        (b"ok 1 - name", "name", PASS, ""),
        (b"ok 1", "1", PASS, ""),
        (b"ok 1 -", "1", PASS, ""),
        (b"ok 1 - a - b", "a - b", PASS, ""),
        (b"ok 1 name # SKIP no memory", "name", SKIP, "no memory"),
        (b"not ok 1 name # SKIP no memory", "name", SKIP, "no memory"),
        (b"ok 1 name # skip", "name", SKIP, NO_REASON),
        (b"ok 1 name #skip tight", "name", SKIP, "tight"),
        (b"ok 1 name # SKIPPED why", "name", SKIP, "why"),
        (b"ok 1 case # 2 of 3 # SKIP why", "case # 2 of 3", SKIP, "why"),
        (b"not ok 1 name", "name", FAIL, ""),
        (b"not ok 1 name # exit=1", "name", FAIL, "exit=1"),
        (b"not ok 1 name # TIMEOUT 30 seconds", "name", TIMEOUT, "30 seconds"),
        (b"not ok 1 name # timeout", "name", TIMEOUT, ""),
        (b"not ok 1 name # ERROR: no device", "name", ERROR, "no device"),
        (b"ok 1 name # XFAIL known", "name", XFAIL, "known"),
        (b"not ok 1 name # XFAIL", "name", XFAIL, NO_REASON),
        (b"not ok 1 name # TODO later", "name", XFAIL, "later"),
        (b"ok 1 name # TODO later", "name", PASS, "later"),
        (b"ok 1 name # errors=0", "name", PASS, "errors=0"),
        (b"ok 1 name#1", "name#1", PASS, ""),
        (b"not ok 1 name # WHATEVER text", "name", FAIL, "WHATEVER text"),
    ],
)
def test_result_lines(line, name, verdict, message):
    (case,) = parse(b"KTAP version 1\n1..1\n" + line + b"\n").cases
    assert (case.name, case.verdict, case.message) == (name, verdict, message)


@pytest.mark.parametrize(
    "prefix",
    [
        b"",
        b" ",
        b"<6>",
        b"[    1.234567] ",
        b"[12345678.234567] ",
        b"<14>[    1.234567] ",
        b"[    1.234567][    T1] ",
        b"[T123] ",
        b"[   C0] ",
        b"[Wed Nov 22 12:00:00 2023] ",
        b"Nov 22 12:00:00 host kernel: [   12.3] ",
        b"2023-11-22T12:00:00.123456+00:00 host kernel: ",
        b"Nov 22 12:00:00 host kernel: ",
        b"ttyAMA0| ",
        b"  (17) ",
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\r\n"])
def test_prefixes(prefix, end):
    text = [b"KTAP version 1", b"1..1", b"  KTAP version 1", b"  1..1", b"  ok 1 a", b"ok 1 s"]
    assert leaves(b"".join(prefix + line + end for line in text)) == [("s/a", PASS)]


def test_a_prefix_nobody_knows_may_grow():
    log = b"m 9: KTAP version 1\nm 9: 1..2\nm 10: ok 1 a\nm 1234: ok 2 b\n"
    assert leaves(log) == [("a", PASS), ("b", PASS)]


def test_printk_may_start_behind_a_prompt():
    log = b"[    1.0] KTAP version 1\n[    1.0] 1..2\n~ # [    1.1] ok 1 a\n# [    1.2] ok 2 b\n"
    assert leaves(log) == [("a", PASS), ("b", PASS)]


@pytest.mark.parametrize(
    "noise",
    [b"ok", b"ok then", b"okay 1", b"1..x", b"1.2", b"ok1 a", b"  text", b"#1 a", b"#ok", b"TAP"],
)
def test_noise_is_no_result(noise):
    log = b"KTAP version 1\n1..1\n" + noise + b"\nok 1 a\n"
    report = parse(log)
    assert leaves(log) == [("a", PASS)]
    assert (report.verdict, report.problems) == (PASS, ())


@pytest.mark.parametrize(
    "log", [b"", b"\n\n", b"ok 1 a\n", b"noise\r\n", b"KTAP version", b"1..3\n"]
)
def test_no_ktap_is_lost_with_a_problem(log):
    report = parse(log)
    assert (report.cases, report.verdict) == ((), LOST)
    assert report.problems


def test_a_document_with_nothing_in_it_spoils_the_others():
    report = parse(b"KTAP version 1\n1..1\nok 1 a\nKTAP version 1\n")
    assert report.verdict is LOST
    assert "neither a plan nor a result" in report.problems[0]


def test_empty_plan_of_a_boot_without_built_in_tests_is_no_problem():
    report = parse(b"KTAP version 1\n1..0\nKTAP version 1\n1..1\nok 1 a\n")
    assert (report.verdict, report.problems) == (PASS, ())
    assert parse(b"KTAP version 1\n1..0\n").verdict is LOST


def test_documents_append_and_count_on():
    log = b"KTAP version 1\n1..1\nok 1 a\nKTAP version 1\n1..2\nok 2 b\nok 3 c\n"
    report = parse(log)
    assert leaves(log) == [("a", PASS), ("b", PASS), ("c", PASS)]
    assert report.verdict is PASS
    assert parse(b"KTAP version 1\n1..1\nok 2 b\n").verdict is LOST


def test_a_new_document_ends_the_one_that_is_open():
    log = b"KTAP version 1\n1..2\n  # Subtest: s\n  1..2\n  ok 1 a\nKTAP version 1\n1..1\nok 1 b\n"
    assert leaves(log) == [("s/a", PASS), ("s/2", LOST), ("2", LOST), ("b", PASS)]


@pytest.mark.parametrize("end", [b"reboot: System halted", b"Booting Linux on physical CPU 0x0"])
def test_the_end_of_the_kernel_ends_the_document(end):
    log = b"KTAP version 1\n1..2\nok 1 a\n[    0.1] " + end + b"\nok 2 b\n"
    assert leaves(log) == [("a", PASS), ("2", LOST)]


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (b"KTAP version 1\n1..1\n" + OOPS + b"ok 1 a\n", [("a", CRASH)]),
        (b"KTAP version 1\n1..2\nok 1 a\n" + OOPS, [("a", PASS), ("2", CRASH)]),
        (b"KTAP version 1\n1..1\n  # Subtest: s\n  1..2\n" + OOPS, [("s/1", CRASH), ("s/2", LOST)]),
        (b"KTAP version 1\n1..1\n  # Subtest: s\n" + OOPS, [("s/1", CRASH)]),
        (b"KTAP version 1\n1..1\nok 1 a\n" + OOPS, [("a", PASS)]),
        (OOPS + b"KTAP version 1\n1..1\nok 1 a\n", [("a", PASS)]),
        (b"KTAP version 1\n1..2\nok 2 b\n" + OOPS, [("b", PASS), ("1", CRASH)]),
        (b"KTAP version 1\n1..1\n# quotes BUG: x\nok 1 BUG: y\n", [("BUG: y", PASS)]),
    ],
)
def test_faults(log, expected):
    assert leaves(log) == expected


def test_a_fault_in_a_suites_exit_is_the_suites_own():
    report = parse(b"KTAP version 1\n1..1\n  # Subtest: s\n  1..1\n  ok 1 a\n" + OOPS + b"ok 1 s\n")
    assert report.cases[0].verdict is CRASH
    assert report.cases[0].message == OOPS.decode().strip()
    assert [case.verdict for case in report.leaves()] == [PASS]


def test_a_fault_behind_an_unplanned_document_is_not_forgotten():
    report = parse(b"KTAP version 1\nok 1 a\n" + OOPS)
    assert report.verdict is CRASH
    assert "a fault after the last result" in report.problems[0]
    panic = b"Kernel panic - not syncing: VFS: Unable to mount root fs\n"
    assert parse(b"KTAP version 1\nok 1 a\n" + panic).verdict is PASS


def test_crash_beats_the_deepest_truth_of_all_parents():
    log = b"KTAP version 1\n1..1\n  # Subtest: s\n  1..1\n    # Subtest: t\n    1..1\n" + OOPS
    case = parse(log).cases[0]
    assert (case.verdict, case.cases[0].verdict, case.cases[0].cases[0].verdict) == (CRASH,) * 3


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        (b"1..1\nok 1 a\n1..2\n", "a second plan, 1..2 after 1..1"),
        (b"1..1\nok 1 a\nok 2 b\n", "number 2 is beyond the plan 1..1"),
        (b"1..2\nok 1 a\nok - b\n", "a result without a number, 2 expected: b"),
        (b"1..2\nok 1 a\nok 3 c\n", "number 2 expected, 3 came"),
    ],
)
def test_problems_of_the_top_level_are_the_reports(log, problem):
    report = parse(b"KTAP version 1\n" + log)
    assert report.problems[0].startswith(problem)
    assert not report.verdict.good


def test_unknown_version_is_a_problem():
    assert "KTAP version 9" in parse(b"KTAP version 9\n1..1\nok 1 a\n").problems[0]


def test_plan_may_come_last():
    assert parse(b"TAP version 13\nok 1 a\nok 2 b\n1..2\n").verdict is PASS
    assert leaves(b"TAP version 13\nok 1 a\n1..2\n") == [("a", PASS), ("2", LOST)]


SUITE = b"KTAP version 1\n1..1\n  KTAP version 1\n  # Subtest: s\n"


@pytest.mark.parametrize(
    ("body", "verdict", "problem"),
    [
        (b"  1..0\nok 1 s\n", LOST, "no case of it ran"),
        (b"ok 1 s\n", LOST, "no case of it ran"),
        (b"  1..0 # SKIP no area\nok 1 s\n", SKIP, ""),
        (b"ok 1 s # SKIP no area\n", SKIP, ""),
        (b"  ok 1 a\nok 1 s\n", PASS, ""),
        (b"  ok 1 a\nnot ok 1 s\n", FAIL, "it says not ok, but no case in it failed"),
        (b"  not ok 1 a\nnot ok 1 s\n", FAIL, ""),
        (b"  ok 1 a # SKIP\n  ok 2 b\nok 1 s\n", PASS, ""),
        (b"  ok 1 a\nok 1 other\n", FAIL, "its result line calls it other"),
    ],
)
def test_a_suite_and_its_result_line(body, verdict, problem):
    case = parse(SUITE + body).cases[0]
    assert case.verdict is verdict
    assert case.name == "s"
    assert bool(case.problems) == bool(problem)
    assert problem in "".join(case.problems)


def test_a_result_with_another_name_and_number_is_another_case():
    log = b"KTAP version 1\n1..2\n  # Subtest: s\n  1..1\n  ok 1 a\nok 2 other\n"
    report = parse(log)
    assert [(case.name, case.verdict) for case in report.cases] == [("s", LOST), ("other", PASS)]


def test_white_space_that_someone_stripped():
    log = b"KTAP version 1\n1..2\n# Subtest: s\n1..2\nok 1 a\nok 2 b\nok 1 s\nok 2 t\n"
    assert leaves(log) == [("s/a", PASS), ("s/b", PASS), ("t", PASS)]


def test_in_one_column_a_complete_plan_ends_a_suite():
    report = parse(b"KTAP version 1\n1..1\n# Subtest: s\n1..1\nok 1 a\nok 1 t\n")
    assert report.cases[0].problems == ("its result line calls it t",)


def test_a_message_that_quotes_a_version_line_begins_no_document():
    log = b"KTAP version 1\n1..2\nok 1 a\na driver says KTAP version 1\nok 2 b\n"
    assert parse(log).verdict is PASS


def test_a_fault_between_the_suites_of_a_document_without_a_header_is_nobodys():
    suite = b"    # Subtest: s\n    1..1\n    ok 1 a\nok %d s\n"
    log = suite % 1 + OOPS + suite % 2
    assert leaves(log) == [("s/a", PASS), ("s/a", PASS)]
    assert parse(log + OOPS).verdict is PASS


def test_memory_does_not_grow_with_the_log():
    parser = Parser()
    parser.feed(b"KTAP version 1\n1..1\n# Subtest: s\n")
    noise = b"[    1.234567]   some text of the kernel\n" * 2000 + b"# more\n"
    tracemalloc.start()
    for chunk in (noise, b"x" * 100_000):
        for _ in range(100):
            parser.feed(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000  # 18 MB went through


def test_module_suite_with_its_own_version_line_only():
    # The suite has one, the document around it does not.
    log = b"    KTAP version 1\n    # Subtest: s\n    1..1\n    ok 1 a\nok 4 s\n"
    assert leaves(log) == [("s/a", PASS)]
    assert parse(log).verdict is PASS


def test_live_cases_and_the_open_one():
    parser = Parser()
    assert parser.open_case is None
    assert parser.feed(b"KTAP version 1\n1..2\n") == ()
    assert parser.open_case == ("1",)
    parser.feed(b"  # Subtest: s\n  1..2\n  ok 1 a")
    assert parser.open_case == ("s", "1")
    (case,) = parser.feed(b"\n")
    assert (case.path, case.verdict, parser.open_case) == (("s", "a"), PASS, ("s", "2"))
    (case,) = parser.feed(b"  ok 2 b\n")
    assert (case.path, parser.open_case) == (("s", "b"), ("s",))
    assert parser.feed(b"ok 1 s\n") == ()
    assert parser.open_case == ("2",)
    (case,) = parser.feed(b"ok 2 t\n")
    assert (case.path, parser.open_case) == (("t",), None)
    assert [case.path for case in parser.close().leaves()] == [("s", "a"), ("s", "b"), ("t",)]


def test_live_cases_wait_for_the_name_of_their_suite():
    parser = Parser()
    assert parser.feed(b"KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  ok 1 a\n") == ()
    assert parser.open_case == ("1",)
    assert [case.path for case in parser.feed(b"ok 1 s\n")] == [("s", "a")]


def test_spans_are_bytes_of_the_log():
    log = b"noise\nKTAP version 1\n1..2\nnoise\r\nok 1 a\r\nnot ok 2 b"
    one, two = parse(log).cases
    assert log[one.span.start : one.span.end] == b"noise\r\nok 1 a\r\n"
    assert log[two.span.start : two.span.end] == b"not ok 2 b"


def test_spans_count_the_bytes_of_lines_too_long_to_keep():
    log = b"KTAP version 1\n1..2\n" + b"x" * 3 * MAX_LINE + b"\nok 1 a\nok 2 b\n"
    for size in (len(log), 7):
        parser = Parser()
        for at in range(0, len(log), size):
            parser.feed(log[at : at + size])
        assert parser.close().cases[1].span == Span(len(log) - 7, len(log))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("elapsed: 12.5 ms", ("", "elapsed", Metric(12.5, "ms"))),
        ("used: 64 pages", ("", "used", Metric(64, "pages"))),
        ("latency_ns: 123", ("", "latency_ns", Metric(123, "ns"))),
        ("size_kib: 4", ("", "size_kib", Metric(4, "KiB"))),
        ("free: 3", ("", "free", Metric(3, ""))),
        ("pfn: 0x50400", ("", "pfn", Metric(0x50400, ""))),
        ("delta: -1.5e3%", ("", "delta", Metric(-1500, "%"))),
        ("rate: 3 MB/s", ("", "rate", Metric(3, "MB/s"))),
        ("case: elapsed: 7 ms", ("case", "elapsed", Metric(7, "ms"))),
        ("Totals: pass:1 fail:0", None),
        ("suite: pass:1 fail:0 skip:0 total:1", None),
        ("test.speed: slow", None),
        ("module: example", None),
        ("range: 1 2 3", None),
        ("value: nan", None),
        ("value: 0xffffffffffffffffff", None),
        ("no number here", None),
    ],
)
def test_metrics(text, expected):
    assert metric(text) == expected


def test_metric_of_somebody_else_keeps_the_name():
    log = b"KTAP version 1\n1..1\n# other: used: 1\n# used: 2\n# used: 3\nok 1 a\n"
    assert parse(log).cases[0].metrics == {"other.used": Metric(1, ""), "used": Metric(3, "")}


def test_a_huge_plan_costs_nothing():
    report = parse(b"KTAP version 1\n1..999999999\nok 5 a\n")
    assert len(report.cases) == MAX_LOST + 2
    assert report.cases[-1].name == "1002..999999999"
    assert report.verdict is LOST


def test_diagnostics_and_metrics_are_bounded():
    lines = b"".join(b"# k%d: %d\n" % (number, number) for number in range(3000))
    (case,) = parse(b"KTAP version 1\n1..1\n" + lines + b"ok 1 a\n").cases
    assert len(case.diagnostics) == MAX_DIAGNOSTICS + 1
    assert case.diagnostics[-1] == f"({3000 - MAX_DIAGNOSTICS} more lines)"
    assert len(case.metrics) == MAX_METRICS


def test_depth_is_bounded():
    log = b"KTAP version 1\n" + b"".join(b"  " * deep + b"1..1\n" for deep in range(1, 200))
    case = parse(log).cases[0]
    depth = 1
    while case.cases:
        case, depth = case.cases[0], depth + 1
    assert depth == MAX_DEPTH


def test_faults_are_those_of_the_fault_module():
    assert starts_fault(OOPS)
    assert leaves(b"KTAP version 1\n1..1\nWARNING: this is no fault\nok 1 a\n") == [("a", PASS)]


def test_overall_lets_a_skip_take_nothing_from_a_pass():
    assert overall([SKIP, PASS, XFAIL]) is PASS
    assert overall([SKIP, XFAIL]) is XFAIL
    assert overall([SKIP]) is SKIP
    assert overall([PASS, ERROR, FAIL, LOST]) is LOST
    assert worse(CRASH, TIMEOUT) is CRASH


def test_printable():
    assert (
        printable(b"\x1b[1;31ma\x1b[0m\tb\x00\x7f\xc2\x9b\xff ") == "a b\N{REPLACEMENT CHARACTER}"
    )
