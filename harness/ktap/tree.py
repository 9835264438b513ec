"""What a KTAP log says, as values: cases in a tree, with verdicts, metrics and problems.

All text in these values came from a guest. `harness.ktap.lines.printable` has already dropped
its control characters and escape sequences, replaced what is not UTF-8, and turned tabs into
spaces; it is still untrusted as a path, as markup and as a format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from harness.verdict import Verdict

# From best to worst. LOST stands above FAIL because nobody knows what happened there: kunit.py
# counts it as a crash, and lets crashes win. ERROR stands below FAIL, as in verdict.exit_code.
_SEVERITY = {
    verdict: rank
    for rank, verdict in enumerate(
        (
            Verdict.PASS,
            Verdict.SKIP,
            Verdict.XFAIL,
            Verdict.ERROR,
            Verdict.FAIL,
            Verdict.LOST,
            Verdict.TIMEOUT,
            Verdict.CRASH,
        )
    )
}


def worse(one: Verdict, other: Verdict) -> Verdict:
    """Give the worse of two verdicts."""
    return max(one, other, key=_SEVERITY.__getitem__)


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """Give the verdict of many: the worst if one is bad, else PASS if any passed; PASS of none.

    A skipped case takes nothing from those that passed; where all were skipped, so was the whole.
    """
    seen = set(verdicts)
    if not seen or (Verdict.PASS in seen and all(verdict.good for verdict in seen)):
        return Verdict.PASS
    return max(seen, key=_SEVERITY.__getitem__)


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure a test printed; `unit` is what stood behind the number, or ""."""

    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of byte offsets in the log: from `start` up to, not including, `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Case:
    """One node: a case (a leaf) or a suite (it has `cases`).

    `path` holds the names from the root. It is what the guest printed, so it may be ambiguous:
    two cases may have one name. A case without a name is called by its number. `number` is the
    one on the result line, or the one it would have had. `span` goes from the end of the line
    that closed the case before (or of the plan) to the end of its own result line; a case that
    never reported ends where its suite does.

    `planned` is the N of the plan 1..N of a suite's cases; None if there was no plan, as in every
    leaf. Each of `problems` is a text, and every problem makes the verdict FAIL or worse.
    """

    path: tuple[str, ...]
    number: int
    verdict: Verdict
    message: str
    span: Span
    diagnostics: tuple[str, ...] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict, hash=False)
    cases: tuple[Case, ...] = ()
    planned: int | None = None
    problems: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path[-1]

    def leaves(self) -> Iterator[Case]:
        """Yield the cases without subtests at and below this one, in the order they ended."""
        if not self.cases:
            yield self
        for case in self.cases:
            yield from case.leaves()

    def renamed(self, depth: int, name: str) -> Case:
        """Give this subtree with another name at one depth of every path."""
        path = (*self.path[:depth], name, *self.path[depth + 1 :])
        cases = tuple(case.renamed(depth, name) for case in self.cases)
        return replace(self, path=path, cases=cases)


@dataclass(frozen=True, slots=True)
class Report:
    """A whole log: the top-level cases of all its KTAP documents, in order.

    `problems` are those of the top level; a suite keeps its own. `message` says why nothing ran,
    if the log's plan was "1..0 # SKIP reason". A log without a case is LOST, never PASS.
    """

    cases: tuple[Case, ...]
    problems: tuple[str, ...]
    verdict: Verdict
    message: str = ""

    def leaves(self) -> Iterator[Case]:
        """Yield all cases without subtests, with full paths, in the order they ended."""
        for case in self.cases:
            yield from case.leaves()

    @property
    def counts(self) -> Counter[Verdict]:
        """How many leaf cases ended in each verdict (0 for one that none did)."""
        return Counter(case.verdict for case in self.leaves())
