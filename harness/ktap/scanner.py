"""Bytes of a console log to the lines that matter, at the speed of a regular expression.

Most of a console is noise, so no Python code runs per line: one search finds the next line that
begins, behind its printk prefix, with a word of KTAP or of a fault; another finds "TAP version "
anywhere, because a prefix nobody knows is learnt there, as kunit.py does (extract_tap_lines in
tools/testing/kunit/kunit_parser.py). kunit.py keeps the prefix's width and cuts every line there;
here its shape is kept (digits may grow), so time stamps may pass 99999 s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.ktap import lines
from harness.ktap.lines import Token

MAX_LINE = 4096
"""Bytes of a line that are looked at. A record of printk has 1024 (PRINTKRB_RECORD_MAX, 6.12)."""

_BLOCK = 1 << 18  # bytes scanned at once; what bounds the copies made of a large input
_MAX_LEARNT = 128  # bytes of a prefix that may be learnt
_MAX_LESSONS = 16  # prefixes learnt from one log; compiling one takes a millisecond

# [   12.345678], also with more digits; [Wed May  8 16:18:20 2024] of `dmesg -T`; the thread or
# cpu of CONFIG_PRINTK_CALLER (since 5.1) behind it. One space behind them is printk's.
_DATE = rb"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}"
_TIME = rb"\[(?:[ ]{0,16}\d{1,16}\.\d{1,9}|%s)\]" % _DATE
_CALLER = rb"\[[ ]{0,16}[TC]\d{1,16}\]"
_STAMP = rb"(?:<\d{1,3}>)?(?:%s(?:%s)?[ ]?|%s[ ]?)" % (_TIME, _CALLER, _CALLER)
# At the start of a line (behind the prompt "# " of a shell, too), or further in: behind what
# syslog and the journal write, or a shell's prompt that printk cut off. Atomic, so that a line
# of noise is read once.
_AT_START = rb"\r{0,4}+(?:# )?%s" % _STAMP
_FURTHER_IN = rb"[^\n\[<]{1,256}+%s" % _STAMP
_PREFIX = rb"(?>(?:%s|%s|<\d{1,3}>)?)" % (_AT_START, _FURTHER_IN)

_STAMPED = re.compile(_AT_START)
_PREFIXED = re.compile(_PREFIX)
_VERSION_AT_END = re.compile(rb"K?TAP version \d{1,9}$")
_DIGITS = re.compile(rb"([ ]*\d+)")


@dataclass(frozen=True, slots=True)
class Line:
    """One line that means something; `start` and `end` are its byte offsets in the log."""

    start: int
    end: int
    indent: int
    token: Token


class Scanner:
    """Cuts a stream, chunked anywhere, into the lines that matter."""

    def __init__(self) -> None:
        self.may_learn = True  # whether a version line may teach a new prefix: between documents
        self.wants_indented = False  # whether text that is only indented matters
        self._offset = 0  # in the log, of the first byte of _carry
        self._carry = b""  # the beginning of a line whose end has not come
        self._cut = 0  # bytes of that line beyond MAX_LINE, which are not kept
        self._lessons = 0
        self._learn(b"")

    def feed(self, data: bytes) -> Iterator[Line]:
        """Yield the lines that are complete with `data`."""
        for at in range(0, len(data), _BLOCK):
            yield from self._piece(data[at : at + _BLOCK])

    def close(self) -> Iterator[Line]:
        """Yield the last line, if it had no line end."""
        if self._carry:
            for line in self._complete(self._carry + b"\n", self._cut):
                yield replace(line, end=line.end - 1)
            self._offset -= 1
            self._carry, self._cut = b"", 0

    @property
    def offset(self) -> int:
        """The byte offset in the log up to which lines are complete."""
        return self._offset

    def _piece(self, piece: bytes) -> Iterator[Line]:
        if self._cut:
            head, newline, piece = piece.partition(b"\n")
            self._cut += len(head)
            if not newline:
                return
            yield from self._complete(self._carry + newline, self._cut)
            self._carry, self._cut = b"", 0
        whole = piece.rfind(b"\n") + 1
        if whole:
            yield from self._complete(self._carry + piece[:whole], 0)
            self._carry = b""
        rest = self._carry + piece[whole:]
        self._carry, self._cut = rest[:MAX_LINE], max(0, len(rest) - MAX_LINE)

    def _complete(self, text: bytes, cut: int) -> Iterator[Line]:
        """Yield the lines of `text`, whole lines; `cut` bytes are missing in its only line."""
        base, self._offset = self._offset, self._offset + len(text) + cut
        for start, end in self._spans(b"\n" + text):
            line = self._read(text[start : min(end, start + MAX_LINE)].rstrip(b"\r\n"))
            if line is not None:
                yield Line(base + start, base + end + cut, *line)

    def _spans(self, block: bytes) -> Iterator[tuple[int, int]]:
        """Yield where the lines worth reading are; `block` begins with the line end before them.

        The two searches run side by side, because a line that is read may change the prefix.
        """
        at = 0
        known = version = -1
        pattern: re.Pattern[bytes] | None = None
        while True:
            if known < at or pattern is not self._pattern():
                pattern = self._pattern()
                match = pattern.search(block, at)
                known = match.start() if match else len(block)
            if version < at:
                version = self._next_version(block, at)
            start = min(known, version)
            if start == len(block):
                return
            at = block.find(b"\n", start + 1)
            yield start, at

    def _pattern(self) -> re.Pattern[bytes]:
        return self._patterns[self.wants_indented]

    def _next_version(self, block: bytes, at: int) -> int:
        found = block.find(b"TAP version ", at)
        return block.rfind(b"\n", at, found) if found >= 0 else len(block)

    def _read(self, raw: bytes) -> tuple[int, Token] | None:
        """Read one line: as it is, then without a known prefix, then learn a new prefix."""
        if not _STAMPED.match(raw):
            found = lines.read(raw)
            if found and not isinstance(found[1], lines.Indented):
                return found
        found = lines.read(self._stripped(raw))
        if found is None or isinstance(found[1], lines.Indented):
            return self._learn_from(raw) or found
        return found

    def _stripped(self, raw: bytes) -> bytes:
        match = _PREFIXED.match(raw)
        text = raw[match.end() :] if match else raw
        learnt = self._learnt.match(text)
        return text[learnt.end() :] if learnt else text

    def _learn_from(self, raw: bytes) -> tuple[int, Token] | None:
        """Take what stands before a version line as the prefix of the lines after it."""
        raw = raw.rstrip()
        match = _VERSION_AT_END.search(raw) if self.may_learn else None
        if match is None:
            return None
        known = _PREFIXED.match(raw)
        prefix = raw[known.end() if known else 0 : match.start()]
        if len(prefix) > _MAX_LEARNT:
            return None
        if prefix != self._prefix:
            self._lessons += 1
            if self._lessons > _MAX_LESSONS:
                return None
            self._learn(prefix)
        return lines.read(raw[match.start() :])

    def _learn(self, prefix: bytes) -> None:
        """Expect `prefix` behind the known ones; its numbers may change, and grow wider."""
        shape = b"".join(
            rb"[ ]{0,20}+\d{1,20}+" if part.strip().isdigit() else re.escape(part)
            for part in _DIGITS.split(prefix)
        )
        self._prefix = prefix
        self._learnt = re.compile(shape)
        before = _PREFIX + (rb"(?>(?:%s)?)" % shape)
        self._patterns = tuple(
            re.compile(rb"\n(?:%s|%s%s)" % (lines.KTAP_WORDS, before, words))
            for words in (lines.WORDS, rb"(?:%s|%s)" % (lines.WORDS, lines.INDENTED_WORDS))
        )
