"""Lost memory: what kmemleak lists, and what a module's end makes of it."""

from __future__ import annotations

import pytest

from harness.guest import kmemleak
from harness.guest.command import Completed
from harness.guest.kmemleak import Blind
from harness.verdict import Verdict

# As mm/kmemleak.c prints it (print_unreferenced, 6.12).
LISTING = """\
unreferenced object 0xc4b5a180 (size 192):
  comm "kunit_try_catch", pid 61, jiffies 4294939312
  hex dump (first 32 bytes):
    5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a  ZZZZZZZZZZZZZZZZ
  backtrace (crc 8dd21f0b):
    leaks+0x41/0xf64 [broken_leak]
    kunit_try_run_case+0x65/0x1b4
unreferenced object 0xc4b5a240 (size 64):
  comm "sh", pid 70, jiffies 4294939400
  backtrace (crc 0):
    0xbf0021c1
"""


class FakeConsole:
    def __init__(self, *answers: Completed) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def run(self, command: str, timeout: float) -> Completed:
        assert timeout > 0
        self.asked.append(command)
        return self.answers.pop(0)


def test_a_listing_is_split_into_its_pieces():
    first, second = kmemleak.parse(LISTING)
    assert (first.address, first.size) == (0xC4B5A180, 192)
    assert "leaks+0x41/0xf64 [broken_leak]" in first.text
    assert second.text.endswith("0xbf0021c1")
    assert first.text + "\n" + second.text + "\n" == LISTING


def test_nothing_lost_is_nothing_told():
    assert kmemleak.parse("") == ()
    assert kmemleak.scan(FakeConsole(Completed(0, ""))) == ()


def test_two_scans_are_made_and_what_is_young_grows_old_between_them():
    console = FakeConsole(Completed(0, LISTING), Completed(0, ""))
    assert len(kmemleak.scan(console)) == 2
    kmemleak.scan(console, aged=True)
    young, old = (command.split(" && ") for command in console.asked)
    assert [word.startswith("echo scan") for word in young].count(True) == 2
    assert ("sleep 6" in young, "sleep 0" in old) == (True, True)


def test_a_kmemleak_that_has_switched_itself_off_is_no_pass():
    denied = Completed(1, "sh: write error: Operation not permitted\n")
    with pytest.raises(Blind, match="Operation not permitted") as caught:
        kmemleak.scan(FakeConsole(denied))
    assert caught.value.verdict is Verdict.SKIP


def test_what_is_lost_is_told_with_its_size_and_back_traces():
    told = kmemleak.explain(kmemleak.parse(LISTING))
    assert told.startswith("2 pieces of memory lost, 256 bytes\nunreferenced object 0xc4b5a180")
    assert "leaks+0x41" in told
