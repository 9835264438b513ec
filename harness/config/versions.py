"""Which kernel versions a line, a patch or a defect is about: "since 5.13", "before 6.12"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import PlainSerializer, PlainValidator

_NUMBER = r"\d+\.\d+(?:\.\d+)?"
_RANGE = re.compile(rf"(?:since ({_NUMBER}))?(?:(?:^| )before ({_NUMBER}))?")


def numbers(version: str) -> tuple[int, ...]:
    """Return 6.12.117 as (6, 12, 117); what follows the numbers, such as -rc1, is left out.

    Raises ValueError for a text that does not begin with two numbers.
    """
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if match is None:
        raise ValueError(f"{version!r} is not a kernel's version")
    return tuple(int(number or 0) for number in match.groups())


@dataclass(frozen=True, slots=True)
class Versions:
    """Ranges of versions, as they are written: "since 5.11 before 6.1.50, since 6.2".

    `since` is part of a range, `before` is not. A fix that went to the stable kernels too ends
    several ranges, one for each of them.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the ranges; raise ValueError for a text that is none."""
        for part in text.split(", "):
            match = _RANGE.fullmatch(part)
            if not part or match is None:
                raise ValueError(
                    f"{text!r} are no versions such as 'since 5.13', 'before 6.12' "
                    "or 'since 5.10 before 5.10.200, since 6.1'"
                )
            since, before = (numbers(each) if each else None for each in match.groups())
            if since and before and since >= before:
                raise ValueError(f"{part!r} has no version in it")
        return cls(text)

    def __contains__(self, version: str) -> bool:
        """Tell whether a kernel of that version is in one of the ranges."""
        have = numbers(version)
        return any(
            (not since or have >= numbers(since)) and (not before or have < numbers(before))
            for since, before in (
                match.groups() for match in map(_RANGE.fullmatch, self.text.split(", ")) if match
            )
        )


def _read(value: object) -> Versions:
    if isinstance(value, Versions):
        return value
    return Versions.parse(str(value))


# The field of a TOML table.
VersionsField = Annotated[
    Versions, PlainValidator(_read), PlainSerializer(lambda versions: versions.text)
]
