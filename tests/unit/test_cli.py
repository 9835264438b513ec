"""The commands, and where they are."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from harness import cli
from harness.cli.app import app


def said(*words: str) -> str:
    """What a process prints that runs them."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    return done.stdout


def test_each_command_has_the_home_that_the_table_says():
    cli.load([])
    group = typer.main.get_command(app)
    found = {
        command.name or command.callback.__name__: command for command in app.registered_commands
    }
    homes = {
        name.replace("_", "-"): command.callback.__module__.rpartition(".")[2]
        for name, command in found.items()
    }
    assert homes == {name: home for name, home in cli.HOMES.items() if name in homes}
    assert set(group.commands) == set(cli.HOMES)


LOADED = """
import sys
from harness import cli
cli.load(sys.argv[1:])
print(*sorted(name for name in sys.modules if name.startswith("harness.cli.")))
"""


@pytest.mark.parametrize(("command", "home"), [("test", "cells"), ("layout", "layouts")])
def test_a_command_does_without_the_others(command, home):
    loaded = said("-c", LOADED, command).split()
    assert f"harness.cli.{home}" in loaded
    assert not {"harness.cli.study", "harness.cli.bench", "harness.cli.mutants"} & set(loaded)


@pytest.mark.parametrize("command", ["study", "nightly", "cache"])
def test_the_only_command_of_its_module_has_its_name(command):
    assert f" {command} " in said("-m", "harness.cli", command, "--help").splitlines()[1]


def test_help_names_them_all():
    text = said("-m", "harness.cli", "--help")
    assert [name for name in cli.HOMES if f" {name} " not in text] == ["bisect-step"]
