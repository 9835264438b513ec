"""The command line: parse arguments, call, print. Each command is thin."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import pytest
import typer
from rich.console import Console

from harness import cell, host, ktap
from harness.cache import Cache
from harness.config import PLAIN, load_coverage, load_mutants
from harness.coverage.survey import survey
from harness.errors import HarnessError, UsageError
from harness.guest.terminal import require
from harness.kernel.build import toolchain
from harness.live import LiveCell
from harness.mutants import campaign
from harness.process import find, interactive
from harness.progress import Progress
from harness.report import coverage as coverage_report
from harness.report import html, junit, terminal
from harness.report import mutants as mutants_report
from harness.results import from_ktap, record
from harness.results import mutants as mutants_record
from harness.results.coverage import COVERAGE_FILE
from harness.results.record import CellRecord, RunRecord
from harness.text import printable
from harness.verdict import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PASSED, EXIT_USAGE, exit_code

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="The test bench for Linux's Contiguous Memory Allocator on 32-bit ARM.",
)
cache_app = typer.Typer(no_args_is_help=True, help="Show or shrink the cache.")
app.add_typer(cache_app, name="cache")

KernelOption = Annotated[str, typer.Option(help="A name of kernels.toml, or a kernel tree.")]
VariantOption = Annotated[str, typer.Option(help="plain, or a variant of kernels.toml.")]
BoardOption = Annotated[str, typer.Option(help="A name of configs/boards/, or a .toml file.")]
LayoutOption = Annotated[str, typer.Option(help="A name of configs/layouts/, or a .toml file.")]
AppendOption = Annotated[str, typer.Option(help="Added to the kernel's command line.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]
RUNS = Path("runs")
_TRANSCRIPT = "transcript.log"
_WELCOME = "modules are in /lib/cma: insmod /lib/cma/cma_test.ko; Ctrl-] leaves"
_COMMAND_SECONDS = 3600.0
# What pytest itself ends with, when no case decided.
_EXITS: dict[int, int] = {
    pytest.ExitCode.USAGE_ERROR: EXIT_USAGE,
    pytest.ExitCode.NO_TESTS_COLLECTED: EXIT_USAGE,
}
_KERNEL, _BOARD, _LAYOUT, _CONTRACT = "6.12", "virt", "default", "contract"


def main() -> None:
    """Run the command line; every intended error is one message and its exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        app()
    except HarnessError as error:
        print(f"cma-harness: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("cma-harness: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _interrupt(number: int, frame: object) -> NoReturn:
    """Treat the signals by which others end us as Ctrl-C: what is finished is kept."""
    del number, frame
    raise KeyboardInterrupt


@app.command()
def doctor(as_json: JsonOption = False, install: bool = False) -> None:
    """Say which host programs are there and which are missing.

    Example: cma-harness doctor --install
    """
    lacking = host.missing()
    if install and lacking:
        host.install(lacking)
        lacking = host.missing()
    facts = [
        {"tool": tool.name, "package": tool.package, "why": tool.why, "present": tool.present()}
        for tool in host.TOOLS
    ]
    if as_json:
        print(json.dumps(facts, indent=1))
    else:
        for tool in host.TOOLS:
            state = "missing" if tool in lacking else "ok"
            print(f"{state:<8}{tool.name:<26}{tool.package:<26}{tool.why}")
    if lacking:
        packages = " ".join(sorted({tool.package for tool in lacking}))
        raise host.MissingTool(
            f"{len(lacking)} not installed",
            next_step=f"cma-harness doctor --install, or: sudo apt-get install -y {packages}",
        )


@app.command()
def build(
    kernel: KernelOption = _KERNEL,
    variant: VariantOption = PLAIN,
    board: BoardOption = _BOARD,
    layout: LayoutOption = _LAYOUT,
    refresh: Annotated[bool, typer.Option(help="Ask the mirrors for newer versions.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a cell's kernel, modules, image and device tree.

    Example: cma-harness build --kernel ~/linux --layout two-areas
    """
    chosen = cell.load(kernel, board, layout, variant)
    prepared = cell.prepare(chosen, *_ground(), refresh=refresh)
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
    _print_facts(facts, as_json)


@app.command(
    "test",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def run_tests(
    context: typer.Context,
    kernel: KernelOption = _KERNEL,
    variant: VariantOption = PLAIN,
    board: BoardOption = _BOARD,
    layout: LayoutOption = _LAYOUT,
    append: AppendOption = "",
) -> None:
    """Run suites on a guest. This is pytest: -k, -x, -n, --lf, --junitxml and paths work.

    Example: cma-harness test --layout two-areas -k private -x
    """
    chosen = [
        *(f"--kernel={kernel}", f"--variant={variant}", f"--board={board}", f"--layout={layout}"),
        f"--append={append}",
    ]
    code = int(pytest.main(["-p", "harness.pytest_plugin", *chosen, *context.args]))
    raise typer.Exit(_EXITS.get(code, code))


@app.command()
def console(
    kernel: KernelOption = _KERNEL,
    variant: VariantOption = PLAIN,
    board: BoardOption = _BOARD,
    layout: LayoutOption = _LAYOUT,
    append: AppendOption = "",
) -> None:
    """Boot a guest and give you its serial console; Ctrl-] leaves.

    Example: cma-harness console --layout two-areas
    """
    require()
    with _live(kernel, variant, board, layout, append) as live:
        guest = live.guest()
        print(_WELCOME)
        guest.console.interact(live.directory / _TRANSCRIPT)
        print(f"transcript: {live.directory / _TRANSCRIPT}")


@app.command(context_settings={"allow_interspersed_args": False})
def ssh(
    command: Annotated[list[str] | None, typer.Argument(help="Run this, else a shell.")] = None,
    kernel: KernelOption = _KERNEL,
    variant: VariantOption = PLAIN,
    board: BoardOption = _BOARD,
    layout: LayoutOption = _LAYOUT,
    append: AppendOption = "",
) -> None:
    """Boot a guest, run a command (or a shell) on it over ssh, and power it off.

    The exit status is the command's.

    Example: cma-harness ssh cat /proc/meminfo
    """
    if not command:
        require()
    with _live(kernel, variant, board, layout, append) as live:
        guest = live.guest()
        if command:
            done = guest.run(" ".join(command), timeout=_COMMAND_SECONDS)
            sys.stdout.write(printable(done.output) if sys.stdout.isatty() else done.output)
            raise typer.Exit(done.status)
        if guest.ssh is None:
            raise UsageError(f"the board {board!r} has no network", next_step="cma-harness console")
        print(_WELCOME)
        guest.ssh.interact(live.directory / _TRANSCRIPT)


@app.command()
def gdb(
    kernel: KernelOption = _KERNEL,
    variant: VariantOption = PLAIN,
    board: BoardOption = _BOARD,
    layout: LayoutOption = _LAYOUT,
    append: AppendOption = "",
) -> None:
    """Boot a guest and attach gdb to it, with the kernel's symbols; quitting gdb ends it.

    Example: cma-harness gdb --layout two-areas
    """
    find("gdb-multiarch")
    with _live(kernel, variant, board, layout, append, gdb=True) as live:
        machine = live.guest().machine
        vmlinux = live.prepared.kernel.vmlinux
        print(f"console: {live.directory}/console.log")
        interactive(["gdb-multiarch", "-q", vmlinux, "-ex", f"target remote {machine.gdb}"])


@app.command()
def mutants(
    only: Annotated[list[str] | None, typer.Option(help="Only the mutant ID.")] = None,
    file: Annotated[list[str] | None, typer.Option(help="Only those of a kernel's FILE.")] = None,
    kernel: KernelOption = _KERNEL,
    variant: VariantOption = PLAIN,
    board: BoardOption = _BOARD,
    layout: LayoutOption = _CONTRACT,
    repeat: Annotated[int, typer.Option(min=1, help="Test each so many times.")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="So many at a time.")] = 1,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="List them and end.")] = False,
) -> None:
    """Break a copy of the kernel, mutant after mutant, and say which case notices.

    Example: cma-harness mutants --file mm/cma.c --only alignment-forgotten
    """
    chosen = campaign.choose(load_mutants(), variant, only or (), file or ())
    if listing:
        for mutant in chosen:
            print(f"{mutant.id:<44}{mutant.file:<32}{mutant.promise}")
        return
    on = cell.load(kernel, board, layout, variant)
    plan = campaign.Plan(on, chosen, repetitions=repeat)
    stored = campaign.begin(plan, *_ground(), RUNS, resume, jobs=jobs).run()
    mutants_report.show(stored, Console(highlight=False))
    print(f"record: {RUNS / stored.id}")
    raise typer.Exit(mutants_record.exit_code(stored))


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

    Example: cma-harness report runs/latest
    """
    stored = record.read(run)
    if as_json:
        print(stored.model_dump_json(indent=1))
    else:
        directory = run if run.is_dir() else run.parent
        junit.write(stored, directory / "junit.xml")
        html.write(stored, directory / "report.html")
        terminal.show(stored, Console(highlight=False), every_case=True)
    raise typer.Exit(exit_code(case.verdict for case in stored.cases()))


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
        raise UsageError(f"a run has one cell, this has {len(stored.cells)}", where=str(run))
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


@cache_app.command("show")
def cache_show(as_json: JsonOption = False) -> None:
    """List what the cache holds.

    Example: cma-harness cache show --json
    """
    cache = Cache()
    facts = [{"kind": path.parent.name, "key": path.name} for path in cache.entries()]
    if as_json:
        print(json.dumps({"root": str(cache.root), "entries": facts}, indent=1))
        return
    print(cache.root)
    for fact in facts:
        print(f"  {fact['kind']:<10}{fact['key']}")


@cache_app.command("prune")
def cache_prune(
    days: Annotated[float, typer.Option(help="Remove what no run used for so long.")] = 30,
) -> None:
    """Remove old entries.

    Example: cma-harness cache prune --days 7
    """
    for path in Cache().prune(days):
        print(f"removed {path.parent.name}/{path.name}")


def _ground() -> tuple[Cache, Progress]:
    progress = Progress()
    return Cache(on_wait=progress.say), progress


def _live(
    kernel: str, variant: str, board: str, layout: str, append: str, *, gdb: bool = False
) -> LiveCell:
    """Prepare a cell for a person: a directory of its own, for console.log and boot.sh."""
    chosen = cell.load(kernel, board, layout, variant)
    prepared = cell.prepare(chosen, *_ground())
    return LiveCell(prepared, record.new_directory(RUNS), append=append, gdb=gdb)


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


def _print_facts(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        print(f"{name:<16}{value}")


if __name__ == "__main__":
    main()
