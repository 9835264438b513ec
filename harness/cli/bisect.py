"""The command that finds the commit to blame."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness.bisect import hunt
from harness.bisect.hunt import Hunt
from harness.bisect.question import question
from harness.bisect.repository import Repository, cloned
from harness.bisect.trial import Trial
from harness.cli.app import app
from harness.cli.choice import Choice, for_cell, suites
from harness.cli.options import RUNS, ground
from harness.config import CONFIGS
from harness.errors import UsageError
from harness.report import bisect as report
from harness.results.bisect import Asked
from harness.verdict import EXIT_FAILED, EXIT_PASSED

_EVERYWHERE = "layout"  # is the first case of each run, whatever -k selects
_SELECTS = re.compile(r"[\w.:+=\[\]-]+")  # as a word of -k


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@for_cell(kernel=None, patch=None)
def bisect(
    context: typer.Context,
    choice: Choice,
    tree: Annotated[Path, typer.Option(help="A git tree of the kernel; it is only read.")],
    good: Annotated[str, typer.Option(help="A commit that is good.")],
    bad: Annotated[str, typer.Option(help="A later commit that is bad.")],
    case: Annotated[str | None, typer.Option(help="Bad is where this case is red.")] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="'CASE NAME>VALUE'", help="Bad is where this figure is.")
    ] = None,
    repeat: Annotated[
        int | None, typer.Option(min=1, help="Runs of each commit; 5 in the lane smp, else 1.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the bisection there.")] = None,
) -> None:
    """Find the commit that broke a case, or made a figure worse, with `git bisect run`.

    A case is named by its id, as run.json has it, or by the end of that behind "::"; a figure as
    `ab` prints it, with < or > and a number behind. In the lane smp a commit is bad when one run of
    --repeat is red, or the median is beyond the value. Both ends are tried first. A commit that
    does not build or boot, or that does not run the case, is skipped; an error of the host stops
    all. Other words are pytest's; without a path the case's own file is run.

    The exit code is 1 when the commit could not be told from ones that were skipped.

    Example: cma-harness bisect --tree ~/linux --good v6.12 --bad HEAD --case ID
    """
    if choice.several:
        raise UsageError("a bisection is for one cell", next_step="give no lists")
    asked = question(case, metric, repeat, choice.lane)
    choice.cell()  # a mistake is told before anything is made
    theirs = Repository.at(tree)
    ends = theirs.commit(good), theirs.commit(bad)
    theirs.check_order(*ends)
    (wish,) = choice.wishes(_arguments(context.args, asked.case, choice.lane))
    cache, progress = ground()
    with cloned(theirs, ends, cache, progress) as clone:
        whole = Asked(
            tree=str(theirs.tree),
            good=ends[0],
            bad=ends[1],
            question=asked,
            cell=wish.model_copy(update={"kernel": str(clone.path)}),
            cwd=str(Path.cwd()),
        )
        directory = hunt.begin(whole, RUNS, resume)
        try:
            found = Hunt(directory, clone, Trial(cache), progress).run()
        except KeyboardInterrupt:
            progress.say(f"bisect   what is done is kept: go on with --resume {directory}")
            raise
    report.show(found, Console(highlight=False))
    print(f"records: {directory}")
    raise typer.Exit(EXIT_PASSED if len(found.found) == 1 else EXIT_FAILED)


@app.command(hunt.STEP, hidden=True)
def bisect_step(directory: Path) -> None:
    """Judge the commit that `git bisect run` asks for; `bisect` has git start this.

    Example: cma-harness bisect-step runs/20260102T030405Z-c0ffee
    """
    cache, progress = ground()
    raise typer.Exit(hunt.step(directory, Trial(cache), progress))


def _arguments(words: list[str], case: str, lane: str) -> list[str]:
    """Return what pytest is told: the words, and when they have no path what has the case."""
    own = suites(words, lane)
    if not own:
        return words
    file, _, name = case.partition("::")
    for folder in (Path(), CONFIGS.parent):
        if name and (folder / file).exists():
            return [*words, f"{folder / file}::{name}"]
    end = case.rpartition("::")[2]
    given = any(word.startswith("-k") for word in words) or case == _EVERYWHERE
    return [*words, *(() if given or not _SELECTS.fullmatch(end) else ("-k", end)), *own]
