"""KTAP 1 and the kernel's TAP (12 to 14) to a tree of verdicts, in one pass, chunk by chunk.

Pure: bytes in, values out. No input raises, the work is linear in the input, and nothing of the
log is kept but the tree (MAX_DIAGNOSTICS lines a case) and one unfinished line (MAX_LINE bytes).

How lines make a tree. Columns do: a line deeper than the level that is open begins a suite, and a
result line closes what is deeper and takes it as its subtests. So a suite may lack its version
line, its "# Subtest:" or both (and its plan, unless its first line is two levels deeper). A
version line at the first column begins the next document. Older KUnit prints none around the
suites of a module, so "# Subtest:" outside a document begins one that has no plan and may count
from any number. A later document may count on from the one before
(kunit_suite_counter in lib/kunit/test.c goes on until a module is unloaded).

What is not a problem: a missing plan, if there are results and the suite's own result line comes
(kunit.py accepts it; ktap.rst allows it); "1..0", which every KUnit kernel prints at boot, if
something else ran. A number that is missing, comes twice or out of order, a second plan, results
beyond the plan, a suite that says ok and ran nothing, a suite and cases that contradict each
other: each is a problem, and what has a problem is not good.

A fault while a case is open makes that case CRASH, whatever it says later. Outside a document,
after the last case of its plan, and between the suites of a document without a header, a fault
is nobody's, and no concern of this module: whoever watches the console sees it.

kselftest's runner prints a program's own KTAP behind "# ", so those lines are diagnostics here,
as they are for kunit.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.ktap.levels import MAX_CONTINUATION, Level
from harness.ktap.lines import (
    BailOut,
    End,
    Fault,
    Header,
    Indented,
    Note,
    Plan,
    Result,
    Version,
)
from harness.ktap.scanner import Line, Scanner
from harness.ktap.tree import Case, Report, overall, worse
from harness.verdict import Verdict

MAX_DEPTH = 32
"""Levels of nesting; what is deeper counts as part of the deepest. KUnit has three."""


class Parser:
    """Reads one log; `feed` it what comes, then `close` it once."""

    def __init__(self) -> None:
        self._scanner = Scanner()
        self._levels: list[Level] = []  # the document that is open, and what is open in it
        self._implied = False  # the open document has no version line
        self._cases: list[Case] = []  # of the documents that are closed
        self._last = 0  # number of the last case of the document before
        self._problems: list[str] = []
        self._floor = Verdict.PASS
        self._skipped = ""
        self._final: list[Case] = []

    def feed(self, data: bytes) -> tuple[Case, ...]:
        """Take the next bytes, cut anywhere; give the leaf cases they made final, in order.

        The cases under a suite whose name is not known yet (KTAP 1 names it only in its result
        line) come when it is. Those that only the end of the log decides are in the report.
        """
        for line in self._scanner.feed(data):
            self._take(line)
        final, self._final = tuple(self._final), []
        return final

    @property
    def open_case(self) -> tuple[str, ...] | None:
        """The path of the case whose result should come next; its last part is its number.

        It is the suite's path if only that suite's own line is missing. None if nothing is open,
        or if there is no plan to tell whether more is to come.
        """
        for level in reversed(self._levels):
            if level.complete:
                if not level.is_document:
                    return level.path
            elif level.planned is not None or not level.is_document:
                return (*level.path, str(level.expected))
        return None

    def close(self) -> Report:
        """End the log: what is open is LOST, or CRASH if the kernel faulted meanwhile."""
        for line in self._scanner.close():
            self._take(line)
        self._end_document(self._scanner.offset)
        if not self._cases and not self._skipped:
            self._problem("no test ran: no result line in the log", Verdict.LOST)
        message = "" if self._cases else self._skipped
        verdict = overall(case.verdict for case in self._cases) if not message else Verdict.SKIP
        verdict = worse(self._floor, verdict)
        return Report(tuple(self._cases), tuple(self._problems), verdict, message)

    def _take(self, line: Line) -> None:
        if not isinstance(line.token, Note | Indented):
            self._scanner.wants_indented = False
        match line.token:
            case Version():
                self._version(line, line.token)
            case Header():
                self._header(line, line.token)
            case Plan():
                self._plan(line, line.token)
            case Result():
                self._result(line, line.token)
            case Note() | Indented():
                self._note(line, line.token)
            case _:
                self._interruption(line, line.token)
        self._scanner.may_learn = not self._levels or self._levels[0].complete

    # Lines that open a level

    def _version(self, line: Line, version: Version) -> None:
        if not self._levels or line.indent <= self._levels[0].indent:
            self._end_document(line.start)
            self._begin_document(line.indent, line.end, implied=False)
        else:
            self._close_to(line.indent, line.start)
            self._open(line)
        self._levels[-1].headed = True
        if not version.known:
            self._levels[-1].problem(f"unknown: {version.text}")

    def _header(self, line: Line, header: Header) -> None:
        top = self._levels[-1] if self._levels else None
        if top and top.headed and top.fresh and top.indent == line.indent:
            if top.is_document:  # a suite's version line, without a document around it
                self._levels = []
                self._begin_document(0, line.start, implied=True)
                self._open(line)
        else:
            self._surround(line)
            self._close_to(line.indent, line.start)
            self._open(line)
        self._name(header.name)

    def _surround(self, line: Line) -> None:
        """Make sure that a suite has a document around it that still takes suites."""
        if not self._levels or (len(self._levels) == 1 and self._levels[0].complete):
            self._end_document(line.start)
            self._begin_document(0, line.start, implied=True)

    def _begin_document(self, indent: int, at: int, *, implied: bool) -> None:
        self._levels = [Level(indent, at)]
        self._implied = implied

    def _open(self, line: Line) -> None:
        """Open a level in the deepest one."""
        top = self._levels[-1]
        if len(self._levels) < MAX_DEPTH:
            path = (*top.path, str(top.expected))
            self._levels.append(Level(line.indent, line.end, path, named=False, rooted=False))

    def _name(self, name: str) -> None:
        """Name the deepest suite, which makes its path known if that of its parent is."""
        top = self._levels[-1]
        if name and not top.is_document and not top.named:
            parent = self._levels[-2]
            top.path, top.named, top.rooted = (*parent.path, name), True, parent.rooted

    # Lines within a level

    def _plan(self, line: Line, plan: Plan) -> None:
        if not self._levels:
            return
        self._deepen(line)
        while len(self._levels) > 1 and self._levels[-1].indent > line.indent:
            self._abandon(line.start)
        self._levels[-1].plan(plan, line.end)

    def _deepen(self, line: Line) -> None:
        """Open the suite of a line that stands deeper than its level, by two columns or more.

        TAP 14 proper has "# Subtest:" at the parent's column: then the suite is open already.
        """
        top = self._levels[-1]
        if line.indent < top.indent + 2:
            return
        if top.named and top.fresh and not top.is_document and not top.headed:
            top.indent = line.indent
        else:
            self._open(line)
            self._levels[-1].mark = line.start

    def _result(self, line: Line, result: Result) -> None:
        if not self._levels:
            return
        self._deepen(line)
        suite = self._suite_of(line, result)
        level = self._levels[-1]
        if suite and suite.named and result.name and result.name != suite.path[-1]:
            suite = self._disown(line, result, suite)
        if level.is_document and not level.cases:
            self._count_on(level, result)
        self._add(level, level.result(result, line.end, suite), suite)

    def _suite_of(self, line: Line, result: Result) -> Level | None:
        """Close what is deeper than a result line; the last of it is the suite it reports."""
        suite = None
        while len(self._levels) > 1 and self._is_above(line, result):
            if suite is not None:
                self._add_abandoned(self._levels[-1], suite, line.start)
            suite = self._levels.pop()
            self._finish(suite, line.start)
        return suite

    def _is_above(self, line: Line, result: Result) -> bool:
        """Whether a result belongs to a level above the deepest.

        If both have the same column (someone stripped the white space), the name decides, as it
        does for kunit.py, or the plan.
        """
        top, parent = self._levels[-1], self._levels[-2]
        if top.indent != line.indent or parent.indent != line.indent:
            return top.indent > line.indent
        return top.complete or (top.named and result.name == top.path[-1])

    def _disown(self, line: Line, result: Result, suite: Level) -> Level | None:
        """Decide whether a result with another name can be that of `suite`: by the number."""
        level = self._levels[-1]
        if result.number in (None, level.expected):
            return suite
        self._add_abandoned(level, suite, line.start)
        return None

    def _count_on(self, level: Level, result: Result) -> None:
        """Let a document's numbers begin where those of the one before ended."""
        if result.number and (self._implied or result.number == self._last + 1):
            level.first = level.expected = result.number

    def _note(self, line: Line, note: Note | Indented) -> None:
        level = self._speaker(line.indent)
        if level is None:
            return
        if isinstance(note, Note):
            level.notes.add(note.text)
            level.notes.room = MAX_CONTINUATION
        elif level.notes.room:
            level.notes.add(note.text)
            level.notes.room -= 1
        self._scanner.wants_indented = level.notes.room > 0

    def _speaker(self, indent: int) -> Level | None:
        """Find the level whose next result a diagnostic explains: the deepest one not complete.

        Behind the last case of a suite, its deeper lines are the suite's own ("# Totals: …").
        """
        for level in reversed(self._levels):
            if not level.complete or (indent >= level.indent and not level.is_document):
                return level
        return None

    # Lines that are no test's

    def _interruption(self, line: Line, token: BailOut | Fault | End) -> None:
        if not self._levels:
            return
        if isinstance(token, BailOut):
            self._levels[-1].problem(f"Bail out! {token.reason}".rstrip())
            self._end_document(line.end)
        elif isinstance(token, End):
            self._end_document(line.start)
        else:
            self._fault(token.text)

    def _fault(self, text: str) -> None:
        """Give a fault to the case that is open.

        A kernel without a root file system panics when its built-in tests are over, so that
        panic means nothing unless a plan or a suite says that more was to come.
        """
        idle = self._levels[0].planned is None and len(self._levels) == 1
        if idle and (self._implied or text.startswith("Kernel panic - not syncing: VFS:")):
            return
        level = next((level for level in reversed(self._levels) if not level.complete), None)
        if level is not None and not level.notes.fault:
            level.notes.fault = text

    # Closing

    def _end_document(self, at: int) -> None:
        """Close whatever is open, and keep the document's cases."""
        if not self._levels:
            return
        while len(self._levels) > 1:
            self._abandon(at)
        document = self._levels[0]
        self._finish(document, at)
        self._levels = []
        if document.planned is None and not document.cases:
            document.problem("neither a plan nor a result", Verdict.LOST)
        for text in document.problems:
            self._problem(f"{text} (in the document that ends at byte {at})", document.floor)
        self._cases += document.cases
        self._skipped = self._skipped or document.skipped
        self._last = document.cases[-1].number if document.cases else 0

    def _close_to(self, indent: int, at: int) -> None:
        """Close the suites at this column and deeper; their result lines did not come."""
        while len(self._levels) > 1 and self._levels[-1].indent >= indent:
            self._abandon(at)

    def _abandon(self, at: int) -> None:
        suite = self._levels.pop()
        self._finish(suite, at)
        self._add_abandoned(self._levels[-1], suite, at)

    def _add_abandoned(self, level: Level, suite: Level, at: int) -> None:
        self._add(level, level.abandoned(at, suite), suite)

    def _finish(self, level: Level, at: int) -> None:
        """Add the cases that will not report any more."""
        for case in level.ending(at):
            self._add(level, case, None)

    def _add(self, level: Level, case: Case, suite: Level | None) -> None:
        """Add a case to its level, and report its leaves, unless they were already."""
        level.cases.append(case)
        if level.rooted and (suite is None or not suite.rooted or not suite.cases):
            self._final.extend(case.leaves())

    def _problem(self, text: str, verdict: Verdict) -> None:
        self._problems.append(text)
        self._floor = worse(self._floor, verdict)


def parse(data: bytes | Iterable[bytes]) -> Report:
    """Read a whole log, given at once or in chunks."""
    parser = Parser()
    for chunk in (data,) if isinstance(data, bytes) else data:
        parser.feed(chunk)
    return parser.close()
