"""The command that reproduces what the literature says of CMA."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from harness.cli.app import app
from harness.cli.choice import Choice, for_cell
from harness.cli.options import RUNS, JsonOption, ground
from harness.config import require_known
from harness.errors import UsageError
from harness.report import study as report
from harness.results import record
from harness.results import study as results
from harness.studies import STUDIES
from harness.studies.run import Order, Runner


@app.command()
@for_cell(variant=None, layout=None, lane=None, append=None)
def study(
    choice: Choice,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None,
    every: Annotated[bool, typer.Option("--all", help="Run all of them.")] = False,
    without: Annotated[
        bool, typer.Option(help="Take its mechanism out of the kernel: then it must not hold.")
    ] = False,
    listing: Annotated[bool, typer.Option("--list", help="List them and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Reproduce a claim of the literature on a live guest: what was said, what is so today.

    --kernel may be a list; a page in HTML is left for each study, and one with the whole table.

    Example: cma-harness study pins --kernel 6.1,6.12
    """
    if listing:
        for each in STUDIES.values():
            print(f"{each.name:<16}{each.title}")
        return
    wanted = list(STUDIES) if every else names or []
    require_known("study", wanted, STUDIES)
    if not wanted:
        raise UsageError("no study is named", next_step=f"give --all, or: {', '.join(STUDIES)}")
    orders = [
        Order(STUDIES[name], kernel, choice.board, without, choice.patches, choice.fragments)
        for name in wanted
        for kernel in choice.kernel.split(",")
    ]
    directory = record.new_directory(RUNS)
    found = Runner(directory, *ground()).run(orders, tuple(sys.argv))
    if as_json:
        print(found.model_dump_json(indent=1))
    else:
        report.show(found, Console(highlight=False))
        print(f"pages: {report.write(found, directory)}")
    raise typer.Exit(results.exit_code(found))
