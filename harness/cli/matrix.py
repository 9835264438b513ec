"""Several cells in one run: `test` with lists of names, and the nightly."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.cli.app import app
from harness.cli.choice import Choice
from harness.cli.options import (
    RUNS,
    DryRunOption,
    JsonOption,
    PreviousOption,
    ResumeOption,
    ground,
)
from harness.config import load_nightly
from harness.errors import ConfigError, UsageError
from harness.matrix import host
from harness.matrix import nightly as parts_of
from harness.matrix.begin import Outlook, begin, outlook, recorder
from harness.report import changes, html, junit, terminal
from harness.results import plan, record
from harness.results.compare import compare
from harness.results.plan import PlanRecord
from harness.results.record import RUN_FILE, RunRecord
from harness.session import HTML_FILE, JUNIT_FILE
from harness.verdict import EXIT_PASSED, EXIT_USAGE, exit_code

NIGHTLY = "nightly-latest"
SUMMARY = "summary.txt"
_ONE = "1"  # cell at a time, when no -n is given


@dataclass(frozen=True, slots=True)
class Way:
    """How a matrix is run, whatever its cells are."""

    at_once: str = _ONE
    runs: Path = RUNS
    directory: Path | None = None
    resume: Path | None = None
    junit: Path | None = None
    dry_run: bool = False
    as_json: bool = False


def run_matrix(choice: Choice, arguments: Sequence[str], previous: Path | None, way: Way) -> int:
    """Run every combination of `choice`.

    `arguments` are pytest's, of which a matrix takes -n, --junitxml and the record's place for
    itself. Returns the exit code.
    """
    own, left = _own_options().parse_known_args(list(arguments))
    way = replace(way, at_once=own.n, runs=own.runs, directory=own.run_dir, junit=own.junitxml)
    wanted = _resumed(way.resume, choice, left) if way.resume else _asked(choice, left)
    earlier = _earlier(previous, way.runs / "latest")
    found = _run(wanted, earlier, way)
    return EXIT_PASSED if found is None else _exit_code(found)


def _own_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, prog="cma-harness test")
    parser.add_argument("-n", "--numprocesses", dest="n", default=_ONE)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--run-dir", type=Path)
    parser.add_argument("--junitxml", "--junit-xml", type=Path)
    return parser


def _asked(choice: Choice, arguments: Sequence[str]) -> PlanRecord:
    if {"--collect-only", "--co"} & set(arguments):
        raise UsageError("--collect-only is for one cell", next_step="--dry-run tells the cells")
    return PlanRecord(wishes=choice.wishes(arguments))


def _resumed(directory: Path, choice: Choice, arguments: Sequence[str]) -> PlanRecord:
    given = (*choice.patches, *choice.fragments, *arguments)
    if given:
        raise UsageError(
            f"a run goes on with its own tests and kernels, not with {' '.join(given)}",
            next_step=f"cma-harness test --resume {directory}",
        )
    return plan.read(directory)


@app.command()
def nightly(
    part: Annotated[list[str] | None, typer.Option(help="Only this part of the file.")] = None,
    budget: Annotated[float | None, typer.Option(min=0.1, help="Minutes, not the file's.")] = None,
    file: Annotated[Path | None, typer.Option(help="Not configs/nightly.toml.")] = None,
    at_once: Annotated[
        str, typer.Option("-n", help="Cells at a time; auto: as processors and memory allow.")
    ] = host.AUTO,
    runs: Annotated[Path, typer.Option(help="Where records go.")] = RUNS,
    previous: PreviousOption = None,
    resume: ResumeOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run the cells of configs/nightly.toml within a budget of time, the most valuable first.

    What differs from the previous nightly (runs/nightly-latest) is printed at the end.

    Example: cma-harness nightly --part layouts --budget 60
    """
    if resume is not None:
        wanted = plan.read(resume)
    else:
        wanted = parts_of.wanted(load_nightly(file), part or (), budget)
    before = _earlier(previous, runs / NIGHTLY)
    way = Way(at_once, runs, resume=resume, dry_run=dry_run, as_json=as_json)
    found = _run(wanted, before, way)
    if found is None:
        return
    directory, after = found
    if before is not None:
        summary = changes.render(compare(before, after, wanted.parts), before.id, after.id)
        record.write_whole(directory / SUMMARY, summary)
        print(summary, end="")
    if not wanted.parts:
        record.point(runs / NIGHTLY, os.path.relpath(directory, runs))
    raise typer.Exit(_exit_code(found))


def _earlier(chosen: Path | None, default: Path) -> RunRecord | None:
    """Return the record that knows of an earlier run; the default one need not be there."""
    if chosen is not None:
        return record.read(chosen)
    if not (default / RUN_FILE).exists():
        return None
    try:
        return record.read(default)
    except ConfigError as error:
        print(f"not taken into account: {error}", file=sys.stderr)
        return None


def _run(wanted: PlanRecord, earlier: RunRecord | None, way: Way) -> tuple[Path, RunRecord] | None:
    """Show the plan, or run it; then return where the record is, and the record."""
    found = outlook(wanted, earlier, host.limits(way.at_once))
    if way.dry_run:
        _show_plan(found, way.as_json)
        return None
    cache, progress = ground()
    kept = recorder(way.runs, way.directory, way.resume)
    matrix = begin(found, cache, progress.console, kept)
    try:
        matrix.run()
    except KeyboardInterrupt:
        print(f"go on with: cma-harness test --resume {kept.directory}")
        raise
    finally:
        _draw(kept.directory, kept.record, way.junit)
    return kept.directory, kept.record


def _draw(directory: Path, stored: RunRecord, also: Path | None) -> None:
    """Draw the record, which may be that of a run that was interrupted."""
    junit.write(stored, directory / JUNIT_FILE)
    if also is not None:
        also.parent.mkdir(parents=True, exist_ok=True)
        junit.write(stored, also)
    html.write(stored, directory / HTML_FILE)
    screen = Console(highlight=False)
    terminal.show(stored, screen)
    terminal.show_grid(stored, screen)
    print(f"record: {directory}")


def _exit_code(found: tuple[Path, RunRecord]) -> int:
    """Return what the verdicts say; a matrix none of whose cells can exist is asked wrongly."""
    _, stored = found
    if all(cell.seconds is None for cell in stored.cells):
        verdicts = {case.verdict for case in stored.cases()}
        return exit_code(verdicts) or EXIT_USAGE
    return exit_code(case.verdict for case in stored.cases())


def _show_plan(found: Outlook, as_json: bool) -> None:
    facts = found.facts()
    if as_json:
        print(json.dumps({"limits": found.limits_facts(), "cells": facts}, indent=1))
        return
    table = Table(box=None)
    for heading in ("", "cell", "worth", "MiB", "expected", "starts"):
        left = heading == "cell"
        table.add_column(heading, justify="left" if left else "right", overflow="fold")
    for number, fact in enumerate(facts, 1):
        table.add_row(
            *(str(number), escape(fact["name"]), str(fact["worth"]), str(fact["memory_mib"])),
            *(_seconds(fact["seconds"]), _starts(fact)),
        )
    screen = Console(highlight=False)
    screen.print(table)
    limits = found.limits
    screen.print(f"at a time: {limits.cells} cells, {limits.memory} MiB", highlight=False)


def _seconds(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f} s"


def _starts(fact: dict[str, object]) -> str:
    if fact["left_out"]:
        return f"left out: {escape(str(fact['left_out']))}"
    return "?" if fact["starts"] is None else f"after {fact['starts']:.0f} s"
