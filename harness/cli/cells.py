"""Commands that make a cell, or boot it."""

from __future__ import annotations

import sys
from typing import Annotated

import pytest
import typer

from harness import cell
from harness.cli.app import app
from harness.cli.choice import Choice, for_cell
from harness.cli.matrix import Way, run_matrix
from harness.cli.options import (
    RUNS,
    DryRunOption,
    ForceOption,
    JsonOption,
    ModuleOption,
    PreviousOption,
    ResumeOption,
    ground,
    print_facts,
)
from harness.current import How
from harness.errors import UsageError
from harness.guest.terminal import require
from harness.kernel import source
from harness.live import LiveCell
from harness.process import find, interactive
from harness.results import record
from harness.text import printable
from harness.verdict import EXIT_USAGE

_TRANSCRIPT = "transcript.log"
_WELCOME = "modules are in /lib/cma: insmod /lib/cma/cma_test.ko; Ctrl-] leaves"
_COMMAND_SECONDS = 3600.0
# What pytest itself ends with, when no case decided.
_EXITS: dict[int, int] = {
    pytest.ExitCode.USAGE_ERROR: EXIT_USAGE,
    pytest.ExitCode.NO_TESTS_COLLECTED: EXIT_USAGE,
}


@app.command()
@for_cell(append=None)
def build(
    choice: Choice,
    refresh: Annotated[bool, typer.Option(help="Ask the mirrors for newer versions.")] = False,
    kernel_only: Annotated[bool, typer.Option(help="Leave the layout's tree out.")] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a cell's kernel, modules, image and device tree.

    Example: cma-harness build --kernel ~/linux --config lockdep.config --layout two-areas
    """
    chosen = choice.cell()
    if kernel_only:
        on = ground()
        built, _, _ = cell.prepare_kernel(chosen, source.obtain(chosen.kernel, *on), *on)
        print_facts({"kernel_version": built.version, "kernel_key": built.key}, as_json)
        return
    prepared = cell.prepare(chosen, *ground(), refresh=refresh, force=force)
    facts = {
        "cell": chosen.name,
        "kernel_version": prepared.kernel.version,
        "kernel_key": prepared.kernel.key,
        "zimage": str(prepared.kernel.zimage),
        "vmlinux": str(prepared.kernel.vmlinux),
        "config": str(prepared.kernel.dotconfig),
        "modules": {name: str(path) for name, path in prepared.modules.items()},
        "device_tree": str(prepared.tree.blob),
        "initramfs": str(prepared.image.archive),
    }
    print_facts(facts, as_json)


@app.command(
    "test",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
@for_cell()
def run_tests(
    context: typer.Context,
    choice: Choice,
    force: ForceOption = False,
    module: ModuleOption = None,
    previous: PreviousOption = None,
    resume: ResumeOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run suites on a guest. This is pytest: -k, -x, -n, --lf, --junitxml and paths work.

    With lists (--kernel A,B --layout X,Y) every combination is a cell of one run, -n of them at a
    time; --dry-run prints them, and --resume goes on with a run that was stopped.

    Example: cma-harness test --layout default,two-areas -n auto -k private -x
    """
    words = [*(["--force"] if force else []), *(f"--module={each}" for each in module or ())]
    if choice.several or resume or dry_run:
        way = Way(resume=resume, dry_run=dry_run, as_json=as_json)
        raise typer.Exit(run_matrix(choice, [*words, *context.args], previous, way))
    if as_json:
        raise UsageError("--json is for --dry-run", next_step="the run's facts are in run.json")
    chosen = [*choice.options(), *words]
    # testpaths are for who types `pytest`; its conftests would be imported when no path is given.
    ours = ("-p", "harness.pytest_plugin", "-o", "testpaths=")
    code = int(pytest.main([*ours, *chosen, *context.args]))
    raise typer.Exit(_EXITS.get(code, code))


@app.command()
@for_cell()
def console(choice: Choice, force: ForceOption = False) -> None:
    """Boot a guest and give you its serial console; Ctrl-] leaves.

    Example: cma-harness console --layout two-areas
    """
    require()
    with _live(choice, force) as live:
        guest = live.guest()
        print(_WELCOME)
        guest.console.interact(live.directory / _TRANSCRIPT)
        print(f"transcript: {live.directory / _TRANSCRIPT}")


@app.command(context_settings={"allow_interspersed_args": False})
@for_cell()
def ssh(
    choice: Choice,
    command: Annotated[list[str] | None, typer.Argument(help="Run this, else a shell.")] = None,
    force: ForceOption = False,
) -> None:
    """Boot a guest, run a command (or a shell) on it over ssh, and power it off.

    The exit status is the command's.

    Example: cma-harness ssh cat /proc/meminfo
    """
    if not command:
        require()
    with _live(choice, force) as live:
        guest = live.guest()
        if command:
            done = guest.run(" ".join(command), timeout=_COMMAND_SECONDS)
            sys.stdout.write(printable(done.output) if sys.stdout.isatty() else done.output)
            raise typer.Exit(done.status)
        if guest.ssh is None:
            raise UsageError(
                f"the board {choice.board!r} has no network", next_step="cma-harness console"
            )
        print(_WELCOME)
        guest.ssh.interact(live.directory / _TRANSCRIPT)


@app.command()
@for_cell()
def gdb(choice: Choice, force: ForceOption = False) -> None:
    """Boot a guest and attach gdb to it, with the kernel's symbols; quitting gdb ends it.

    Example: cma-harness gdb --layout two-areas
    """
    find("gdb-multiarch")
    with _live(choice, force, gdb=True) as live:
        machine = live.guest().machine
        vmlinux = live.prepared.kernel.vmlinux
        print(f"console: {live.directory}/console.log")
        interactive(["gdb-multiarch", "-q", vmlinux, "-ex", f"target remote {machine.gdb}"])


def _live(choice: Choice, force: bool, *, gdb: bool = False) -> LiveCell:
    """Prepare a cell for a person: a directory of its own, for console.log and boot.sh."""
    prepared = cell.prepare(choice.cell(), *ground(), append=choice.append, force=force)
    directory = record.new_directory(RUNS)
    return LiveCell(prepared, directory, How(append=choice.append, gdb=gdb, force=force))
