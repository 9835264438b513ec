"""Coverage without a guest: functions of a source, gcov's counts, and what is made of them."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from harness import config
from harness.config import Coverage, CoveredFile, Reason
from harness.coverage import counters, gcov
from harness.coverage.functions import functions
from harness.coverage.gcov import Count
from harness.coverage.judge import judge
from harness.coverage.survey import survey
from harness.errors import ConfigError, GuestDied, HostError, UsageError
from harness.guest.command import Completed
from harness.kernel.build import BuiltKernel
from harness.kernel.toolchain import Toolchain
from harness.report import coverage as report
from harness.results.coverage import CoverageRecord
from harness.results.record import CellRecord

SOURCE = """\
// SPDX-License-Identifier: GPL-2.0
#include <linux/cma.h>

#define TWICE(x) \\
{ \\
	x; x; \\
}

struct area {
	int size;
};

static const struct area areas[] = {
	{ .size = 1 },
};

/**
 * first() - of a comment (with a bracket)
 */
int __init first(int argument,
		int other)
{
	if (argument)
		return 1;
	return 2;
}
EXPORT_SYMBOL(first);

static int
second(void)
{
	for (;;) {
		if (first(0, 0))
			continue;
		if (first(1, 1))
			continue;
	}
}
"""


def number_of(text: str, nth: int = 0) -> int:
    """Return the line of SOURCE that holds `text`."""
    return [n for n, line in enumerate(SOURCE.splitlines(), 1) if text in line][nth]


def test_functions_are_found_with_their_lines():
    found = {each.name: each for each in functions(SOURCE)}
    assert list(found) == ["first", "second"]
    first, last = number_of("int __init first"), number_of("return 2;") + 1
    assert (found["first"].first, found["first"].last) == (first, last)
    assert number_of("return 2;") in found["first"]
    assert number_of("EXPORT_SYMBOL") not in found["first"]
    assert found["second"].first == number_of("static int")


def counts(**executed: int) -> dict[int, Count]:
    """All lines of code of SOURCE: executed once, but for those named."""
    code = {
        "head": (number_of("int __init first"), Count(1)),
        "test": (number_of("if (argument)"), Count(1, (1, 0))),
        "one": (number_of("return 1;"), Count(1)),
        "two": (number_of("return 2;"), Count(1)),
        "loop": (number_of("for (;;)"), Count(1)),
        "again": (number_of("continue;"), Count(1)),
        "once_more": (number_of("continue;", 1), Count(1)),
    }
    assert executed.keys() <= code.keys()
    return {
        number: Count(executed.get(name, count.executed), count.branches)
        for name, (number, count) in code.items()
    }


def judged(counted: dict[int, Count], *reasons: Reason, **of_file) -> tuple:
    plan = Coverage(file=(CoveredFile(path="mm/cma.c", **of_file),), reason=reasons)
    files, notes = judge(plan, {"mm/cma.c": SOURCE}, {"mm/cma.c": counted})
    record = CoverageRecord(
        kernel_version="6.12", kernel_key="k", guests=1, files=files, notes=notes
    )
    return record, record.files[0]


def test_lines_and_branches_are_counted():
    record, file = judged(counts(one=0))
    assert (file.code, file.covered, file.branches, file.taken) == (7, 6, 2, 1)
    assert [line.text.strip() for line in file.uncovered()] == ["return 1;"]
    assert [line.function for line in file.uncovered()] == ["first"]
    assert not record.good


def test_a_goal_is_met_or_missed():
    for goal, met in ((85, True), (86, False)):
        why = Reason(file="mm/cma.c", function="first", lines=("return 1;",), reason="never")
        record, file = judged(counts(one=0), why, goal=goal)
        assert (file.reached, record.good) == (met, met), goal


def test_some_functions_alone_are_looked_at():
    _, file = judged(counts(one=0), functions=("second",))
    assert {line.function for line in file.lines} == {"second"}
    assert (file.code, file.covered) == (3, 3)


def test_a_function_that_is_gone_is_an_error():
    with pytest.raises(ConfigError, match="defines no function third"):
        judged(counts(), functions=("first", "third"))


def test_a_reason_excuses_its_lines_alone():
    why = Reason(file="mm/cma.c", function="first", lines=("return 1;",), reason="never")
    record, file = judged(counts(one=0, two=0), why)
    assert {line.text.strip(): line.reason for line in file.uncovered()} == {
        "return 1;": "never",
        "return 2;": "",
    }
    assert [line.text.strip() for _, line in record.unexplained()] == ["return 2;"]
    assert record.notes == ()


def test_a_text_of_several_lines_tells_one_place_from_another():
    text = "if (first(1, 1))\n    continue;"
    why = Reason(file="mm/cma.c", function="second", lines=(text,), reason="never")
    record, file = judged(counts(again=0, once_more=0), why)
    assert [(line.number, line.reason) for line in file.uncovered()] == [
        (number_of("continue;"), ""),
        (number_of("continue;", 1), "never"),
    ]
    assert record.notes == ()


def test_a_reason_for_a_whole_function_is_none_once_it_is_executed():
    why = Reason(file="mm/cma.c", function="second", reason="never")
    record, _ = judged(counts(loop=0, again=0, once_more=0), why)
    assert record.good
    assert record.notes == ()
    record, _ = judged(counts(again=0, once_more=0), why)
    assert len(list(record.unexplained())) == 2
    assert record.notes == (
        "mm/cma.c: second() is executed, or no code: its reason is out of date",
    )


@pytest.mark.parametrize(
    ("function", "text", "state"),
    [
        ("first", "return 1;", "executed, or no code"),
        ("first", "return 3;", "gone, or not looked at"),
        ("third", "return 1;", "gone, or not looked at"),
    ],
)
def test_a_reason_that_no_longer_applies_is_noted(function, text, state):
    why = Reason(file="mm/cma.c", function=function, lines=(text,), reason="never")
    record, _ = judged(counts(), why)
    assert record.good
    assert record.notes == (
        f"mm/cma.c: {function}(): {text!r} is {state}: its reason is out of date",
    )


def test_a_reason_for_a_file_that_is_not_listed_is_refused(tmp_path, monkeypatch):
    (tmp_path / "coverage.toml").write_text(
        '[[file]]\npath = "mm/cma.c"\n'
        '[[reason]]\nfile = "mm/cmma.c"\nfunction = "f"\nreason = "r"\n'
    )
    monkeypatch.setattr("harness.config.coverage.CONFIGS", tmp_path)
    with pytest.raises(ConfigError, match=r"not listed: mm/cmma\.c"):
        config.load_coverage()


def test_the_plan_has_a_counted_object_for_each_file():
    made = config.load_kernel("6.12", "coverage").make
    for file in config.load_coverage().file:
        assert f"GCOV_PROFILE_{Path(file.path).stem}.o" in made


PROGRAM = """\
int twice(int number)
{
	if (number > 2)
		return 2 * number;
	return 0;
}

