"""Our counts beside those of the kernel's own parser, over the logs it is tested with.

Set CMA_HARNESS_KERNEL_TREE to an unpacked kernel source (5.19 or newer, for `kunit_parser`'s
present form). Names and verdicts of all leaves are compared, too.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from harness.ktap.parser import parse
from harness.verdict import Verdict

VARIABLE = "CMA_HARNESS_KERNEL_TREE"
TREE = os.environ.get(VARIABLE, "")
KUNIT = Path(TREE) / "tools" / "testing" / "kunit"
LOGS = sorted((KUNIT / "test_data").glob("*.log")) if TREE else []

# kunit.py has four words. It knows only the directive SKIP, so the others fall back to ok or not
# ok; and it calls a case that never reported crashed.
WORDS = {
    Verdict.PASS: "passed",
    Verdict.SKIP: "skipped",
    Verdict.XFAIL: "passed",
    Verdict.FAIL: "failed",
    Verdict.TIMEOUT: "failed",
    Verdict.ERROR: "failed",
    Verdict.CRASH: "crashed",
    Verdict.LOST: "crashed",
}

# Every difference that stays, with its reason: what we count instead.
DIFFERENCES = {
    # "# Subtest: case", no test in it, "ok 1 - case". kunit.py reports the error "0 tests run!",
    # then counts the suite around it as passed; for us the empty case is a leaf, and LOST.
    "test_is_test_passed-no_tests_no_plan.log": {"crashed": 1},
}

COUNT = """
import json, sys
import kunit_parser
with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
    test = kunit_parser.parse_run_tests(log)
def leaves(test, path):
    for sub in test.subtests:
        yield from leaves(sub, path + [sub.name])
    if not test.subtests and path:
        yield "/".join(path)
counts = {word: getattr(test.counts, word) for word in ("passed", "failed", "crashed", "skipped")}
print(json.dumps({"counts": counts, "leaves": list(leaves(test, [])), "ok": test.ok_status()}))
"""

pytestmark = pytest.mark.skipif(not LOGS, reason=f"{VARIABLE} names no kernel source tree")


def kunit_py(log):
    """Run kunit.py's parser, which prints as it goes; the last line is ours."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", COUNT, str(log)],
        env={**os.environ, "PYTHONPATH": str(KUNIT)},
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.name)
def test_counts_are_those_of_kunit_py(log):
    theirs = kunit_py(log)
    report = parse(log.read_bytes())
    ours = Counter(WORDS[case.verdict] for case in report.leaves())
    expected = {word: count for word, count in theirs["counts"].items() if count}
    assert ours == DIFFERENCES.get(log.name, expected)
    if log.name not in DIFFERENCES:
        assert report.verdict.good == theirs["ok"]


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.name)
def test_names_are_those_of_kunit_py(log):
    # A case that never reported has no name there, and its number here.
    named = [
        "/".join(case.path)
        for case in parse(log.read_bytes()).leaves()
        if case.message != "planned, never reported" and case.verdict is not Verdict.CRASH
    ]
    assert named == [path for path in kunit_py(log)["leaves"] if not path.endswith("/")]
