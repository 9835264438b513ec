"""What a guest is found to have when it is up, and what is kept of that beside a stored one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from test_audit import LINES, sound

from harness.beginning import Beginning, look
from harness.cma.areas import LiveArea
from harness.guest.guest import Guest

SAID = (
    b"[    0.000000] Reserved memory: created CMA memory pool at 0x50400000, size 32 MiB\r\n"
    b"[    0.000000] Kernel command line: earlycon\r\n"
    b"[    0.100000] cma: Initialized 2 areas\r\n"
)
SURVEYED = "./a/base_pfn:328704\n./a/count:8192\n./a/used:0\n/proc/meminfo:CmaTotal:   49152 kB\n"


def guest() -> Guest:
    answers = {"cma-snapshot": "\n".join(LINES), "meminfo": SURVEYED}

    def run(command: str, timeout: float) -> Any:
        (output,) = (answer for word, answer in answers.items() if word in command)
        return SimpleNamespace(status=0, output=output)

    return cast("Guest", SimpleNamespace(console=SimpleNamespace(run=run, text=lambda: SAID)))


def test_what_a_guest_has():
    begun = look(guest())
    assert begun.survey.areas == (LiveArea("a", 328704 << 12, 32 << 20, 0),)
    assert begun.survey.meminfo == {"CmaTotal": 48 << 20}
    assert begun.snapshot == sound()
    assert [line.split("] ")[1][:12] for line in begun.messages] == ["Reserved mem", "cma: Initial"]


def test_it_is_the_same_when_it_has_been_kept():
    begun = look(guest())
    assert Beginning.model_validate_json(begun.model_dump_json(by_alias=True)) == begun
