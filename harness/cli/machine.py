"""Commands about this machine: its programs, and the cache."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness import host
from harness.board import machines
from harness.cache import Cache
from harness.cli.app import app
from harness.cli.options import JsonOption
from harness.config import load_board, names

cache_app = typer.Typer(no_args_is_help=True, help="Show or shrink the cache.")
app.add_typer(cache_app, name="cache")


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
    ] + _boards()
    if as_json:
        print(json.dumps(facts, indent=1))
    else:
        for fact in facts:
            state = "ok" if fact["present"] else "missing"
            print(f"{state:<8}{fact['tool']:<26}{fact['package']:<26}{fact['why']}")
    if lacking:
        packages = " ".join(sorted({tool.package for tool in lacking}))
        raise host.MissingTool(
            f"{len(lacking)} not installed",
            next_step=f"cma-harness doctor --install, or: sudo apt-get install -y {packages}",
        )


def _boards() -> list[dict[str, str | bool]]:
    """Return whether QEMU emulates the machine of each board; nothing when there is no QEMU."""
    try:
        offered = machines.offered()
    except host.MissingTool:
        return []
    return [
        {
            "tool": f"machine {board.machine}",
            "package": "qemu-system-arm",
            "why": f"the board {board.name}",
            "present": board.machine in offered,
        }
        for board in map(load_board, names("boards"))
    ]


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
