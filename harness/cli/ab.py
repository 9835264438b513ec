"""The command that compares two kernels."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from harness.cli.app import app
from harness.cli.choice import Choice, for_cell, suites
from harness.cli.options import RUNS, ground
from harness.errors import UsageError
from harness.matrix.sides import take_turns
from harness.report import ab as report
from harness.results import record
from harness.results.ab import Difference, difference
from harness.verdict import EXIT_FAILED, EXIT_PASSED

_NOT_LONG = ("-m", "not long")  # what takes long is a claim on the lane; the last -m counts


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@for_cell(kernel=None, patch=None, config=None, lane="exact")
def ab(
    context: typer.Context,
    choice: Choice,
    base: Annotated[str, typer.Option(help="The kernel to compare with.")] = "6.12",
    other: Annotated[str | None, typer.Option("--with", help="The other kernel.")] = None,
    patch: Annotated[list[str] | None, typer.Option(help="The base with FILE applied.")] = None,
    config: Annotated[list[str] | None, typer.Option(help="The base with FILE's options.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Run each so often, in turns.")] = 1,
    fail_on: Annotated[
        str | None, typer.Option(metavar="regression:N%", help="End with 1 if a cost grows so.")
    ] = None,
) -> None:
    """Run the same cases on two kernels, and say what differs of their verdicts and figures.

    In the lane exact (the default) figures are instructions, and a kernel differs from itself in
    nothing. In the lane smp they are samples, of which fewer than five say nothing: --repeat.

    The exit code is 1 when a case is red on the other kernel alone, or as --fail-on says.

    Example: cma-harness ab --base 6.12 --patch fix.patch --fail-on regression:1%
    """
    limit = _percent(fail_on)
    given = (other, patch, config)
    if sum(each is not None and each != [] for each in given) != 1:
        raise UsageError("one thing is to differ", next_step="give --with, --patch or --config")
    if replace(choice, kernel=f"{base}{other or ''}").several:
        raise UsageError("ab is for one cell on two kernels", next_step="give no lists")
    first = replace(choice, kernel=base)
    second = replace(first, kernel=other or base, patch=patch, config=config)
    directory = record.new_directory(RUNS)
    runs = take_turns(
        {"base": first.options(), "other": second.options()},
        [*_NOT_LONG, *context.args, *suites(context.args, choice.lane)],
        directory,
        repeat,
        ground()[1],
    )
    found = difference(runs["base"], runs["other"])
    report.show(found, Console(highlight=False))
    print(f"records: {directory}")
    raise typer.Exit(EXIT_FAILED if _failed(found, limit) else EXIT_PASSED)


def _failed(found: Difference, limit: float | None) -> bool:
    worse = any(change.worse for change in found.verdicts)
    return worse or (limit is not None and any(each.worse_by(limit) for each in found.figures))


def _percent(text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"regression:(\d+(?:\.\d+)?)%", text)
    if match is None:
        raise UsageError(f"--fail-on {text}: not understood", next_step="such as regression:1%")
    return float(match[1])
