"""The command that measures."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from harness import cell
from harness.bench.measures import Bench
from harness.cli.app import app
from harness.cli.choice import Choice, for_cell
from harness.cli.options import RUNS, ground
from harness.config import CONFIGS
from harness.process import run
from harness.report import bench as report
from harness.results import bench as results
from harness.results import record
from harness.results.bench import BenchRecord
from harness.verdict import EXIT_FAILED, EXIT_PASSED

_FRAGMENT = CONFIGS / "kconfig" / "bench.config"


@app.command()
@for_cell(append=None)
def bench(
    choice: Choice,
    repeat: Annotated[int, typer.Option(min=1, help="Measure short things so often.")] = 7,
    builds: Annotated[
        bool, typer.Option("--builds", help="Build kernels too, beside plain make; takes long.")
    ] = False,
) -> None:
    """Measure how fast the harness is beside kunit.py and raw QEMU; the machine should be idle.

    The exit code is 1 when a goal is missed.

    Example: cma-harness bench --repeat 20
    """
    chosen = replace(choice, config=[*choice.fragments, str(_FRAGMENT)])
    cache, progress = ground()
    prepared = cell.prepare(chosen.cell(), cache, progress)
    directory = record.new_directory(RUNS).absolute()  # what it runs works elsewhere
    words = tuple(word for word in chosen.options() if not word.startswith("--append"))
    work = Bench(prepared, words, cache, progress, directory, repeat, builds)
    kept = BenchRecord(
        kernel_version=prepared.kernel.version,
        kernel_key=prepared.kernel.key,
        qemu_version=run([prepared.launch().program, "--version"]).output.splitlines()[0],
        processors=os.cpu_count() or 1,
    )
    for row in work.rows():
        kept = kept.model_copy(update={"rows": (*kept.rows, row)})
        results.write(kept, directory)
    report.show(kept, Console(highlight=False))
    print(f"record: {directory / results.FILE}")
    raise typer.Exit(EXIT_PASSED if all(row.good for row in kept.rows) else EXIT_FAILED)
