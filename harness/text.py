"""Guest output is untrusted text: what of it may reach a terminal."""

from __future__ import annotations

import re

# ECMA-48's escape sequences first, whole, so that no "[31m" stays; then what else controls.
_CONTROL = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b\[[0-?]*[ -/]*[@-~]|[^\n\t\x20-\x7e\xa0-\U0010ffff]"
)


def printable(text: str) -> str:
    """Return the text without escape sequences and control characters; lines and tabs stay."""
    return _CONTROL.sub("", text)
