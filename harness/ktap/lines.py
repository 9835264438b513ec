"""The grammar of one KTAP line, without its printk prefix.

Sources: Documentation/dev-tools/ktap.rst (KTAP 1); lib/kunit/test.c of 5.10 ("TAP version 14",
`    # Subtest:`, `ok 1 - name`) and 6.12; tools/testing/selftests/kselftest.h and
kselftest/ktap_helpers.sh (`ok 1 # SKIP name`, `not ok 1 # error text`, `Bail out!`);
testanything.org's TAP 13 and 14.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.faults import starts_fault
from harness.ktap.tree import Metric
from harness.verdict import Verdict

MAX_INDENT = 256
"""More white space than this before a line, in bytes, and it is no KTAP."""

NO_REASON = "no reason given"
"""The reason of a SKIP or XFAIL that the guest did not explain."""


@dataclass(frozen=True, slots=True)
class Version:
    """`KTAP version 1` or `TAP version 14`; `known` if it is one we can read."""

    text: str
    known: bool


@dataclass(frozen=True, slots=True)
class Header:
    """`# Subtest: name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`1..N`; `skipped` is the reason behind `1..0 # SKIP reason`, else ""."""

    count: int
    skipped: str


@dataclass(frozen=True, slots=True)
class Result:
    """`ok 1 - name # DIRECTIVE text`; `number` and `name` may be missing.

    `message` is the text behind the hash sign, without the directive.
    """

    verdict: Verdict
    number: int | None
    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Note:
    """`# text`: a diagnostic line."""

    text: str


@dataclass(frozen=True, slots=True)
class Indented:
    """Indented text that is no KTAP; behind a diagnostic it continues it.

    KUnit prints "    # case: EXPECTATION FAILED at …" and then "    Expected a == b, but".
    """

    text: str


@dataclass(frozen=True, slots=True)
class BailOut:
    """`Bail out! reason`: the program that printed the document gave up."""

    reason: str


@dataclass(frozen=True, slots=True)
class Fault:
    """The first line of a kernel fault."""

    text: str


@dataclass(frozen=True, slots=True)
class End:
    """A line of the kernel after which no test of this boot can report."""

    text: str


Token = Version | Header | Plan | Result | Note | Indented | BailOut | Fault | End

# What `read` can recognise begins with one of these, behind its white space. They are what the
# scanner looks for, so a line that matches neither costs no Python code at all. FAULT_WORDS is a
# coarse net around harness.faults, which decides; a test holds the two together.
_BLANK = rb"[ \t]{0,%d}+" % MAX_INDENT
KTAP_WORDS = _BLANK + rb"(?:ok|not ok|1\.\.\d|#(?=[ \t\r\n])|K?TAP version |Bail out!)"
INDENTED_WORDS = rb"(?:\t|[ ]{2})" + _BLANK + rb"[^\s]"
END_WORDS = (
    rb"(?:List of all partitions:|reboot: (?:System halted|Power down|Restarting system)"
    rb"|Booting Linux on physical CPU)"
)
FAULT_WORDS = (
    rb"(?:rcu: |(?:NMI )?watchdog: )?(?:\[? ?BUG|[Kk]ernel (?:panic|BUG)|WARNING: "
    rb"|INFO: (?:task|rcu|possible|trying)|Unable to handle|Internal error|Bad mode"
    rb"|Insufficient stack|Watchdog det|UBSAN: |page dumped|list_|refcount_t|Out of memory"
    rb"|Division by zero|pagealloc: |kmemleak: Cannot|DMA-API: )"
)
WORDS = rb"(?:%s|%s(?:%s|%s))" % (KTAP_WORDS, _BLANK, FAULT_WORDS, END_WORDS)

_SPLIT = re.compile(rb"(%s)(.*)" % _BLANK, re.DOTALL)
_VERSION = re.compile(r"(KTAP|TAP) version ([0-9]{1,9})$")
_PLAN = re.compile(r"1\.\.([0-9]{1,9})(?:\s+#?\s*(.*))?$")
_RESULT = re.compile(r"(not )?ok(?:\s+([0-9]{1,9})(?![^\s]))?(?:\s+(.*))?$")
_END = re.compile(END_WORDS.decode())
_HASH = re.compile(r"(?:^|\s)#(?:\s|$)")
# "SKIPPED" and TAP 13's "#skip" are common; kunit.py takes whatever begins with "# SKIP".
_DIRECTIVE = re.compile(
    r"(?:^|\s)#\s*+(?:(skip)\w*|(xfail|todo|timeout|error))(?![^\s:]):?", re.IGNORECASE
)
_NUMBER = (
    r"[-+]?(?:0x(?P<hex>[0-9a-f]{1,16})(?!\w)"
    r"|(?!0x)[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e[-+]?[0-9]{1,2})?)"
)
_METRIC = re.compile(
    rf"(?:(?P<owner>[\w.\[\]-]+): )?(?P<key>[A-Za-z_][\w./-]*): ?(?P<number>{_NUMBER})"
    r"(?: ?(?P<unit>[A-Za-zµ%][\w/%^-]{0,15}))?$",
    re.IGNORECASE,
)
_UNIT_SUFFIXES = {
    "ns": "ns",
    "us": "us",
    "ms": "ms",
    "s": "s",
    "bytes": "bytes",
    "kib": "KiB",
    "mib": "MiB",
    "pages": "pages",
}
# Escape sequences go whole; then C0, C1, DEL, and what reorders or breaks a line of Unicode text.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]{0,32}[ -/]{0,8}[@-~]|\x1b\][^\x07\x1b]{0,256}(?:\x07|\x1b\\)?|\x1b[@-Z\\^_]"
)
_CONTROLS = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


