"""What a compiler and kbuild said of what they could not build, cut down to what counts.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

# A complaint of gcc, with file, line and column; of kbuild's modpost; of make's own parser.
_ERROR = re.compile(r"^[^ ].*:\d+(?::\d+)?: (?:fatal )?error: |^ERROR: modpost: |^\S+:\d+: \*\*\* ")
_LEADS_IN = re.compile(r"^(?:In file included from |\s+from |\S+: (?:In function|At top level))")
_SAYS_NOTHING = re.compile(
    r"^(?:make(?:\[\d+\])?: |  [A-Z]{2,}\b|cc1: |compilation terminated)|:\d+: warning: |^WARNING: "
)
_MOST_LINES = 40


def told(lines: Sequence[str], departed: Mapping[str, str]) -> str:
    """Return the errors with the lines that belong to them, at most 40, and what is known of them.

    Where nothing looks like an error, the end of the output. `departed` says of names what became
    of them.
    """
    kept = list(_of_errors(lines)) or list(lines[-_MOST_LINES // 2 :])
    more = len(kept) - _MOST_LINES
    text = "\n".join(kept[:_MOST_LINES])
    known = [
        f"{name} is {what}"
        for name, what in departed.items()
        if re.search(rf"(?<![\w/]){re.escape(name)}(?!\w)", text)
    ]
    return "\n".join([text, *([f"… and {more} more lines"] if more > 0 else []), *known])


def _of_errors(lines: Sequence[str]) -> Iterator[str]:
    lead: list[str] = []
    inside = False
    for line in lines:
        if _ERROR.search(line):
            yield from (*lead, line)
            inside, lead = True, []
        elif _LEADS_IN.search(line):
            lead.append(line)
            inside = False
        elif _SAYS_NOTHING.search(line):
            inside, lead = False, []
        elif inside:
            yield line