int main(int argc, char **argv)
{
	return argc > 1 ? twice(argc) != 6 : twice(0);
}
"""


@pytest.fixture
def counted(tmp_path):
    """Compile a program of two functions; give a function that runs it and reads its counters."""
    (tmp_path / "small.c").write_text(PROGRAM)
    build = ["gcc", "-O0", "--coverage", "-c", "small.c", "-o", "small.o"]
    subprocess.run(build, cwd=tmp_path, check=True)
    subprocess.run(["gcc", "--coverage", "small.o", "-o", "small"], cwd=tmp_path, check=True)

    def run(*arguments: str) -> gcov.Source:
        data = tmp_path / "small.gcda"
        data.unlink(missing_ok=True)
        subprocess.run(["./small", *arguments], cwd=tmp_path, check=True)
        return gcov.read("gcov", tmp_path / "small.gcno", data)

    return run


def executed(source: gcov.Source, text: str) -> int:
    (line,) = (n for n, each in enumerate(PROGRAM.splitlines(), 1) if text in each)
    return source.lines[line].executed


@pytest.mark.skipif(not shutil.which("gcov"), reason="the host has no gcov of its own")
def test_counts_of_two_runs_are_added_up(counted):
    small, large = counted(), counted("a", "b")
    assert (executed(small, "return 0;"), executed(large, "return 0;")) == (1, 0)
    both = gcov.add([small, large, large])
    assert executed(both, "return 0;") == 1
    assert executed(both, "2 * number") == 2
    line = next(n for n, each in enumerate(PROGRAM.splitlines(), 1) if "if (number" in each)
    assert sorted(both.lines[line].branches) == [1, 2]
    assert both.lines[line].executed == 3


@pytest.mark.skipif(not shutil.which("gcov"), reason="the host has no gcov of its own")
def test_counters_of_another_build_are_refused(counted, tmp_path):
    counted()
    kept = shutil.copyfile(tmp_path / "small.gcda", tmp_path / "kept.gcda")
    source = tmp_path / "small.c"
    source.write_text(source.read_text().replace("2 * number", "number < 9 ? 3 : 4"))
    build = ["gcc", "-O0", "--coverage", "-c", "small.c", "-o", "small.o"]
    subprocess.run(build, cwd=tmp_path, check=True)
    shutil.copyfile(kept, tmp_path / "small.gcda")
    with pytest.raises(HostError, match="another build"):
        gcov.read("gcov", tmp_path / "small.gcno", tmp_path / "small.gcda")


def test_a_format_that_is_not_known_is_told():
    with pytest.raises(HostError, match="format 2 is not known"):
        gcov.parse(json.dumps({"format_version": "2", "files": []}), Path("mm/cma.gcno"))


def test_the_terminal_shows_what_is_uncovered_and_why():
    why = Reason(file="mm/cma.c", function="first", lines=("return 1;",), reason="[never]")
    record, _ = judged(counts(one=0, two=0), why, goal=95)
    screen = Console(file=io.StringIO(), width=80)
    report.show(record, screen)
    said = screen.file.getvalue()
    assert re.search(r"first\(\): \[never\]\n +\d+ +return 1;", said)
    assert re.search(r"first\(\): no reason given\n +\d+ +return 2;", said)
    assert "mm/cma.c: 71.4 % of the lines, and 95 % is the goal" in said
    assert "1 uncovered lines without a reason" in said


def test_the_page_shows_every_line_escaped():
    record, file = judged(counts(one=0))
    page = report.render(record)
    assert "#include &lt;linux/cma.h&gt;" in page
    assert page.count("<tr class=") == len(file.lines)
    assert page.count('class="missed"') == 1
    assert "http" not in page.replace("http-equiv", "")


class FakeGuest:
    """A guest whose debugfs shows counters of some objects, below the path of a build."""

    build = "/sys/kernel/debug/gcov/home/me/build"

    def __init__(self, *objects: str) -> None:
        self.shown = [f"{self.build}/{name}.gcda" for name in objects]
        self.copied = b""

    def run(self, command: str, timeout: float) -> Completed:
        assert timeout > 0
        program, *words = shlex.split(command)
        if program == "find":
            return Completed(0, "".join(f"{path}\n" for path in self.shown))
        if program == "cat":
            self.copied = words[0].encode()
        return Completed(0, "")

    def get(self, remote: str, local: Path, timeout: float) -> None:
        assert timeout > 0
        assert remote
        local.write_bytes(self.copied)


class DeadGuest(FakeGuest):
    def run(self, command: str, timeout: float) -> Completed:
        raise GuestDied(f"QEMU is gone, while running {command!r} ({timeout:g} s)")


@pytest.fixture
def kernel(tmp_path):
    """A built kernel that counts, with notes of two objects."""
    for name in ("mm/cma", "kernel/dma/contiguous"):
        notes = tmp_path / "kdir" / f"{name}.gcno"
        notes.parent.mkdir(parents=True, exist_ok=True)
        notes.touch()
    (tmp_path / "kdir" / ".config").write_text("CONFIG_GCOV_KERNEL=y\n")
    return BuiltKernel("key", "6.12", tmp_path, tmp_path, "", Toolchain("", "", "armhf"))


def files_below(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


def test_counters_are_kept_under_the_names_of_their_notes(kernel, tmp_path):
    guest = FakeGuest("mm/cma", "mm/other", "../../../../escape")
    counters.keep(guest, kernel, tmp_path / "guest")
    assert files_below(tmp_path / "guest") == {"gcov/mm/cma.gcda"}
    kept = tmp_path / "guest" / "gcov" / "mm" / "cma.gcda"
    assert kept.read_text() == f"{guest.build}/mm/cma.gcda"


def test_what_a_dead_guest_counted_is_noted_as_lost(kernel, tmp_path):
    counters.keep(DeadGuest(), kernel, tmp_path / "guest")
    assert files_below(tmp_path / "guest") == {"gcov/lost.txt"}
    cell = CellRecord(name="guest")
    with pytest.raises(UsageError, match="no guest of this run left counters"):
        survey(config.load_coverage(), cell, tmp_path / "guest", kernel.kdir, "gcov")


def test_a_kernel_that_does_not_count_is_not_asked(kernel, tmp_path):
    kernel.dotconfig.write_text("# CONFIG_GCOV_KERNEL is not set\n")
    counters.keep(DeadGuest(), kernel, tmp_path / "guest")
    assert files_below(tmp_path) == {
        *("kdir/.config", "kdir/mm/cma.gcno", "kdir/kernel/dma/contiguous.gcno")
    }
