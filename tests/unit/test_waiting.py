"""What is typed for cma-case, and what is read of its answers."""

from __future__ import annotations

import re
from typing import cast

import pytest

from harness.errors import UsageError
from harness.guest.console import Console
from harness.guest.waiting import Waiting
from harness.module_run import Load


class Fake:
    """A console whose guest answers each line with `says` and its mark's end."""

    def __init__(self, says: bytes, status: int) -> None:
        self.says, self.status = says, status
        self.typed: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.typed.append(data)

    def wait_for(self, pattern: re.Pattern[bytes], timeout: float, doing: str) -> bytes:
        mark = self.typed[-1].split()[0]
        text = self.says + b"%s:%d.\n" % (mark, self.status)
        assert pattern.search(text), (doing, timeout)
        return text


def test_an_answer_is_without_what_the_kernel_says() -> None:
    fake = Fake(b'{"sys[    1.000000] cut in two\r\ntem": 1}\n', 3)
    done = Waiting(cast("Console", fake)).run("cma-snapshot", 1)
    assert (done.status, done.output) == (3, '{"system": 1}\n')
    assert fake.typed[0].split(b" ", 1)[1] == b"cma-snapshot\n"


@pytest.mark.parametrize("command", ["load " + "x" * 4000, "load one\nload two"])
def test_what_is_no_line_is_refused(command: str) -> None:
    with pytest.raises(UsageError):
        Waiting(cast("Console", Fake(b"", 0))).begin(command, 1)


def test_the_line_that_loads_a_module() -> None:
    load = Load("m", "/lib/m.ko", parameters=("a=1", "b=2"), only="suite.case")
    assert load.line == "load suite.case /lib/m.ko a=1 b=2"
