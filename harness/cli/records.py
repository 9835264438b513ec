"""Commands that read what a run left, or a log."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from harness import ktap
from harness.cache import Cache
from harness.cli.app import app
from harness.cli.options import RUNS, JsonOption
from harness.config import load_coverage
from harness.coverage.survey import survey
from harness.errors import UsageError
from harness.kernel.toolchain import toolchain
from harness.report import coverage as coverage_report
from harness.report import html, junit, terminal
from harness.report import study as study_report
from harness.results import from_ktap, record, study
from harness.results.coverage import COVERAGE_FILE
from harness.results.record import CellRecord, RunRecord
from harness.verdict import EXIT_FAILED, EXIT_PASSED, exit_code


@app.command()
def parse(
    file: Annotated[str, typer.Argument(help="A saved log, or - for standard input.")],
    as_json: JsonOption = False,
    junit_file: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML.")] = None,
) -> None:
    """Read KTAP or TAP out of any console log; the exit code is the verdict.

    Example: dmesg | cma-harness parse -
    """
    report = ktap.parse(_chunks(file))
    cases = tuple(from_ktap.record(case, Path(file)) for case in report.leaves())
    if junit_file:
        junit.write(_log_record(file, cases), junit_file)
    if as_json:
        facts: dict[str, Any] = {
            "verdict": report.verdict,
            "counts": {verdict: count for verdict, count in report.counts.items() if count},
            "message": report.message,
            "problems": report.problems,
            "cases": [case.model_dump(mode="json") for case in cases],
        }
        print(json.dumps(facts, indent=1))
    else:
        screen = Console(highlight=False)
        terminal.show_cases(cases, screen)
        for problem in filter(None, (report.message, *report.problems)):
            screen.print(f"problem: {problem}", markup=False)
        screen.print(f"{report.verdict}: {terminal.counts(cases)}")
    raise typer.Exit(exit_code([report.verdict]))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's directory.")] = RUNS / "latest",
    as_json: JsonOption = False,
) -> None:
    """Draw a stored run again: the terminal's table, junit.xml and report.html.

    Of studies: their pages.

    Example: cma-harness report runs/latest
    """
    if (run / study.FILE).exists():
        _report_studies(run, as_json=as_json)
    stored = record.read(run)
    if as_json:
        print(stored.model_dump_json(indent=1))
    else:
        directory = run if run.is_dir() else run.parent
        junit.write(stored, directory / "junit.xml")
        html.write(stored, directory / "report.html")
        screen = Console(highlight=False)
        terminal.show(stored, screen, every_case=True)
        if len(stored.cells) > 1:
            terminal.show_grid(stored, screen)
    raise typer.Exit(exit_code(case.verdict for case in stored.cases()))


def _report_studies(run: Path, *, as_json: bool) -> NoReturn:
    studies = study.read(run)
    if as_json:
        print(studies.model_dump_json(indent=1))
    else:
        study_report.write(studies, run)
        study_report.show(studies, Console(highlight=False))
    raise typer.Exit(study.exit_code(studies))


@app.command()
def coverage(
    run: Annotated[Path, typer.Argument(help="The directory of a run on coverage kernels.")] = RUNS
    / "latest",
    as_json: JsonOption = False,
) -> None:
    """Tell which lines of the allocator a run executed; coverage.json and .html are left in it.

    The exit code is 1 when a goal of configs/coverage.toml is missed, or when a line that was not
    executed has no reason there.

    Example: cma-harness coverage runs/latest
    """
    stored = record.read(run)
    if len(stored.cells) != 1:
        raise UsageError(
            f"this run has {len(stored.cells)} cells",
            where=str(run),
            next_step="give the folder of one of them, which is a run of its own",
        )
    (cell_record,) = stored.cells
    kdir = Cache().root / "kernel" / cell_record.kernel_key / "kdir"
    found = survey(
        load_coverage(), cell_record, run / cell_record.name, kdir, f"{toolchain().prefix}gcov"
    )
    record.write_whole(run / COVERAGE_FILE, found.model_dump_json(indent=1) + "\n")
    coverage_report.write(found, run / "coverage.html")
    if as_json:
        print(found.model_dump_json(indent=1))
    else:
        coverage_report.show(found, Console(highlight=False))
        print(f"every line: {run / 'coverage.html'}")
    raise typer.Exit(EXIT_PASSED if found.good else EXIT_FAILED)


def _chunks(file: str) -> Any:
    try:
        source = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115
    except OSError as error:
        raise UsageError(error.strerror or str(error), where=file) from error
    read: Callable[[], bytes] = lambda: source.read(1 << 20)  # noqa: E731
    return iter(read, b"")


def _log_record(file: str, cases: tuple[record.CaseRecord, ...]) -> RunRecord:
    now, name = record.now(), Path(file).name
    return RunRecord(id=name, started=now, ended=now, cells=(CellRecord(name=name, cases=cases),))
