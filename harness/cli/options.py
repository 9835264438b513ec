"""The options that several commands have, and what each of them begins with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cache import Cache
from harness.progress import Progress

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the plan; run nothing.")]
ResumeOption = Annotated[
    Path | None, typer.Option(help="Go on with the run of several cells in this directory.")
]
PreviousOption = Annotated[
    Path | None, typer.Option(help="An earlier run, which knows how long cells take.")
]
ModuleOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH[:NAME=VALUE ...]",
        help="A module of your own: a .c file, a Kbuild directory or a .ko.",
    ),
]
ForceOption = Annotated[bool, typer.Option(help="Boot a layout that cannot be, all the same.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]

RUNS = Path("runs")


def ground() -> tuple[Cache, Progress]:
    """Return the cache, and what tells of the work."""
    progress = Progress()
    return Cache(on_wait=progress.say), progress


def print_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Print them as a table, or as JSON."""
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        print(f"{name:<16}{value}")
