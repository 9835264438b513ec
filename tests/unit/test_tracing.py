"""Events of a trace, read by the format that the kernel tells."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from harness.cma.tracing import Event, parse_format, parse_formats, parse_trace, traced
from harness.errors import GuestError

FORMATS = """name: cma_alloc_finish
ID: 279
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;

	field:__data_loc char[] name;	offset:8;	size:4;	signed:0;
	field:int errorno;	offset:28;	size:4;	signed:1;

print fmt: "name=%s pfn=0x%lx page=%p count=%lu align=%u errorno=%d", __get_str(name), REC->pfn, \
REC->page, REC->count, REC->align, REC->errorno
name: cma_alloc_start
ID: 280
format:
	field:unsigned long count;	offset:12;	size:4;	signed:0;

print fmt: "name=%s count=%lu align=%u", __get_str(name), REC->count, REC->align
"""
TRACE = """# tracer: nop
#
# entries-in-buffer/entries-written: 3/3   #P:2
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
         cma-ctl-88      [000] .....    13.431647: cma_alloc_start: name=linux,cma count=28672 align=12
    kworker/0:1-H-9      [001] d..2.    13.446678: cma_alloc_start: name=private@50400000 count=1 align=0
              sh-80      [001] .....   113.473406: cma_alloc_finish: name=private@50400000 pfn=0xffffffff page=(ptrval) count=1 align=0 errorno=-12
"""  # noqa: E501


def test_events_have_the_fields_that_their_format_tells():
    assert parse_trace(TRACE, parse_formats(FORMATS)) == (
        Event(
            "cma_alloc_start",
            "cma-ctl",
            88,
            0,
            13431647,
            {"name": "linux,cma", "count": 28672, "align": 12},
        ),
        Event(
            "cma_alloc_start",
            "kworker/0:1-H",
            9,
            1,
            13446678,
            {"name": "private@50400000", "count": 1, "align": 0},
        ),
        Event(
            "cma_alloc_finish",
            "sh",
            80,
            1,
            113473406,
            {
                "name": "private@50400000",
                "pfn": 0xFFFFFFFF,
                "page": "(ptrval)",
                "count": 1,
                "align": 0,
                "errorno": -12,
            },
        ),
    )


def test_a_number_is_asked_for_by_name():
    last = parse_trace(TRACE, parse_formats(FORMATS))[-1]
    assert last.number("errorno") == -12
    with pytest.raises(GuestError, match="no number 'ret'"):
        last.number("ret")


@pytest.mark.parametrize(
    ("fmt", "text", "fields"),
    [
        ("pfn=%lx page=%p", "pfn=58040 page=81fcaf3a", {"pfn": 0x58040, "page": "81fcaf3a"}),
        ("zone=%-8s order=%d", "zone=Normal   order=-1", {"zone": "Normal", "order": -1}),
        ("order %d count=%5lu", "order 3 count=   12", {"count": 12}),
        ("a (b)=%d.", "a (b)=1.", {}),
    ],
)
def test_conversions(fmt, text, fields):
    assert parse_format(fmt).read(text) == fields


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no trace"),
        (TRACE.replace("3/3", "3/7"), "3 of 7 events are left"),
        (TRACE.replace("3/3", "4/4"), "3 events read, 4 told"),
        (TRACE.replace("errorno=-12", "errorno=?"), "not as its format says"),
        (TRACE.replace("cma_alloc_finish", "cma_alloc_other"), "not as its format says"),
    ],
)
def test_a_trace_that_is_not_whole_or_not_understood_is_an_error(text, told):
    with pytest.raises(GuestError, match=told):
        parse_trace(text, parse_formats(FORMATS))


@dataclass(frozen=True)
class Answer:
    status: int
    output: str


@dataclass
class Shell:
    """Answers as the kernel would; `refused` is a command that fails."""

    refused: str = "\0"
    seen: list[str] = field(default_factory=list)

    def run(self, command: str, timeout: float) -> Answer:
        assert timeout > 0
        self.seen.append(command)
        if self.refused in command:
            return Answer(1, "sh: no such event")
        return Answer(0, FORMATS if "set_event" in command else TRACE)


def test_an_instance_is_made_read_and_removed():
    shell = Shell()
    with traced(shell, "cma:*", "migrate:mm_migrate_pages") as trace:
        assert len(trace.events()) == 3
        trace.clear()
    place = shell.seen[0].removeprefix("mkdir ")
    assert (
        "echo 'cma:*' >>set_event && echo 'migrate:mm_migrate_pages' >>set_event" in (shell.seen[1])
    )
    assert shell.seen[2:] == [f"cat {place}/trace", f"echo >{place}/trace", f"rmdir {place}"]


def test_an_instance_goes_when_the_event_is_unknown():
    shell = Shell(refused="set_event")
    with pytest.raises(GuestError, match="no such event"), traced(shell, "cma:none"):
        pytest.fail("nothing is traced")
    assert shell.seen[-1].startswith("rmdir ")
