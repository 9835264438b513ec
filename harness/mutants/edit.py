"""A mutant applied to the text of a source file."""

from __future__ import annotations

import re

from harness.config import Mutant
from harness.errors import ConfigError


def apply(mutant: Mutant, text: str) -> str:
    """Return the file's text with the mutant in it.

    Raises `ConfigError` when the function, or the text in it, is not there exactly once: the
    kernel has moved on, and the mutant with it must.
    """
    start, end = _span(mutant, text)
    scope = text[start:end]
    times = scope.count(mutant.before)
    if times != 1:
        where = f"in {mutant.function}()" if mutant.function else "in the file"
        raise _stale(mutant, f"its text stands {times} times {where}, not once:\n{mutant.before}")
    return text[:start] + scope.replace(mutant.before, mutant.after) + text[end:]


def _span(mutant: Mutant, text: str) -> tuple[int, int]:
    """Return where the mutant's function begins and ends; without one, the whole file."""
    if not mutant.function:
        return 0, len(text)
    # A definition in the kernel's style: its first line, and its last brace, in column 0.
    definition = rf"^\w[^;{{}}#()]*\b{re.escape(mutant.function)}\([^;{{}}]*\)\s*\n?\{{\n.*?^\}}"
    found = [match.span() for match in re.finditer(definition, text, re.MULTILINE | re.DOTALL)]
    if len(found) != 1:
        raise _stale(mutant, f"the function {mutant.function}() is defined {len(found)} times")
    return found[0]


def _stale(mutant: Mutant, what: str) -> ConfigError:
    return ConfigError(
        f"the mutant {mutant.id} does not apply: {what}",
        where=mutant.file,
        next_step="mend it in configs/mutants/, or remove it",
    )
