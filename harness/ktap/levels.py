"""One level of a KTAP document while it is being read: a document, a suite, a suite in a suite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.ktap.lines import Plan, Result, metric
from harness.ktap.tree import Case, Metric, Span, overall, worse
from harness.verdict import Verdict

MAX_DIAGNOSTICS = 100
"""Diagnostic lines kept for one case, the first ones; a last line says how many more came."""

MAX_METRICS = 1000
"""Figures kept for one case; a name that comes again takes no more room."""

MAX_CONTINUATION = 16
"""Lines of indented text that may continue one diagnostic; KUnit's longest message has about 8."""

MAX_LOST = 1000
"""Numbers that are missing at one level and get a case each; one more case stands for the rest.

A plan is a guest's word: "1..999999999" must not fill the host's memory.
"""


NEVER_REPORTED = "planned, never reported"


@dataclass(slots=True)
class Notes:
    """What was said since the last result of a level; it belongs to the next one."""

    texts: list[str] = field(default_factory=list)
    dropped: int = 0
    metrics: dict[tuple[str, str], Metric] = field(default_factory=dict)
    fault: str = ""
    room: int = 0  # lines of indented text that may continue the last diagnostic

    def add(self, text: str) -> None:
        """Take one diagnostic line, which may be a metric, too."""
        if len(self.texts) < MAX_DIAGNOSTICS:
            self.texts.append(text)
        else:
            self.dropped += 1
        found = metric(text)
        if found and (len(self.metrics) < MAX_METRICS or found[:2] in self.metrics):
            self.metrics[found[:2]] = found[2]

    def move_to(self, other: Notes) -> None:
        """Give the diagnostics, but not the fault, to `other`."""
        kept = self.texts[: max(0, MAX_DIAGNOSTICS - len(other.texts))]
        other.texts += kept
        other.dropped += self.dropped + len(self.texts) - len(kept)
        other.metrics |= self.metrics
        self.texts, self.metrics, self.dropped = [], {}, 0

    def diagnostics(self) -> tuple[str, ...]:
        """The lines that were kept."""
        more = (f"({self.dropped} more lines)",) if self.dropped else ()
        return (*self.texts, *more)

    def figures(self, path: tuple[str, ...]) -> dict[str, Metric]:
        """The metrics by name, the last one winning.

        KUnit puts the test's name before a text; it goes if it names the case or a suite around
        it (a parameterised case prints under its parent's name), else it stays: "owner.key".
        """
        return {
            key if not owner or owner in path else f"{owner}.{key}": value
            for (owner, key), value in self.metrics.items()
        }

    def complaint(self) -> str:
        """Why a case failed: KUnit's first "… FAILED at", else the line before the result."""
        failed = (text for text in self.texts if "FAILED" in text)
        return next(failed, self.texts[-1] if self.texts else "")


