"""What programs of the guest answer, as values."""

from __future__ import annotations

import pytest

from harness.cma.answers import ProgramError, answers
from harness.cma.occupy import Check, Pins, Place, occupied
from harness.guest.command import Completed
from harness.verdict import Verdict

PLACE = (
    '{"pages": 2048, "inside": 2000, "in_cma": 2000, "moved": 0, "absent": 1, "dirty": 7, '
    '"swapcache": 0}\n'
)
CHECK = PLACE.replace("}", ', "bad": 0, "zero": %d, "child_bad": 0, "shared": 0}')


class FakeShell:
    """Answers the commands in turn, and keeps them."""

    def __init__(self, *replies: tuple[int, str]) -> None:
        self.replies = list(replies)
        self.commands: list[str] = []

    def run(self, command: str, timeout: float) -> Completed:
        assert timeout > 0
        self.commands.append(command)
        return Completed(*self.replies.pop(0))


def test_an_object_is_a_value():
    (found,) = answers(Completed(0, PLACE), Place, "here")
    assert (found.pages, found.inside, found.absent, found.dirty) == (2048, 2000, 1, 7)


def test_what_the_kernel_says_between_the_lines_is_left_out():
    text = f"[    1.0] a message\n{PLACE}"
    assert len(answers(Completed(0, text), Place, "here")) == 1


def test_a_difference_is_an_answer_too():
    assert len(answers(Completed(3, PLACE), Place, "here")) == 1


@pytest.mark.parametrize(
    ("status", "output", "errno", "verdict"),
    [
        (1, "cma-occupy: fix: ENOMEM (Cannot allocate memory)\n", "ENOMEM", Verdict.FAIL),
        (1, "cma-occupy: /dev/x: y: EBUSY (Device or resource busy)\n", "EBUSY", Verdict.FAIL),
        (2, "cma-occupy: no such kind: x\n", "", Verdict.ERROR),
        (127, "sh: cma-occupy: not found\n", "", Verdict.ERROR),
        (137, "", "", Verdict.ERROR),
        (1, "cma-occupy: hold: ended by signal 9\n", "", Verdict.ERROR),
    ],
)
def test_a_failure_tells_the_kernel_s_from_ours(status, output, errno, verdict):
    with pytest.raises(ProgramError) as failed:
        answers(Completed(status, output), Place, "here")
    assert (failed.value.errno_name, failed.value.verdict) == (errno, verdict)


@pytest.mark.parametrize(
    ("status", "output", "advice"),
    [
        (127, "sh: cma-occupy: not found\n", "image of this checkout"),
        (137, "", "OOM killer"),
        (1, "cma-occupy: hold: ended by signal 9\n", "OOM killer"),
        (2, "cma-occupy: no such kind: x\n", "how it was called"),
    ],
)
def test_what_to_do_next_is_told_by_how_it_ended(status, output, advice):
    with pytest.raises(ProgramError, match=advice):
        answers(Completed(status, output), Place, "here")


@pytest.mark.parametrize("text", ['{"pages": 1}', '{"pages": "1"}', "{", PLACE.replace("7", '"7"')])
def test_another_object_is_an_error_of_ours(text):
    with pytest.raises(ProgramError, match="not a Place"):
        answers(Completed(0, text), Place, "here")


@pytest.mark.parametrize(("zero", "intact"), [(0, True), (1, False)])
def test_a_check_is_intact_when_no_page_differs(zero, intact):
    (found,) = answers(Completed(0, CHECK % zero), Check, "here")
    assert found.intact is intact


def test_an_occupant_is_asked_by_its_name_and_ended():
    shell = FakeShell((0, PLACE), (0, '{"frames": [5, 9]}\n'), (0, "{}\n"))
    with occupied(shell, "clean", "a,b", 4096, file="/a b", margin=7, name="n") as occupant:
        assert occupant.pin(every=8192) == (5, 9) == Pins(frames=(5, 9)).frames
    assert shell.commands == [
        "cma-occupy -n n hold clean a,b 4096 --file '/a b' --margin 7",
        "cma-occupy -n n pin 8192",
        "cma-occupy -n n end",
    ]


def test_an_occupant_that_was_killed_does_not_hide_what_failed():
    gone = (1, "cma-occupy: 1: ECONNREFUSED (Connection refused)\n")
    shell = FakeShell((0, PLACE), gone)
    with pytest.raises(ZeroDivisionError), occupied(shell, "anon", "a", 4096):
        raise ZeroDivisionError
    assert len(shell.commands) == 2


def test_an_end_that_fails_is_told():
    shell = FakeShell((0, PLACE), (1, "cma-occupy: 1: ECONNREFUSED (Connection refused)\n"))
    with pytest.raises(ProgramError, match="ECONNREFUSED"), occupied(shell, "anon", "a", 4096):
        pass
