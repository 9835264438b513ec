"""A stored record of studies on a terminal, and as pages that open without a network.

index.html has the table of studies and kernels; NAME.html is a study: what was claimed, by whom,
and what each kernel showed of it.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import jinja2
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.report.plots import svg
from harness.results.record import write_whole
from harness.results.study import FILE, Outcome, StudiesRecord, StudyRecord

INDEX = "index.html"
_FOLDER = Path(__file__).parent
_STYLE = {Outcome.HOLDS: "green", Outcome.SKIP: "yellow"}


def write(record: StudiesRecord, directory: Path) -> Path:
    """Write a page for each study and one for all; return that one's path."""
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        loader=jinja2.FileSystemLoader(_FOLDER),
    )
    environment.filters["svg"] = svg
    page = environment.get_template("study.html.jinja2")
    for name, group in _by_name(record).items():
        write_whole(directory / f"{name}.html", page.render(studies=group, file=FILE))
    index = environment.get_template("studies.html.jinja2")
    kernels = list(dict.fromkeys(study.kernel for study in record.studies))
    write_whole(
        directory / INDEX, index.render(record=record, rows=_by_name(record), kernels=kernels)
    )
    return directory / INDEX


def show(record: StudiesRecord, console: Console) -> None:
    """Print each study: the claim, what was seen, and the verdict with its reasons."""
    for study in record.studies:
        _show(study, console)
    if len(record.studies) > 1:
        console.print(_table(record))


def _show(study: StudyRecord, console: Console) -> None:
    where = f"linux {study.kernel_version or study.kernel}"
    if study.without:
        where += f" without it ({study.without})"
    colour = "green" if study.good else "red"
    if study.outcome is Outcome.SKIP:
        colour = "yellow"
    verdict = f"[{colour}]{study.outcome}[/]"
    console.print(f"\n[bold]{escape(study.title)}[/]  {escape(where)}: {verdict}", soft_wrap=True)
    console.print(f"  claim   {escape(study.claim.text)}", soft_wrap=True)
    console.print(f"  source  {escape(study.claim.source)}", soft_wrap=True)
    if study.rows:
        table = Table(box=None, padding=(0, 2, 0, 2))
        for heading in ("", "then", "today"):
            table.add_column(heading, overflow="fold")
        for row in study.rows:
            table.add_row(escape(row.what), escape(row.then) or "-", escape(row.now) or "-")
        console.print(table)
    for check in study.checks:
        mark = "[green]held  [/]" if check.held else "[red]broken[/]"
        console.print(f"  {mark}  {escape(check.what)}: {escape(check.seen)}", soft_wrap=True)
    if study.reason:
        console.print(f"  why     {escape(study.reason)}", soft_wrap=True)


def _table(record: StudiesRecord) -> Table:
    kernels = list(dict.fromkeys(study.kernel for study in record.studies))
    table = Table(box=None, padding=(0, 2, 0, 0), title="\nstudies", title_justify="left")
    table.add_column("study")
    for kernel in kernels:
        table.add_column(escape(kernel))
    for name, group in _by_name(record).items():
        found = {study.kernel: study.outcome for study in group}
        cells = (found.get(kernel, "") for kernel in kernels)
        table.add_row(
            name, *(f"[{_STYLE.get(Outcome(c), 'red')}]{c}[/]" if c else "" for c in cells)
        )
    return table


def _by_name(record: StudiesRecord) -> dict[str, list[StudyRecord]]:
    """Return the kernels' records of each study, in the order of the run."""
    order = list(dict.fromkeys(study.name for study in record.studies))
    ordered = sorted(record.studies, key=lambda study: order.index(study.name))
    return {name: list(group) for name, group in groupby(ordered, key=lambda each: each.name)}
