"""A series of patches in a mailbox, as b4, lore.kernel.org or git format-patch write it. Pure.

Replies, cover letters and other mails without a diff are left out; what is there must be one whole
series.
"""

from __future__ import annotations

import email.policy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.parser import BytesParser

from harness.errors import ConfigError

# As git mailsplit has it: a line of a message may begin with "From " too, which git format-patch
# does not escape, and mailbox.mbox would end the mail there.
_ENVELOPE = re.compile(rb"^From \S+ .*\d{1,2}:\d\d:\d\d .*\d{4}[ \t\r]*$", re.M)
_REPLY = re.compile(r"(re|aw|fwd?)\s*:", re.I)
_PREFIX = re.compile(r"\s*((?:\[[^\]]*\]\s*)+)(.*)", re.S)
_PLACE = re.compile(r"\b(\d+)/(\d+)\b")
_VERSION = re.compile(r"\bv(\d+)\b(?!\.)", re.I)
_SENT_AS_PATCH = re.compile(r"\b(?:patch|rfc)\b", re.I)
_DIFF = re.compile(rb"^(?:diff --git \S|--- \S.*\n\+\+\+ \S)", re.M)
_TEXTS = ("text/plain", "text/x-patch", "text/x-diff")


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail of a series: `number` of `total`, or None where there are no numbers.

    `diff` is what patch(1) is given, in UTF-8; it is empty in a cover letter.
    """

    subject: str
    version: int
    number: int | None
    total: int | None
    diff: bytes


def is_mailbox(content: bytes) -> bool:
    """Tell whether a file is a mailbox, by its first line."""
    return _ENVELOPE.match(content) is not None


def series(content: bytes, where: str) -> tuple[Mail, ...]:
    """Return the patches of a mailbox in the order in which they are applied.

    Raises `ConfigError` when it has none, when one is missing or has no diff, and when there are
    patches of several series or versions.
    """
    parts = _split(content)
    mails = tuple(dict.fromkeys(mail for part in parts if (mail := _mail(part))))
    numbered = [mail for mail in mails if mail.number is not None]
    patches = [mail for mail in mails if (mail.diff or mail.number) and mail.number != 0]
    fault = (
        _none(patches, len(parts))
        or _mixed(patches)
        or _without_diff(patches)
        or _doubled(patches)
        or _missing(patches, numbered)
    )
    if fault:
        raise ConfigError(fault, where=where, next_step="fetch one whole series: b4 am MESSAGE-ID")
    return tuple(sorted(patches, key=lambda mail: mail.number or 0))


def _split(content: bytes) -> list[bytes]:
    found = list(_ENVELOPE.finditer(content))
    ends = [each.start() for each in found[1:]] + [len(content)]
    mails = (content[each.end() : end] for each, end in zip(found, ends, strict=True))
    # A blank line stands behind each mail.
    return [mail.lstrip()[: -1 if mail.endswith(b"\n\n") else None] for mail in mails]


def _mail(text: bytes) -> Mail | None:
    """Return a mail as a part of a series, None for one that is none."""
    message = BytesParser(_class=EmailMessage, policy=email.policy.default).parsebytes(text)
    subject = " ".join(str(message["Subject"] or "no subject").split())
    if _REPLY.match(subject):
        return None
    prefix = match[1] if (match := _PREFIX.match(subject)) else ""
    diff = _diff(message)
    if not diff and not _SENT_AS_PATCH.search(prefix):  # a robot's [mm-unstable 12/345], say
        return None
    place, version = _PLACE.search(prefix), _VERSION.search(prefix)
    number, total = (int(place[1]), int(place[2])) if place else (None, None)
    return Mail(subject, int(version[1]) if version else 1, number, total, diff)


def _diff(message: EmailMessage) -> bytes:
    """Return the diffs of a mail's texts; what a changelog quotes before them is not applied."""
    texts = [_text(part) for part in message.walk() if part.get_content_type() in _TEXTS]
    return b"".join(text[match.start() :] for text in texts if (match := _DIFF.search(text)))


def _text(part: EmailMessage) -> bytes:
    """Return a text with its transfer encoding undone, in UTF-8, with Unix's line ends."""
    raw = part.get_payload(decode=True)
    assert isinstance(raw, bytes)
    if raw.count(b"\r\n") == raw.count(b"\n"):
        raw = raw.replace(b"\r\n", b"\n")
    try:
        return raw.decode(part.get_content_charset("utf-8")).encode()
    except (LookupError, UnicodeDecodeError):  # a header that is wrong: the bytes are what was sent
        return raw


def _none(patches: Sequence[Mail], mails: int) -> str:
    return "" if patches else f"no patch in this mailbox of {mails} mails"


def _mixed(patches: Sequence[Mail]) -> str:
    versions = sorted({mail.version for mail in patches})
    if len(versions) > 1:
        return f"versions {', '.join(f'v{each}' for each in versions)} of a series are mixed"
    totals = dict.fromkeys(mail.total for mail in patches)
    if len(totals) > 1:
        told = "; ".join(next(m.subject for m in patches if m.total == each) for each in totals)
        return f"patches of more than one series: {told}"
    return ""


def _without_diff(patches: Sequence[Mail]) -> str:
    told = [mail.subject for mail in patches if not mail.diff]
    return f"no diff in {'; '.join(told)}" if told else ""


def _doubled(patches: Sequence[Mail]) -> str:
    numbers = [mail.number for mail in patches if mail.number is not None]
    told = [mail.subject for mail in patches if numbers.count(mail.number or 0) > 1]
    return f"two mails for one patch: {'; '.join(told)}" if told else ""


def _missing(patches: Sequence[Mail], numbered: Sequence[Mail]) -> str:
    total = max((mail.total or 0 for mail in numbered), default=0)
    here = {mail.number for mail in patches}
    gone = [f"{number}/{total}" for number in range(1, total + 1) if number not in here]
    return f"not in this mailbox: {', '.join(gone)}" if gone else ""