@dataclass(slots=True)
class Level:
    """The cases of one suite or document, and what is known of it so far."""

    indent: int  # columns before its lines
    mark: int  # where in the log the next case begins
    path: tuple[str, ...] = ()  # of the suite; its last part is its number until its name is known
    named: bool = True  # by "# Subtest:"; a document needs no name
    rooted: bool = True  # every name of the path is known
    headed: bool = False  # it has a version line
    planned: int | None = None
    skipped: str = ""  # the reason of a plan "1..0 # SKIP reason"
    first: int = 1  # the number of its first case
    expected: int = 1  # the number of its next case
    cases: list[Case] = field(default_factory=list)
    numbers: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    floor: Verdict = Verdict.PASS  # the verdict is this or worse
    complained: bool = False  # one of its own result lines says it failed
    notes: Notes = field(default_factory=Notes)
    about: Notes = field(default_factory=Notes)  # said of the suite itself

    @property
    def is_document(self) -> bool:
        """Whether this is the top of a document, which has no result line of its own."""
        return not self.path

    @property
    def fresh(self) -> bool:
        """Whether nothing but its header was seen."""
        return self.planned is None and not self.cases

    @property
    def complete(self) -> bool:
        """Whether every case of its plan has reported."""
        return self.planned is not None and len(self.cases) >= self.planned

    @property
    def verdict(self) -> Verdict:
        """The worst of its cases and its problems."""
        return worse(self.floor, overall(case.verdict for case in self.cases))

    def problem(self, text: str, verdict: Verdict = Verdict.FAIL) -> None:
        """Note what is wrong with the level; it cannot be good any more."""
        self.problems.append(text)
        self.floor = worse(self.floor, verdict)

    def plan(self, plan: Plan, at: int) -> None:
        """Take the plan line that ends at byte `at`; it may stand behind the cases (TAP)."""
        if self.planned is not None:
            self.problem(f"a second plan, 1..{plan.count} after 1..{self.planned}")
            return
        self.planned, self.skipped = plan.count, plan.skipped
        if not self.cases:
            self.mark = at
            if not self.is_document:
                self.notes.move_to(self.about)

    def take_number(self, result: Result) -> int:
        """Give the number of a result, and note what is wrong with it."""
        number = result.number
        if number is None:
            self.problem(f"a result without a number, {self.expected} expected: {result.name}")
            number = self.expected
        elif number in self.numbers:
            self.problem(f"number {number} came twice")
        elif number != self.expected:
            self.problem(f"number {self.expected} expected, {number} came")
        last = None if self.planned is None else self.first + self.planned - 1
        if last is not None and number > last:
            self.problem(f"number {number} is beyond the plan 1..{self.planned}")
        self._count(number)
        return number

    def _count(self, number: int) -> None:
        self.numbers.add(number)
        self.expected = number + 1

    def result(self, result: Result, at: int, suite: Level | None) -> Case:
        """Make the case of a result line that ends at byte `at`; `suite` holds its subtests."""
        number = self.take_number(result)
        name = suite.path[-1] if suite and suite.named else result.name or str(number)
        notes, self.notes = self.notes, Notes()
        path = (*self.path, name)
        self.complained |= result.verdict in (Verdict.FAIL, Verdict.TIMEOUT, Verdict.ERROR)
        verdict, message = result.verdict, result.message
        if notes.fault:
            verdict, message = Verdict.CRASH, notes.fault
        elif verdict is Verdict.FAIL and not message and suite is None:
            message = notes.complaint()
        if suite is not None:
            if suite.skipped and verdict is Verdict.PASS:
                verdict, message = Verdict.SKIP, suite.skipped
            suite.check(result)
            if not suite.verdict.good:
                verdict = worse(verdict, suite.verdict)
        return self._case(path, number, verdict, message, at, notes, suite)

    def check(self, result: Result) -> None:
        """Compare this suite with its own result line."""
        says_good = result.verdict.good
        if not self.cases and result.verdict is Verdict.PASS and not self.skipped:
            self.problem("it says ok, but no case of it ran", Verdict.LOST)
        elif says_good and self.complained:
            self.problem("it says ok, but a case in it says not ok")
        elif not says_good and self.cases and self.verdict.good:
            self.problem("it says not ok, but no case in it failed")
        if self.named and result.name and result.name != self.path[-1]:
            self.problem(f"its result line calls it {result.name}")

    def abandoned(self, at: int, suite: Level) -> Case:
        """Make the case of a suite that has no result line."""
        number = self.expected
        self._count(number)
        notes, self.notes = self.notes, Notes()
        message = "its result line never came"
        suite.problem(message, Verdict.LOST)
        verdict = suite.verdict
        if notes.fault:
            verdict, message = Verdict.CRASH, notes.fault
        return self._case(suite.path, number, verdict, message, at, notes, suite)

    def _case(
        self,
        path: tuple[str, ...],
        number: int,
        verdict: Verdict,
        message: str,
        at: int,
        notes: Notes,
        suite: Level | None = None,
    ) -> Case:
        """Put a case together; with the texts before it, then those of its suite."""
        start, self.mark = self.mark, at
        cases: tuple[Case, ...] = ()
        if suite is not None:
            suite.about.move_to(notes)
            suite.notes.move_to(notes)
            cases = tuple(suite.cases)
            message = message or next(iter(suite.problems), "")
            if suite.path != path:
                cases = tuple(case.renamed(len(self.path), path[-1]) for case in cases)
        return Case(
            path=path,
            number=number,
            verdict=verdict,
            message=message,
            span=Span(start, at),
            diagnostics=notes.diagnostics(),
            metrics=notes.figures(path),
            cases=cases,
            planned=suite.planned if suite else None,
            problems=tuple(suite.problems) if suite else (),
        )

    def ending(self, at: int) -> Iterator[Case]:
        """Give the cases that will never report, now that the level ends at byte `at`.

        If the kernel faulted since the last result, the case that was open crashed.
        """
        if self.notes.fault and not self.complete:
            if self.is_document and self.planned is None:
                self.problem(f"a fault after the last result: {self.notes.fault}", Verdict.CRASH)
            else:
                yield self._crashed(at)
        for count, (first, last) in enumerate(self._missing()):
            rest = count == MAX_LOST
            name = f"{first}..{last}" if rest else str(first)
            message = "what else is missing up to the last number" if rest else NEVER_REPORTED
            yield self._case((*self.path, name), first, Verdict.LOST, message, at, Notes())

    def _crashed(self, at: int) -> Case:
        notes, self.notes = self.notes, Notes()
        number = self.expected
        if self.planned is not None and number >= self.first + self.planned:
            number = next(self._missing(), (number, number))[0]
        self._count(number)
        path = (*self.path, str(number))
        return self._case(path, number, Verdict.CRASH, notes.fault, at, notes)

    def _missing(self) -> Iterator[tuple[int, int]]:
        """Yield the numbers without a result as (first, last): one by one, then all the rest.

        A range costs no more than its two ends, however far the guest's numbers are apart.
        """
        last = max(self.numbers, default=0)
        if self.planned is not None:
            last = max(last, self.first + self.planned - 1)
        left, at = MAX_LOST, self.first
        for end in (*sorted(self.numbers), last + 1):
            singles = min(max(end - at, 0), left)
            for number in range(at, at + singles):
                yield number, number
            left -= singles
            if at + singles < end:
                yield at + singles, last
                return
            at = max(at, end + 1)
