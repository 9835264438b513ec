"""Where the functions of a C file begin and end, by the kernel's coding style.

gcov tells the functions too, but only those that the compiler made: a line of one that was inlined
away has no function there (gcc 12), and the same line may be of several callers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# A body's braces stand alone at the beginning of a line (coding-style.rst, 3), and what comes
# before the first one is the function's head, down from the line that ended the thing before.
_BODY = re.compile(r"^\{$.*?^\}$", re.M | re.S)
_NAME = re.compile(r"(\w+)\s*\(")


@dataclass(frozen=True, slots=True)
class Function:
    """A function by name, and its lines: from that of its name to the closing brace."""

    name: str
    first: int
    last: int

    def __contains__(self, line: int) -> bool:
        return self.first <= line <= self.last


def functions(text: str) -> tuple[Function, ...]:
    """Return the functions that a C source file defines, in its order."""
    found = []
    for body in _BODY.finditer(text):
        start = _head_of(text, body.start())
        head = text[start : body.start()]
        name = _NAME.search(head)
        if name:
            first = text.count("\n", 0, start) + 1
            found.append(Function(name[1], first, text.count("\n", 0, body.end()) + 1))
    return tuple(found)


def _head_of(text: str, brace: int) -> int:
    """Return where the head begins whose body begins at `brace`.

    It is one paragraph: what stands before it ends with a blank line, a comment, a directive of
    the preprocessor or a closing brace.
    """
    at = brace
    while at > 0:
        line_start = text.rfind("\n", 0, at - 1) + 1
        line = text[line_start : at - 1]
        if not line.strip() or line.startswith(("#", "}", " *")) or line.endswith(("*/", ";")):
            break
        at = line_start
    return at
