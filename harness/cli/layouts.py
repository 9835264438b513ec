"""Commands about layouts: what is wrong with one, how it lies in memory, and a real board's."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from harness import cell
from harness.board import blob
from harness.cli.app import app
from harness.cli.choice import Choice, for_cell
from harness.cli.options import JsonOption, ground
from harness.config import Layout
from harness.kernel.toolchain import toolchain
from harness.layout import realboard
from harness.layout.check import Finding, check
from harness.layout.drawing import draw
from harness.layout.svg import svg
from harness.layout.transplant import transplant
from harness.layout.written import toml
from harness.report import memory
from harness.results.record import write_whole
from harness.text import printable
from harness.verdict import EXIT_PASSED, EXIT_USAGE

layout_app = typer.Typer(no_args_is_help=True, help="Check, draw and import layouts of areas.")
app.add_typer(layout_app, name="layout")
LayoutArgument = Annotated[str, typer.Argument(help="A name of configs/layouts/, or a .toml file.")]


@layout_app.command("check")
@for_cell(layout=None)
def layout_check(
    choice: Choice,
    layout: LayoutArgument = "default",
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with a layout on a board with a kernel; nothing is booted.

    The exit code is 2 when there is an error.

    Example: cma-harness layout check two-areas --board virt
    """
    chosen = replace(choice, layout=layout).cell()
    findings = check(
        cell.stand(chosen, *ground(), choice.append).ground, chosen.layout, choice.append
    )
    good = all(finding.level != "error" for finding in findings)
    if as_json:
        facts: dict[str, Any] = {
            "cell": chosen.name,
            "good": good,
            "findings": [asdict(finding) for finding in findings],
        }
        print(json.dumps(facts, indent=1))
    else:
        _show(chosen.name, findings)
    raise typer.Exit(EXIT_PASSED if good else EXIT_USAGE)


@layout_app.command("show")
@for_cell(layout=None)
def layout_show(
    choice: Choice,
    layout: LayoutArgument = "default",
    svg_file: Annotated[Path | None, typer.Option("--svg", help="Write a drawing there.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a board's memory to scale, with a layout in it as the kernel will place it.

    Example: cma-harness layout show camera --svg camera.svg
    """
    chosen = replace(choice, layout=layout).cell()
    footing = cell.stand(chosen, *ground(), choice.append)
    drawing = draw(footing.ground, chosen.layout, choice.append)
    if svg_file is not None:
        write_whole(svg_file, svg(drawing))
    if as_json:
        print(json.dumps(asdict(drawing), indent=1))
        return
    screen = Console(highlight=False)
    memory.show(drawing, screen)
    for finding in check(footing.ground, chosen.layout, choice.append):
        screen.print(printable(str(finding)), markup=False, soft_wrap=True)
    if svg_file is not None:
        screen.print(f"drawn: {svg_file}", soft_wrap=True)


@layout_app.command("import")
@for_cell(layout=None, append=None)
def layout_import(
    choice: Choice,
    file: Annotated[Path, typer.Argument(help="A real board's .dtb or .dts.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A .toml file.")] = None,
    include: Annotated[
        list[Path] | None, typer.Option("--include", "-I", help="Where a .dts finds its parts.")
    ] = None,
) -> None:
    """Make a layout of the reserved memory of a real board, for the board that is emulated.

    What is left out or otherwise is told line by line on standard error, and in the file.

    Example: cma-harness layout import imx6q-sabrelite.dtb -o sabrelite.toml
    """
    real = realboard.read(blob.read(file, include or (), f"{toolchain().prefix}cpp"))
    bare = Layout(name=(output or file).stem, description="to be imported")
    footing = cell.stand(replace(choice.cell(), layout=bare), *ground())
    imported = transplant(real, footing.ground, bare.name)
    for note in imported.notes:
        print(printable(str(note)), file=sys.stderr)
    text = toml(imported, file.name)
    if output is None:
        print(text, end="")
    else:
        write_whole(output, text)
    findings = check(footing.ground, imported.layout)
    for finding in findings:
        print(printable(str(finding)), file=sys.stderr)
    errors = any(finding.level == "error" for finding in findings)
    raise typer.Exit(EXIT_USAGE if errors else EXIT_PASSED)


def _show(name: str, findings: tuple[Finding, ...]) -> None:
    screen = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        screen.print(printable(str(finding)), markup=False)
    errors = sum(finding.level == "error" for finding in findings)
    screen.print(f"{name}: {errors} errors, {len(findings) - errors} warnings")
