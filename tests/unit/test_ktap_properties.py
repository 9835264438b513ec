"""What holds for every log: no bytes raise, chunks do not matter, trees come back as they were."""

import re
import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.faults import FAULT_PATTERN, starts_fault
from harness.ktap.parser import Parser, parse
from harness.ktap.scanner import MAX_LINE
from harness.printk import strip_printk
from harness.verdict import Verdict

FRAGMENTS = st.sampled_from(
    [
        b"KTAP version 1",
        b"TAP version 14",
        b"# Subtest: s",
        b"1..2",
        b"1..0 # SKIP x",
        b"1..999999999",
        b"ok 1 a",
        b"ok 2",
        b"not ok 2 s",
        b"not ok",
        b"ok 1 s # SKIP",
        b"ok 999999999 far",
        b"ok 99999999999999999999 too far",
        b"# k: 1 ms",
        b"# k: 1e99",
        b"Bail out! now",
        b"Kernel panic - not syncing: x",
        b"WARNING: CPU: 0 PID: 1 at mm/cma.c:1 f",
        b"List of all partitions:",
        b"text",
        b"x" * (MAX_LINE + 3),
        b" " * (MAX_LINE + 3),
        b"\xff\x00\x1b[0m",
        b"[    1.5] ",
        b"<6>",
        b"m 12: ",
        b"",
    ]
)
BLANKS = st.sampled_from([b"", b"", b" ", b"  ", b"    ", b"\t", b"        "])
ENDS = st.sampled_from([b"\n", b"\n", b"\r\n", b"", b"\r"])
LINES = st.tuples(BLANKS, FRAGMENTS, BLANKS, FRAGMENTS, ENDS).map(b"".join) | st.tuples(
    BLANKS, FRAGMENTS, ENDS
).map(b"".join)
LOGS = st.binary(max_size=400) | st.lists(LINES | st.binary(max_size=30), max_size=40).map(b"".join)


@given(LOGS)
@settings(max_examples=400, deadline=None)
def test_no_bytes_raise_and_what_comes_out_is_clean(log):
    report = parse(log)
    assert report.verdict.good <= all(case.verdict.good for case in report.leaves())
    assert report.verdict.good <= (not report.problems)
    for case in report.leaves():
        assert 0 <= case.span.start <= case.span.end <= len(log)
        for text in (*case.path, case.message, *case.diagnostics):
            assert not re.search(r"[\x00-\x1f\x7f-\x9f]", text)


@given(LOGS, st.lists(st.integers(1, 50), min_size=1, max_size=10))
@settings(max_examples=400, deadline=None)
def test_chunks_never_change_the_result(log, sizes):
    parser, at, live = Parser(), 0, []
    while at < len(log):
        size = sizes[at % len(sizes)]
        live += parser.feed(log[at : at + size])
        at += size
    report = parser.close()
    assert report == parse(log) == parse(iter([log]))
    assert live == list(report.leaves())[: len(live)]


def test_all_chunk_sizes_around_the_longest_line():
    log = b"KTAP version 1\n1..3\n" + b"z" * (MAX_LINE - 2) + b"\n# n\nok 1 a\nnot ok 2 b"
    whole = parse(log)
    for size in (1, 2, 3, 5, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1):
        assert parse(log[at : at + size] for at in range(0, len(log), size)) == whole


@dataclass(frozen=True)
class Node:
    name: str
    verdict: Verdict
    nodes: tuple["Node", ...] = ()


WORDS = {
    Verdict.PASS: ("ok", ""),
    Verdict.SKIP: ("ok", " # SKIP why"),
    Verdict.XFAIL: ("not ok", " # XFAIL why"),
    Verdict.FAIL: ("not ok", ""),
    Verdict.TIMEOUT: ("not ok", " # TIMEOUT 3 s"),
    Verdict.ERROR: ("not ok", " # ERROR why"),
}
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}( [a-z]+)?", fullmatch=True)
LEAF = st.builds(Node, NAMES, st.sampled_from(list(WORDS)))
TREES = st.recursive(
    LEAF,
    lambda inner: st.builds(
        Node, NAMES, st.none(), st.lists(inner, min_size=1, max_size=4).map(tuple)
    ),
    max_leaves=15,
)
NOISE = st.sampled_from(["", "cma: Reserved 16 MiB", "  Normal zone: 1 pages", "# said: nothing"])


