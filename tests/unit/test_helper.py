"""The helper's Python side against a fake shell that answers as cma-ctl does."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from harness.cma.answers import ProgramError
from harness.cma.helper import (
    Buffer,
    DeviceInfo,
    Helper,
    LiveBuffer,
    Step,
)
from harness.errors import GuestError, GuestTimeout


@dataclass(frozen=True)
class Answer:
    status: int
    output: str


@dataclass
class FakeShell:
    answer: Answer
    seen: list[tuple[Sequence[str] | str, float]] = field(default_factory=list)

    def run(self, command: str, timeout: float) -> Answer:
        self.seen.append((shlex.split(command), timeout))
        return self.answer

    @property
    def arguments(self) -> list[str]:
        (argv, _timeout) = self.seen[-1]
        assert argv[0] == "cma-ctl"
        return list(argv[1:])


def helper(output: str, status: int = 0) -> tuple[Helper, FakeShell]:
    shell = FakeShell(Answer(status, output))
    return Helper(shell, device="/dev/cma_test-private@50000000", timeout=7.0), shell


ALLOCATED = '{"handle": 6, "dma_address": 3221225472, "size": 65536, "took_ns": 9991152}\n'


def test_alloc_returns_the_buffer():
    device, shell = helper(ALLOCATED)
    assert device.alloc(65536) == Buffer(
        handle=6, dma_address=0xC0000000, size=65536, took_ns=9991152
    )
    assert shell.arguments == ["-d", "/dev/cma_test-private@50000000", "alloc", "65536"]
    assert shell.seen[-1][1] == 7.0


def test_alloc_passes_every_option():
    device, shell = helper(ALLOCATED)
    device.alloc(65536, align=4096, attrs=("write-combine", "no-warn"), nowait=True)
    assert shell.arguments[2:] == [
        "alloc", "65536", "--align", "4096", "--attr", "write-combine,no-warn", "--nowait",
    ]  # fmt: skip


def test_free_returns_its_time():
    device, shell = helper('{"handle": 6, "took_ns": 52304}\n')
    assert device.free(6) == 52304
    assert shell.arguments[2:] == ["free", "6"]


def test_list_keeps_the_order_and_the_attributes():
    device, _shell = helper(
        '{"handle": 9, "dma_address": 4096, "size": 5000, "allocated": 8192, "mappings": 1, '
        '"attrs": []}\r\n'
        "[    1.981322] misc cma_test: no mem in CMA area\r\n"
        '{"handle": 4, "dma_address": 8192, "size": 1, "allocated": 4096, "mappings": 0, '
        '"attrs": ["write-combine", "no-warn"]}\r\n'
    )
    assert device.list() == (
        LiveBuffer(handle=9, dma_address=4096, size=5000, allocated=8192, mappings=1, attrs=()),
        LiveBuffer(
            handle=4,
            dma_address=8192,
            size=1,
            allocated=4096,
            mappings=0,
            attrs=("write-combine", "no-warn"),
        ),
    )


def test_an_empty_list_is_empty():
    device, _shell = helper("")
    assert device.list() == ()


def test_fill_returns_the_bytes():
    device, shell = helper('{"handle": 4, "bytes": 5000}\n')
    assert device.fill(4, 0x5A) == 5000
    assert shell.arguments[2:] == ["fill", "4", "90"]


def test_check_of_equal_bytes():
    device, _shell = helper('{"handle": 4, "bytes": 5000, "bad": 0}\n')
    result = device.check(4, 0)
    assert (result.size, result.bad, result.first_bad) == (5000, 0, None)
    assert result.good


def test_check_of_other_bytes_is_a_result():
    device, _shell = helper('{"handle": 4, "bytes": 5000, "bad": 2, "first_bad": 0}\n', status=3)
    result = device.check(4, 0)
    assert (result.size, result.bad, result.first_bad) == (5000, 2, 0)
    assert not result.good


@pytest.mark.parametrize(("kib", "sent"), [(1024, "1024"), ("0x400", "0x400"), ("-5", "-5")])
def test_write_sends_the_text_as_it_is(kib: int | str, sent: str):
    device, shell = helper('{"returned": 4}\n')
    assert device.write_kib(kib) == 4
    assert shell.arguments[2:] == ["write", "--", sent]


def test_read_returns_zero():
    device, _shell = helper('{"returned": 0}\n')
    assert device.read_oldest() == 0


@pytest.mark.parametrize("errno_name", ["EINVAL", "EOVERFLOW", "ENOSPC", "ENOMEM", "E2BIG"])
def test_an_errno_is_told_by_name(errno_name: str):
    device, _shell = helper(
        f'{{"errno": "{errno_name}"}}\r\ncma-ctl: write: {errno_name} (Some text)\r\n', status=1
    )
    with pytest.raises(ProgramError) as caught:
        device.write_kib(1)
    assert caught.value.errno_name == errno_name
    assert caught.value.where.endswith("write -- 1")
    assert isinstance(caught.value, GuestError)


def test_an_errno_between_kernel_messages():
    device, _shell = helper(
        "[    1.9] misc cma_test: no mem in CMA area\r\n"
        "cma-ctl: alloc: ENOSPC (No space left on device)\r\n",
        status=1,
    )
    with pytest.raises(ProgramError) as caught:
        device.alloc(1 << 30)
    assert caught.value.errno_name == "ENOSPC"


@pytest.mark.parametrize(
    ("status", "output"),
    [
        (127, "sh: cma-ctl: not found\n"),
        (2, "cma-ctl: no such attribute: bogus\n"),
        (1, "Segmentation fault\n"),
        (139, "cma-ctl: read: EIDRM (Identifier removed)\n"),
    ],
)
def test_another_failure_has_no_errno(status: int, output: str):
    device, _shell = helper(output, status)
    with pytest.raises(ProgramError, match=f"exit status {status}") as caught:
        device.read_oldest()
    assert caught.value.errno_name == ""
    assert caught.value.next_step


@pytest.mark.parametrize(
    "output",
    [
        "",
        '{"returned": 0}\n{"returned": 0}\n',
        '{"returned": \n',
        '{"returned": "0"}\n',
        '{"returned": true}\n',
        '{"other": 0}\n',
    ],
)
def test_a_reply_that_is_not_understood_is_an_error(output: str):
    device, _shell = helper(output)
    with pytest.raises(ProgramError) as caught:
        device.read_oldest()
    assert caught.value.errno_name == ""


def test_attributes_must_be_strings():
    device, _shell = helper(
        '{"handle": 1, "dma_address": 0, "size": 1, "allocated": 1, "mappings": 0, "attrs": [1]}'
    )
    with pytest.raises(ProgramError, match="attrs"):
        device.list()


def test_info():
    device, shell = helper('{"abi": 1, "page_size": 4096, "natural_align": 1048576, "live": 0}\n')
    assert device.info() == DeviceInfo(abi=1, page_size=4096, natural_align=1 << 20, live=0)
    assert shell.arguments[2:] == ["version"]


def test_a_script_goes_in_as_lines_and_each_step_comes_back():
    device, shell = helper(
        '{"line": 0, "used": 64, "set": [[0, 64]]}\n'
        '{"line": 1, "handle": 3, "dma_address": 4096, "used": 66, "set": [[0, 64], [70, 2]]}\n'
        '{"line": 2, "errno": "EIDRM", "used": 64, "set": [[0, 64]]}\n'
        '{"line": 3, "used": 64, "set": [[0, 64]]}\n'
    )
    before, made, refused, after = device.script(["alloc 0x2000", "read"], "linux,cma")
    assert before == Step(line=0, used=64, set=((0, 64),))
    assert made == Step(line=1, handle=3, dma_address=4096, used=66, set=((0, 64), (70, 2)))
    assert refused == Step(line=2, errno="EIDRM", used=64, set=((0, 64),))
    assert after.line == 3
    assert " ".join(shell.arguments[2:]) == ("script linux,cma <<end alloc 0x2000 read end")


@pytest.mark.parametrize(
    "output",
    [
        '{"line": 0, "used": 0, "set": []}\n',
        '{"line": 0, "used": 0, "set": [0]}\n',
        '{"line": 0, "used": 0, "set": [], "errno": 5}\n',
    ],
)
def test_a_script_that_is_cut_short_or_odd_is_an_error(output: str):
    device, _shell = helper(output)
    with pytest.raises(ProgramError):
        device.script([], "linux,cma")


def test_errors_of_the_shell_pass():
    class DeadShell:
        def run(self, command: str, timeout: float) -> Answer:
            raise GuestTimeout(f"{command}: no answer in {timeout} s")

    with pytest.raises(GuestTimeout, match=r"30\.0 s"):
        Helper(DeadShell()).read_oldest()
