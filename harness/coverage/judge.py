"""What the counts mean: each file's lines, why some were not executed, and what is amiss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from harness.config import Coverage, CoveredFile, Reason
from harness.coverage.functions import functions
from harness.coverage.gcov import Count
from harness.errors import ConfigError
from harness.results.coverage import FileCoverage, Line

_WHERE = "configs/coverage.toml"


def judge(
    plan: Coverage, texts: Mapping[str, str], counts: Mapping[str, Mapping[int, Count]]
) -> tuple[tuple[FileCoverage, ...], tuple[str, ...]]:
    """Return the coverage of each file of the plan, and notes about reasons that are out of date.

    `texts` and `counts` have each file's source and counts under its path. Raises `ConfigError`
    for a function that the plan names and the source has not.
    """
    files = tuple(_file(wanted, texts[wanted.path], counts[wanted.path]) for wanted in plan.file)
    explained = tuple(_explain(file, plan.reason) for file in files)
    lines = {file.path: file.lines for file in files}
    return explained, tuple(
        chain.from_iterable(_stale(reason, lines[reason.file]) for reason in plan.reason)
    )


def _file(wanted: CoveredFile, text: str, counts: Mapping[int, Count]) -> FileCoverage:
    known = functions(text)
    names = {function.name for function in known}
    lacking = sorted(set(wanted.functions) - names)
    if lacking:
        raise ConfigError(
            f"{wanted.path} defines no function {', '.join(lacking)}",
            where=_WHERE,
            next_step="see what became of it, and name what is there",
        )
    of_line = {number: each.name for each in known for number in range(each.first, each.last + 1)}
    lines = (
        _line(number, line, of_line.get(number, ""), counts.get(number))
        for number, line in enumerate(text.splitlines(), 1)
        if not wanted.functions or of_line.get(number) in wanted.functions
    )
    return FileCoverage(path=wanted.path, goal=wanted.goal, lines=tuple(lines))


def _line(number: int, text: str, function: str, count: Count | None) -> Line:
    return Line(
        number=number,
        text=text,
        function=function,
        executed=None if count is None else count.executed,
        branches=() if count is None else count.branches,
    )


def _explain(file: FileCoverage, reasons: Sequence[Reason]) -> FileCoverage:
    """Put the reasons to the uncovered lines that they are for."""
    why: dict[int, str] = {}
    for reason in reasons:
        if reason.file == file.path:
            places = (place for found in _places(reason, file.lines).values() for place in found)
            why |= {line.number: reason.reason for line in places if line.uncovered}
    lines = (
        line.model_copy(update={"reason": why[line.number]}) if line.number in why else line
        for line in file.lines
    )
    return file.model_copy(update={"lines": tuple(lines)})


def _places(reason: Reason, lines: Sequence[Line]) -> dict[str, tuple[Line, ...]]:
    """Return the lines that each text of a reason is found in; "" stands for all of a function.

    A reason for all of a function is for none of it once a line of it is executed.
    """
    mine = [line for line in lines if line.function == reason.function]
    if not reason.lines:
        return {"": () if any(line.executed for line in mine) else tuple(mine)}
    return {text: tuple(_blocks(text, mine)) for text in reason.lines}


def _blocks(text: str, lines: Sequence[Line]) -> Iterator[Line]:
    """Yield the lines of each place where `text`, which may be of several lines, stands."""
    wanted = [line.strip() for line in text.strip().splitlines()]
    for start in range(len(lines) - len(wanted) + 1):
        block = lines[start : start + len(wanted)]
        if [line.text.strip() for line in block] == wanted:
            yield from block


def _stale(reason: Reason, lines: Sequence[Line]) -> Iterator[str]:
    """Yield what of a reason no longer applies."""
    where = f"{reason.file}: {reason.function}()"
    for text, found in _places(reason, lines).items():
        if any(line.uncovered for line in found):
            continue
        place = f"{where}: {text!r}" if text else where
        state = "executed, or no code" if found or not text else "gone, or not looked at"
        yield f"{place} is {state}: its reason is out of date"
