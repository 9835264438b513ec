"""Functions that a guest's processor has entered, from QEMU's own log: from the first one on.

A kernel's tracers begin when much of the boot is over. QEMU logs each block of instructions that it
executes and the registers before it (-d exec,cpu), of the addresses that it is given alone
(-dfilter), as long as it does not chain blocks (nochain). The entry of a function begins a block.
Pure; harness/guest/qemu.py has the options. As QEMU 7.2 prints it, for ARM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_EVENT = re.compile(
    r"^Trace (?P<cpu>\d+): \S+ \[[0-9a-f]+/(?P<pc>[0-9a-f]+)/\S+\].*\n"
    r"(?P<registers>(?:R\d\d=.*\n)+)"
    r"|^Stopped execution of TB chain before \S+ \[(?P<stopped>[0-9a-f]+)\].*\n",
    re.M,
)
_REGISTER = re.compile(r"R(\d\d)=([0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Call:
    """A function that was entered: by which processor, its first four words, and where it returns.

    An argument of 64 bits is two words.
    """

    function: str
    cpu: int
    words: tuple[int, int, int, int]
    returns: int


def parse(text: str, functions: Mapping[int, str]) -> tuple[Call, ...]:
    """Return the calls in a log, oldest first; `functions` are names by address.

    A block that was stopped before its first instruction is logged once more when it goes on.
    """
    found: list[Call] = []
    for event in _EVENT.finditer(text):
        if event["stopped"]:
            if found and found[-1].function == functions.get(int(event["stopped"], 16)):
                found.pop()
            continue
        name = functions.get(int(event["pc"], 16))
        if name is not None:
            found.append(_call(name, int(event["cpu"]), event["registers"]))
    return tuple(found)


def _call(name: str, cpu: int, registers: str) -> Call:
    value = {int(number): int(word, 16) for number, word in _REGISTER.findall(registers)}
    return Call(name, cpu, (value[0], value[1], value[2], value[3]), value[14])