def bad(node):
    if node.nodes:
        return any(bad(inner) for inner in node.nodes)
    return not node.verdict.good


def paths(nodes, prefix=()):
    for node in nodes:
        if node.nodes:
            yield from paths(node.nodes, (*prefix, node.name))
        else:
            yield (*prefix, node.name), node.verdict


def lines_of(nodes, style, depth, noise):
    blank = style["blank"] * depth
    for number, node in enumerate(nodes, 1):
        word, directive = WORDS.get(node.verdict, ("not ok" if bad(node) else "ok", ""))
        if node.nodes:
            inner = style["blank"] * (depth + 1)
            if style["version"]:
                yield f"{inner}KTAP version 1"
            if style["subtest"]:
                yield f"{inner}# Subtest: {node.name}"
            if style["plan"]:
                yield f"{inner}1..{len(node.nodes)}"
            yield from lines_of(node.nodes, style, depth + 1, noise)
        yield noise
        yield f"{blank}{word} {number} {style['dash']}{node.name}{directive}"


STYLES = st.fixed_dictionaries(
    {
        "blank": st.sampled_from(["  ", "    ", "\t"]),
        "version": st.booleans(),
        "subtest": st.booleans(),
        "plan": st.booleans(),
        "dash": st.sampled_from(["", "- "]),
        "prefix": st.sampled_from(["", "[    1.234567] ", "<6>[   1.2][    T1] ", "tty 7| "]),
        "end": st.sampled_from(["\n", "\r\n"]),
    }
).filter(lambda style: style["version"] or style["subtest"] or style["plan"])


@given(st.lists(TREES, min_size=1, max_size=5), STYLES, NOISE)
@settings(max_examples=300, deadline=None)
def test_well_formed_trees_come_back(nodes, style, noise):
    text = ["KTAP version 1", f"1..{len(nodes)}", *lines_of(nodes, style, 0, noise)]
    log = "".join(f"{style['prefix']}{line}{style['end']}" for line in text).encode()
    report = parse(log)
    assert [(case.path, case.verdict) for case in report.leaves()] == list(paths(nodes))
    assert report.problems == ()
    assert report.verdict.good == (not any(map(bad, nodes)))


@given(st.from_regex(FAULT_PATTERN))
@settings(max_examples=200, deadline=None)
def test_every_fault_the_fault_module_knows_is_seen(text):
    match = FAULT_PATTERN.search(text)
    line = strip_printk(match[0])
    assert starts_fault(line)
    if b"\n" in line or b"\r" in line:  # the pattern's \s may match a line end; no line has one
        return
    report = parse(b"KTAP version 1\n1..1\n[    1.5] " + line + b"\nok 1 a\n")
    assert report.cases[0].verdict is Verdict.CRASH


def seconds(unit, length):
    """Give the CPU time for 400 kB of lines of that length; the best of three."""
    body = unit * (length // len(unit))
    starts = (b"ok 1 ", b"# ", b"", b"# Subtest: ", b"[   1.2] ", b"# a: ")
    lines = b"".join(start + body + b"\n" for start in starts)
    log = b"KTAP version 1\n" + lines * (400_000 // len(lines))
    times = []
    for _ in range(3):
        before = time.process_time()
        parse(log)
        times.append(time.process_time() - before)
    return min(times)


@pytest.mark.parametrize(
    "unit", [b" ", b"\t", b"#", b"# ", b"[", b"1", b"(", b"\x1b[", b"a: ", b"a"]
)
def test_long_lines_cost_no_more_than_short_ones(unit):
    """A search that tries every end of a run again takes 64 times as long."""
    assert seconds(unit, MAX_LINE) < 4 * seconds(unit, MAX_LINE // 64) + 0.02