def printable(raw: bytes) -> str:
    """Decode guest text for people and files: no control characters, no escape sequences.

    What is not UTF-8 becomes U+FFFD, a tab becomes a space, white space at the ends goes.
    """
    text = raw.decode("utf-8", "replace")
    if text.isascii() and text.isprintable():
        return text.strip()
    return _CONTROLS.sub("", _ESCAPES.sub("", text)).replace("\t", " ").strip()


def read(raw: bytes) -> tuple[int, Token] | None:
    """Tell what one line is, and its indent in columns (a tab is 4, one level of KUnit's).

    `raw` has no prefix and no line end. None is a line that means nothing here.
    """
    match = _SPLIT.match(raw)
    if match is None:
        return None
    blank, rest = match.groups()
    indent = len(blank) + 3 * blank.count(b"\t")
    text = printable(rest)
    token = _ktap(text) or _kernel(rest, text)
    if token is None and (indent > 1 and text):
        token = Indented(text)
    return (indent, token) if token else None


def _ktap(text: str) -> Token | None:
    """Read a line of the protocol."""
    if text.startswith("#"):
        return _comment(text)
    if text.startswith(("ok", "not ok")):
        return _result(text)
    if match := _PLAN.match(text):
        return _plan(match)
    if match := _VERSION.match(text):
        kind, number = match[1], int(match[2])
        return Version(text, number == 1 if kind == "KTAP" else number in (12, 13, 14))
    if text.startswith("Bail out!"):
        return BailOut(text[len("Bail out!") :].strip())
    return None


def _kernel(raw: bytes, text: str) -> Token | None:
    """Read a line of the kernel that bears on a test."""
    if starts_fault(raw):
        return Fault(text)
    return End(text) if _END.match(text) else None


def _comment(text: str) -> Token | None:
    """Read what begins with a hash sign; "#0: c1234" of lockdep is no comment."""
    if text == "#":
        return Note("")
    if not text.startswith("# "):
        return None
    body = text[2:].strip()
    if body.startswith("Subtest: "):
        return Header(body[len("Subtest: ") :].strip())
    return Note(body)


def _plan(match: re.Match[str]) -> Plan:
    """Read "1..N", and the reason of "1..0 # SKIP reason" (ktap_skip_all)."""
    count, rest = int(match[1]), match[2] or ""
    skip = re.match(r"skip\w*\s*(.*)", rest, re.IGNORECASE)
    return Plan(count, (skip[1] or NO_REASON) if skip and not count else "")


def _result(text: str) -> Result | None:
    """Read a result line.

    The number is required by KTAP. Without it, "ok" may be any program's chatter, so it counts
    only as TAP's "ok - name"; "not ok" always counts, for it would be a failure thrown away.
    """
    match = _RESULT.match(text)
    if match is None:
        return None
    bad, number, rest = bool(match[1]), match[2], match[3] or ""
    if number is None and not bad and not rest.startswith("- "):
        return None
    name, directive, message = _split_directive(rest)
    name = name.removeprefix("- ").strip() if name != "-" else ""
    verdict = _verdict(bad, directive)
    if not message and verdict in (Verdict.SKIP, Verdict.XFAIL):
        message = NO_REASON
    return Result(verdict, int(number) if number else None, name, message)


def _split_directive(rest: str) -> tuple[str, str, str]:
    """Split "name # DIRECTIVE text" into its three parts; the directive in upper case."""
    if match := _DIRECTIVE.search(rest):
        directive = (match[1] or match[2]).upper()
        return rest[: match.start()].rstrip(), directive, rest[match.end() :].strip()
    if match := _HASH.search(rest):
        return rest[: match.start()].rstrip(), "", rest[match.end() :].strip()
    return rest.rstrip(), "", ""


def _verdict(bad: bool, directive: str) -> Verdict:
    """Turn ok or not ok and a directive into a verdict.

    SKIP, XFAIL, TIMEOUT and ERROR win over both words: kselftest prints an expected failure as
    "ok 1 # XFAIL". TODO is TAP's expected failure, so "ok # TODO" simply passed.
    """
    if directive in ("SKIP", "XFAIL", "TIMEOUT", "ERROR"):
        return Verdict(directive)
    if directive == "TODO" and bad:
        return Verdict.XFAIL
    return Verdict.FAIL if bad else Verdict.PASS


def metric(note: str) -> tuple[str, str, Metric] | None:
    """Read a figure out of a diagnostic: who said it ("" if nobody), its name, its value.

    `key: number [unit]`, or KUnit's `case: key: number [unit]` (kunit_info puts the name of the
    test before everything). The number is decimal or 0x hex. A missing unit comes from the key's
    ending (latency_ns), if it is one of `_UNIT_SUFFIXES`. "Totals: pass:1 fail:0" and
    "suite: pass:1 fail:0 skip:0 total:1" are no metrics, for their values are no numbers.
    """
    match = _METRIC.match(note)
    if match is None:
        return None
    number = match["number"]
    value = float(int(number, 16) if match["hex"] else float(number))
    unit = match["unit"] or _UNIT_SUFFIXES.get(match["key"].rpartition("_")[2].lower(), "")
    return match["owner"] or "", match["key"], Metric(value, unit)
