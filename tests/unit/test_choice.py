"""The options that choose a cell: one value for each command that has them."""

import pytest
import typer
from typer.testing import CliRunner

from harness import cell
from harness.cli.choice import Choice, for_cell
from harness.errors import UsageError


def told(*words, **others):
    """Run a command that takes a choice; return it, and the rest that it was called with."""
    app, found = typer.Typer(), []

    @app.command()
    @for_cell(**others)
    def command(choice: Choice, more: int = 1) -> None:
        """Do it."""
        found.append((choice, more))

    result = CliRunner().invoke(app, list(words))
    return (result, *(found[0] if found else ()))


def test_every_field_is_an_option():
    words = ("--kernel=a", "--board=b", "--layout=c", "--variant=d", "--append=e f", "--lane=exact")
    files = ("--patch=1", "--patch=2", "--config=3")
    _, choice, more = told(*words, *files, "--more=2")
    assert choice == Choice(
        kernel="a",
        board="b",
        layout="c",
        variant="d",
        append="e f",
        lane="exact",
        patch=["1", "2"],
        config=["3"],
    )
    assert more == 2


def test_without_options_it_is_the_default_cell():
    _, choice, more = told()
    assert choice.cell().name == "6.12-virt-default"
    assert more == 1


def test_a_command_may_have_other_defaults_and_fewer_options():
    result, *_ = told("--append=x", layout="contract", append=None)
    assert result.exit_code == 2
    _, choice, _ = told(layout="contract", append=None)
    assert (choice.layout, choice.append) == ("contract", "")


def test_what_it_prints_is_what_it_reads():
    given = Choice(kernel="6.1", patch=["1", "2"], config=["3"], append="a b", lane="exact")
    _, choice, _ = told(*given.options())
    assert choice == given


def test_the_lane_is_part_of_the_cell():
    exact = Choice(lane="exact").cell()
    assert exact.name == "6.12-virt-default-exact"
    assert exact.board.cpus == 1
    assert not exact.board.has("net")
    assert Choice().cell().board.has("net")
    with pytest.raises(UsageError, match="lane"):
        cell.load("6.12", "virt", "default", lane="fast")
