"""A kernel that checks itself: each of its reports turns the case red that it came in.

Each case runs modules that misbehave on guests of its own; `cma-harness nightly` runs this file on
that kernel (configs/nightly.toml, part debug).
"""

from __future__ import annotations

import pytest

from harness.verdict import Verdict

DEBUG = ("test", "--variant", "debug")
# What a module of kmod/broken provokes: its case, and what the report says.
PROVOKED = {
    "broken_dma": ("unmaps_what_was_not_mapped", "DMA-API: "),
    "broken_lockdep": ("locks_in_both_orders", "possible circular locking dependency detected"),
    "broken_poison": ("writes_to_a_freed_page", "pagealloc: memory corruption"),
    "broken_sleep": ("sleeps_in_atomic", "BUG: sleeping function called from invalid context"),
    "broken_uaf": ("reads_freed_memory", "BUG: KASAN: slab-use-after-free in reads_freed_memory"),
}


@pytest.mark.parametrize("module", PROVOKED)
def test_a_report_is_the_verdict_of_its_case(run, module):
    name, said = PROVOKED[module]
    line = run(*DEBUG, "kmod/broken", "-k", module)
    assert line.status == 1, line.output
    assert line.verdicts[name] is Verdict.CRASH
    assert said in line.cases[name].message
    assert line.verdicts["passes"] is Verdict.PASS


def test_lost_memory_is_told_with_the_case_that_lost_it(run):
    line = run(*DEBUG, "kmod/broken", "-k", "broken_leak")
    assert line.status == 1, line.output
    assert line.verdicts == {"passes": "PASS", "leaks": "PASS", "unload": "FAIL"}
    message = line.cases["unload"].message
    assert "of memory lost" in message
    assert "leaks+0x" in message


def test_the_tests_of_a_file_that_lose_memory_are_told_behind_it(run, tmp_path):
    mine = tmp_path / "test_mine.py"
    mine.write_text(
        "import pytest\n"
        "pytestmark = pytest.mark.shares_guest\n"
        "def test_loses(guest):\n"
        "    load = 'insmod /lib/cma/broken_leak.ko && rmmod broken_leak'\n"
        "    assert guest.run(load, 60).status == 0\n"
    )
    line = run(*DEBUG, str(mine))
    assert line.status == 1, line.output
    assert line.verdicts == {"test_loses": "PASS", "kmemleak": "FAIL"}
