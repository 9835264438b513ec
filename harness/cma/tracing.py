"""Tracepoints of the running kernel: switched on for a while, and read as typed events.

Each trace has an instance of its own below /sys/kernel/tracing/instances, so that nobody else's
settings matter. How an event prints its fields is read from its `format` file: names and fields
differ by version.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from harness.cma.shell import Shell
from harness.errors import GuestError

TRACING = "/sys/kernel/tracing"
_SECONDS = 30.0
_BUFFER_KB = 256  # for each CPU: some 3000 events of CMA

_FORMAT = re.compile(r"^name: (\w+)\n.*?^print fmt: \"((?:[^\"\\]|\\.)*)\"", re.M | re.S)
_CONVERSION = re.compile(r"%(-?\d*)(l{0,2}|h{0,2}|z)([duxps])")
_KEY = re.compile(r"(\w+)=\(?(?:0x)?$")
_END = re.compile(r"^ ~ (?:0x)?$")
_LINE = re.compile(
    r"^ *(?P<task>.+)-(?P<pid>\d+) +\[(?P<cpu>\d+)\] +\S+ +(?P<s>\d+)\.(?P<us>\d{6}): "
    r"(?P<name>\w+): (?P<text>.*)$",
    re.M,
)
_COUNTS = re.compile(r"^# entries-in-buffer/entries-written: (\d+)/(\d+) ", re.M)
_PATTERNS = {"d": r"-?\d+", "u": r"\d+", "x": r"[0-9a-f]+", "p": r"\S+", "s": r"\S*"}


@dataclass(frozen=True, slots=True)
class Event:
    """An event that was traced, `time_us` after the guest's boot."""

    name: str
    task: str
    pid: int
    cpu: int
    time_us: int
    fields: Mapping[str, int | str]

    def number(self, field: str) -> int:
        """Return a field that is a number; raise `GuestError` when the event has none so named."""
        value = self.fields.get(field)
        if not isinstance(value, int):
            raise GuestError(f"no number {field!r} in {dict(self.fields)}", where=self.name)
        return value


@dataclass(frozen=True, slots=True)
class Format:
    """How an event prints: the pattern of its text, and the conversion of each field."""

    pattern: re.Pattern[str]
    conversions: Mapping[str, str]

    def read(self, text: str) -> Mapping[str, int | str] | None:
        """Return the fields of an event's text, None when it is not of this format."""
        found = self.pattern.fullmatch(text)
        if found is None:
            return None
        return {
            key: _value(found[f"f_{key}"], conversion)
            for key, conversion in self.conversions.items()
        }


def _value(text: str, conversion: str) -> int | str:
    if conversion == "x":
        return int(text, 16)
    return int(text) if conversion in "du" else text


def parse_format(fmt: str) -> Format:
    """Turn a printf format ("name=%s pfn=0x%lx") into a `Format`.

    A conversion without a key before it ("order %d") is matched, and not kept; the second of a
    range ("range=(0x%lx ~ 0x%lx)") is kept as `range_end`.
    """
    pattern, conversions, at, last = "", {}, 0, ""
    for conversion in _CONVERSION.finditer(fmt):
        literal = fmt[at : conversion.start()]
        pattern += re.escape(literal)
        kind = _PATTERNS[conversion[3]]
        padding = " *" if conversion[1] else ""
        found = _KEY.search(literal)
        key = found[1] if found else f"{last}_end" if last and _END.match(literal) else ""
        if key:
            pattern += f"{padding}(?P<f_{key}>{kind}){padding}"
            conversions[key] = conversion[3]
        else:
            pattern += f"{padding}{kind}{padding}"
        last = key
        at = conversion.end()
    return Format(re.compile(pattern + re.escape(fmt[at:])), conversions)


def parse_formats(text: str) -> Mapping[str, Format]:
    """Return the formats in the text of some `format` files, by the names of the events."""
    return {name: parse_format(fmt) for name, fmt in _FORMAT.findall(text)}


def parse_trace(text: str, formats: Mapping[str, Format]) -> tuple[Event, ...]:
    """Return the events of a `trace` file, oldest first.

    Raises `GuestError` when events were lost, or printed otherwise than their format says.
    """
    counts = _COUNTS.search(text)
    if counts is None or counts[1] != counts[2]:
        told = f"{counts[1]} of {counts[2]} events are left" if counts else "no trace"
        raise GuestError(told, where="trace", next_step="trace less, or in a larger buffer")
    events = tuple(_event(line, formats) for line in _LINE.finditer(text))
    if len(events) != int(counts[1]):
        raise GuestError(f"{len(events)} events read, {counts[1]} told", where="trace")
    return events


def _event(line: re.Match[str], formats: Mapping[str, Format]) -> Event:
    name = line["name"]
    fields = formats[name].read(line["text"]) if name in formats else None
    if fields is None:
        raise GuestError(f"not as its format says: {line['text']!r}", where=name)
    time_us = int(line["s"]) * 1_000_000 + int(line["us"])
    return Event(name, line["task"], int(line["pid"]), int(line["cpu"]), time_us, fields)


class Trace:
    """An instance that traces. `events()` may be asked for more than once."""

    def __init__(self, shell: Shell, place: str, formats: Mapping[str, Format]) -> None:
        self.formats = formats
        self.place = place  # the instance's directory
        self._shell = shell

    def events(self, name: str = "") -> tuple[Event, ...]:
        """Return what was traced so far, oldest first; with a name, of that tracepoint alone."""
        found = parse_trace(_run(self._shell, f"cat {self.place}/trace"), self.formats)
        return tuple(event for event in found if name in ("", event.name))

    def clear(self) -> None:
        """Forget what was traced so far."""
        _run(self._shell, f"echo >{self.place}/trace")


@contextmanager
def traced(shell: Shell, *events: str, buffer_kb: int = _BUFFER_KB) -> Iterator[Trace]:
    """Trace events ("cma:*", "migrate:mm_migrate_pages") while the block runs.

    Of `buffer_kb`, which each CPU has, an event takes some 80 bytes.
    Raises `GuestError` when the kernel has no such event, or no tracefs.
    """
    place = f"{TRACING}/instances/cma-harness-{secrets.token_hex(4)}"
    _run(shell, f"mkdir {place}")
    try:
        switched = " && ".join(f"echo '{event}' >>set_event" for event in events)
        formats = _run(
            shell,
            f"cd {place} && echo {buffer_kb} >buffer_size_kb && {switched} && "
            "cat $(sed 's|\\(.*\\):\\(.*\\)|events/\\1/\\2/format|' set_event)",
        )
        yield Trace(shell, place, parse_formats(formats))
    finally:
        _run(shell, f"rmdir {place}")


def _run(shell: Shell, command: str) -> str:
    done = shell.run(command, _SECONDS)
    if done.status:
        raise GuestError(f"status {done.status}: {done.output.strip()}", where=command)
    return done.output
