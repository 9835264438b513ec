"""The driver of heap-ctl, with a shell that answers from a list."""

from __future__ import annotations

import shlex

import pytest

from harness.cma.answers import ProgramError
from harness.cma.heap import Answer, Heap
from harness.errors import GuestError, GuestTimeout
from harness.guest.command import Completed


class Shell:
    """Answers with what it was made with, and keeps the command."""

    def __init__(self, output: str, status: int = 0) -> None:
        self.answer = Completed(status, output)
        self.command = ""
        self.timeout = 0.0

    def run(self, command: str, timeout: float) -> Completed:
        self.command, self.timeout = command, timeout
        return self.answer


def test_operations_are_arguments_and_answers_come_in_their_order():
    shell = Shell(
        '{"operation": "alloc", "value": 0}\n'
        '{"operation": "map", "errno": "EINVAL"}\n'
        '{"operation": "peek", "signal": "SIGBUS"}\n'
        '{"operation": "cat", "value": 5, "text": "a\\u000ab\\\\\\""}\n'
    )
    operations = ("alloc 4096", "map 0 0 8192", "peek 0 0", "cat /it's")
    assert Heap(shell, "linux,cma").run(*operations) == (
        Answer(operation="alloc", value=0),
        Answer(operation="map", errno="EINVAL"),
        Answer(operation="peek", signal="SIGBUS"),
        Answer(operation="cat", value=5, text='a\nb\\"'),
    )
    assert shlex.split(shell.command.replace("\\\n", "")) == [
        "heap-ctl",
        "-d",
        "/dev/dma_heap/linux,cma",
        *operations,
    ]


def test_no_line_of_a_long_command_is_long():
    shell = Shell('{"operation": "peek", "value": 0}\n' * 900)
    Heap(shell, "h").run(*["peek 0 4096"] * 900)
    assert max(map(len, shell.command.splitlines())) < 100


def test_a_number_is_asked_for_where_there_is_none():
    assert Answer(operation="alloc", value=3).number == 3
    with pytest.raises(GuestError, match="alloc answered ENOMEM"):
        _ = Answer(operation="alloc", errno="ENOMEM").number


@pytest.mark.parametrize(
    "output",
    [
        "",
        "Segmentation fault\n",
        "[]\n",
        '{"operation": "free", "value": 0}\n',
        '{"operation": "alloc"}\n',
        '{"operation": "alloc", "value": "0"}\n',
        '{"operation": "alloc", "value": 0, "text": 1}\n',
        '{"operation": "alloc", "value": 0}\n{"operation": "alloc", "value": 1}\n',
    ],
)
def test_what_is_no_answer_is_an_error(output):
    with pytest.raises(ProgramError):
        Heap(Shell(output), "h").run("alloc 4096")


def test_a_program_that_fails_is_an_error_with_its_words():
    with pytest.raises(ProgramError, match="ENOENT"):
        Heap(Shell("heap-ctl: /dev/dma_heap/h: ENOENT (No such file or directory)\n", 1), "h").run(
            "size 0"
        )


def test_errors_of_the_shell_pass():
    class Dead:
        def run(self, command: str, timeout: float) -> Completed:
            raise GuestTimeout(f"{command}: no answer in {timeout} s")

    with pytest.raises(GuestTimeout, match=r"60\.0 s"):
        Heap(Dead(), "h").run("size 0")
