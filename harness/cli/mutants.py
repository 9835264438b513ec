"""The command about kernels broken on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness.cli.app import app
from harness.cli.choice import Choice, for_cell
from harness.cli.options import RUNS, ground
from harness.config import load_mutants
from harness.mutants import campaign, suites
from harness.report import mutants as mutants_report
from harness.results import mutants as mutants_record


@app.command()
@for_cell(layout="contract", patch=None, config=None, lane=None, append=None)
def mutants(
    choice: Choice,
    only: Annotated[list[str] | None, typer.Option(help="Only the mutant ID.")] = None,
    file: Annotated[list[str] | None, typer.Option(help="Only those of a kernel's FILE.")] = None,
    stage: Annotated[list[str] | None, typer.Option(help="Only kunit, or target.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Test each so many times.")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="So many at a time.")] = 1,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="List them and end.")] = False,
) -> None:
    """Break a copy of the kernel, mutant after mutant, and say which case notices.

    Example: cma-harness mutants --file mm/cma.c --only alignment-forgotten
    """
    chosen = campaign.choose(load_mutants(), choice.variant, only or (), file or ())
    if listing:
        for mutant in chosen:
            print(f"{mutant.id:<44}{mutant.file:<32}{mutant.promise}")
        return
    plan = campaign.Plan(choice.cell(), chosen, suites.stages(stage or ()), repeat)
    stored = campaign.begin(plan, *ground(), RUNS, resume, jobs=jobs).run()
    mutants_report.show(stored, Console(highlight=False))
    print(f"record: {RUNS / stored.id}")
    raise typer.Exit(mutants_record.exit_code(stored))
