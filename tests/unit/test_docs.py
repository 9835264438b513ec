"""README.md and CONTRIBUTING.md are true: what they tell the reader to type, make or open works.

A file that a reader is to make is introduced by its name in backquotes, a colon and a fenced
block. `sh` blocks hold commands, `text` blocks what was seen.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.testing import CliRunner

from harness import cli, config
from harness.board import tree
from harness.cli.app import app
from harness.cma import areas
from harness.cma.helper import Helper
from harness.faults import FaultKind
from harness.guest.guest import BOOT_SCRIPT, Guest
from harness.guest.machine import CONSOLE_LOG
from harness.pytest_plugin import fixtures
from harness.pytest_plugin.run import SUITES
from harness.results.record import RUN_FILE
from harness.session import HTML_FILE, JUNIT_FILE
from harness.verdict import EXIT_FAILED, EXIT_HOST, EXIT_PASSED, EXIT_USAGE, Verdict

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
cli.load([])
APP = typer.main.get_command(app)
CELL = {"KERNEL": "kernel", "BOARD": "board", "LAYOUT": "layout"}  # make's word: the option


@dataclass(frozen=True)
class Block:
    """A fenced block; `file` is what the reader is to call it."""

    language: str
    text: str
    file: str


_BLOCK = re.compile(r"(?:^`([^`\n]+)`:\n\n)?^```(\w+)\n(.*?)^```$", re.M | re.S)
BLOCKS = tuple(Block(m[2], m[3], m[1] or "") for m in _BLOCK.finditer(README))
MADE = frozenset(block.file for block in BLOCKS if block.file)


def file_block(folder: str, suffix: str) -> Block:
    """Return the one block that is a file below `folder`."""
    (found,) = (b for b in BLOCKS if b.file.startswith(folder) and b.file.endswith(suffix))
    return found


def simple_commands(text: str) -> Iterator[tuple[str, ...]]:
    """Split a script into its commands, at line ends, pipes, && and ;."""
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if set(word) <= set("|&;"):
                yield tuple(words)
                words = []
            else:
                words.append(word)
        if words:
            yield tuple(words)


def commands_of(program: str) -> list[tuple[str, ...]]:
    scripts = [block.text for block in BLOCKS if block.language == "sh"]
    scripts += re.findall(rf"`({program} [^`]+)`", README)
    return [words for text in scripts for words in simple_commands(text) if words[0] == program]


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command that does something."""
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            yield from leaves(child, (*path, name))
    else:
        yield path


def find(words: tuple[str, ...]) -> tuple[Any, list[str]]:
    """Return the command that the words call, and its arguments."""
    command: Any = APP
    rest = list(words)
    while isinstance(command, TyperGroup):
        assert rest, f"{words} names no command"
        name = rest.pop(0)
        assert name in command.commands, f"there is no command {name!r}"
        command = command.commands[name]
    return command, rest


@pytest.fixture(scope="module")
def pytest_options() -> frozenset[str]:
    """The options that pytest has with the plugin, as its --help says."""
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "harness.pytest_plugin", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return frozenset(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", said))


@pytest.fixture
def check(pytest_options: frozenset[str]) -> Callable[[tuple[str, ...]], None]:
    """Fail for a command line that cma-harness would refuse; nothing is run."""

    def check(words: tuple[str, ...]) -> None:
        command, arguments = find(words)
        try:
            context = command.make_context(words[0], arguments)
        except TyperException as error:
            pytest.fail(f"{shlex.join(words)}: {error}")
        for word in context.args:  # `test` hands these to pytest
            if word.startswith("-"):
                assert word.partition("=")[0] in pytest_options, f"{words}: pytest has no {word}"
        for option in CELL.values() & context.params.keys():
            for value in context.params[option].split(","):
                assert known(option, value), f"{words}: there is no such {option}"

    return check


def known(option: str, value: str) -> bool:
    """Tell whether a kernel, board or layout exists, or is one that the reader makes or has."""
    if option == "kernel":
        made = any(f'[kernel."{value}"]' in block.text for block in BLOCKS)
        listed = tomllib.loads((config.CONFIGS / "kernels.toml").read_text())["kernel"]
        return made or value in listed or value.startswith(("~", str(Path.home())))
    return value in config.names(f"{option}s") or f"configs/{option}s/{value}.toml" in MADE


@pytest.mark.parametrize("words", commands_of("cma-harness"), ids=shlex.join)
def test_each_command_parses(words: tuple[str, ...], check: Callable[..., None]) -> None:
    check(words[1:])


@pytest.mark.parametrize("path", list(leaves(APP)), ids=" ".join)
def test_each_command_has_help_with_an_example_that_parses(
    path: tuple[str, ...], check: Callable[..., None]
) -> None:
    assert CliRunner().invoke(app, [*path, "--help"]).exit_code == 0
    examples = re.findall(r"Example: (.*)$", find(path)[0].help or "", re.M)
    assert examples, f"'cma-harness {' '.join(path)} --help' has no Example:"
    (words,) = (w for w in simple_commands(examples[0]) if w[0] == "cma-harness")
    assert words[1 : len(path) + 1] == path
    check(words[1:])


@pytest.mark.parametrize("words", commands_of("make"), ids=shlex.join)
def test_each_make_line_works(words: tuple[str, ...], check: Callable[..., None]) -> None:
    for word in words[1:]:
        name, equals, _ = word.partition("=")
        assert not equals or f"$({name})" in MAKEFILE, f"the Makefile has no variable {name}"
    if words[1] == "mrproper":  # of the kernel's own Makefile
        return
    said = dry_run(words)
    for line in simple_commands(said):
        if line[0] == ".venv/bin/cma-harness":
            check(line[1:])


def dry_run(words: tuple[str, ...]) -> str:
    """Return what make would run."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    clean |= {"LC_ALL": "C", "MFLAGS": ""}
    done = subprocess.run(
        [words[0], "-n", *words[1:]], cwd=ROOT, env=clean, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # A target that is only in .PHONY: no error, no recipe.
    assert "Nothing to be done" not in done.stdout, words
    return done.stdout


def test_the_makefile_has_contributings_targets() -> None:
    targets = re.findall(r"^    make ([a-z-]+) ", CONTRIBUTING, re.M)
    assert targets
    for target in targets:
        dry_run(("make", target))


_TOLD = re.sub(r"^```(?!sh\n)\w+\n.*?^```$", "", README, flags=re.M | re.S)
_RULES = re.sub(r"^    .*$", "", CONTRIBUTING, flags=re.M)
# Relative, with a slash or a suffix of ours; not those of a run, of .venv and of the kernel.
_PATH = re.compile(
    r"(?<![\w./~$*:=-])(?!runs/|CELL/|\.venv/|mm/|scripts/)"
    r"(?:\.?[\w-]+(?:/[\w.-]+)+/?|[\w-]+/(?![\w*.])|[A-Za-z-]+\.(?:toml|lock|md)\b)"
)


@pytest.mark.parametrize("text", [_TOLD, _RULES], ids=["README", "CONTRIBUTING"])
def test_each_path_exists(text: str) -> None:
    named = {path.rstrip("./") for path in _PATH.findall(text)}
    assert len(named) > 10
    made = {str(parent) for file in MADE for parent in (Path(file), *Path(file).parents)}
    made.add("kmod/FOLDER/Kbuild")
    assert [path for path in sorted(named - made) if not (ROOT / path).exists()] == []


def test_readme_names_no_path_of_a_machine() -> None:
    """Only the guest's paths begin at the root."""
    absolute = set(re.findall(r"(?<![\w.~`/-])(/[a-z]\w*)(?=/)", README))
    assert absolute <= {"/dev", "/lib", "/proc"}


def test_the_record_has_the_files_that_readme_names() -> None:
    rows = re.findall(r"^\| (?:CELL/)?([\w.]+\.\w+) \|", README, re.M)
    assert rows == [RUN_FILE, JUNIT_FILE, HTML_FILE, CONSOLE_LOG, BOOT_SCRIPT]


def test_the_layout_loads_and_fits(tmp_path: Path) -> None:
    block = file_block("configs/layouts/", ".toml")
    file = tmp_path / Path(block.file).name
    file.write_text(block.text)
    layout = config.load_layout(str(file))
    assert all(area.size % (4 * config.MIB) == 0 for area in layout.area)
    assert "memory-region" in tree.render(layout, 2, 2)


def test_readme_has_every_key_of_an_area_and_every_supplied_layout() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ", README.partition("### A layout")[2], re.M)
    assert rows == list(config.Area.model_fields)
    (told,) = re.findall(r"^`\[\[carveout\]\]` \((.*?)\)", README, re.M)
    assert re.findall(r"`(\w+)`", told) == list(config.Carveout.model_fields)
    (supplied,) = re.findall(r"Supplied are (.*?)\.\n", README, re.S)
    assert sorted(re.findall(r"`([\w-]+)`", supplied)) == list(config.names("layouts"))
    for model in (config.Area, config.Carveout, config.Layout):
        assert all(f.description for name, f in model.model_fields.items() if name != "name")


def test_the_board_loads(tmp_path: Path) -> None:
    block = file_block("configs/boards/", ".toml")
    file = tmp_path / Path(block.file).name
    file.write_text(block.text)
    assert config.load_board(str(file)).memory == 256 * config.MIB


def test_the_kernel_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = (b for b in BLOCKS if b.language == "toml" and b.text.startswith("[kernel."))
    (tmp_path / "kernels.toml").write_text(block.text)
    (name,) = tomllib.loads(block.text)["kernel"]
    with monkeypatch.context() as patch:
        patch.setattr("harness.config.kernels.CONFIGS", tmp_path)
        kernel = config.load_kernel(name)
    assert kernel.package
    assert len(kernel.fragments()) == len(kernel.config)


def test_the_suites_kbuild_names_its_source() -> None:
    kbuild, source = file_block("kmod/", "Kbuild"), file_block("kmod/", ".c")
    assert re.findall(r"^obj-m := (\w+)\.o$", kbuild.text, re.M) == [Path(source.file).stem]
    assert Path(kbuild.file).parent == Path(source.file).parent
    assert "MODULE_LICENSE" in source.text


@dataclass(frozen=True)
class Answer:
    output: str
    status: int = 0


class FakeGuest:
    """Answers as a guest does whose default area is 64 MiB at 0x5c000000."""

    address = 0x5C000000 + config.MIB

    def __init__(self) -> None:
        self.seen: list[str] = []

    def run(self, command: str, timeout: float = 30) -> Answer:
        assert timeout > 0
        self.seen.append(command)
        if command == areas.SURVEY:
            return Answer(
                "./linux,cma/base_pfn:376832\n./linux,cma/count:16384\n./linux,cma/used:2112\n"
            )
        _program, _d, _device, verb, what, *_ = shlex.split(command)
        if verb == "free":
            return Answer(json.dumps({"handle": int(what), "took_ns": 1}) + "\n")
        made = {"handle": 1, "dma_address": self.address, "size": int(what), "took_ns": 1}
        return Answer(json.dumps(made) + "\n")


def python_tests() -> list[Callable[..., None]]:
    block = file_block("tests/", ".py")
    module = ModuleType("example")
    exec(compile(block.text, block.file, "exec"), module.__dict__)
    return [value for name, value in vars(module).items() if name.startswith("test_")]


def test_pytest_collects_the_python_example(tmp_path: Path) -> None:
    block = file_block("tests/", ".py")
    (tmp_path / Path(block.file).name).write_text(block.text)
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout
    assert all(f"::{test.__name__}" in said.stdout for test in python_tests())


def test_the_python_example_asks_for_fixtures_of_the_plugin() -> None:
    fixture = type(fixtures.guest)
    offered = {value.name for value in vars(fixtures).values() if isinstance(value, fixture)}
    asked = {name for test in python_tests() for name in inspect.signature(test).parameters}
    assert asked == {"guest", "helper"}
    assert asked | {"cell"} <= offered


@pytest.mark.parametrize(
    ("address", "holds"), [(FakeGuest.address, True), (0x60000000 - config.MIB, False)]
)
def test_the_python_example_runs_and_can_fail(address: int, holds: bool) -> None:
    (test,) = python_tests()
    guest = FakeGuest()
    guest.address = address
    with nullcontext() if holds else pytest.raises(AssertionError):
        test(guest=guest, helper=Helper(guest))
    assert any(" free " in command for command in guest.seen) == holds


def test_the_fixtures_have_what_readme_says() -> None:
    (names,) = re.findall(r"`guest` is the running guest: ([^.]+)\.", README)
    for name in re.findall(r"`(\w+)`", names):
        assert hasattr(Guest, name) or name in inspect.getsource(Guest.__init__), name
    (kind,) = re.findall(r'expect_fault\("([^"]+)"\)', README)
    assert kind in set(FaultKind)


def test_the_default_cell_is_what_readme_says() -> None:
    parameters = {p.name: p.default for p in find(("test",))[0].params}
    for word, option in CELL.items():
        assert f"{word} ?= {parameters[option]}\n" in MAKEFILE
    board = config.load_board(parameters["board"])
    layout = config.load_layout(parameters["layout"])
    size = sum(area.size for area in layout.area)
    assert (
        f"kernel `{config.load_kernel(parameters['kernel']).name}` on board `{board.name}` "
        f"({board.cpus} CPUs, {board.memory // config.MIB} MiB) with layout `{layout.name}` "
        f"({size // config.MIB} MiB)"
    ) in README


def test_two_areas_is_what_readme_says() -> None:
    private = [area for area in config.load_layout("two-areas").area if not area.default]
    (size,) = (area.size for area in private)
    assert f"`two-areas` has a private area of {size // config.MIB} MiB" in README


def test_the_default_paths_are_what_readme_says() -> None:
    paths = re.findall(r"^Without a path it runs (\S+)\. ", README, re.M)
    assert [ROOT / path for path in paths] == list(SUITES)


def test_each_verdict_and_exit_code_has_a_row() -> None:
    assert re.findall(r"^\| ([A-Z]+) \| (?!effect)", README, re.M)[: len(Verdict)] == list(Verdict)
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", README, re.M)]
    assert codes == [EXIT_PASSED, EXIT_FAILED, EXIT_USAGE, EXIT_HOST, 130]


def test_each_environment_variable_that_the_harness_reads_is_told() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "harness").rglob("*.py"))
    read = set(re.findall(r"environ(?:\.get\(|\[)\"([A-Z_]+)\"", sources))
    (table,) = re.findall(r"### Environment\n(.*?)\n###", README, re.S)
    told = set(re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)*\b", table)) - {"NO_COLOR"}  # rich reads it
    assert read == told


def test_contributing_lists_the_layers_in_their_order() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(c["layers"] for c in contracts["contracts"] if c["type"] == "layers")
    rank = {
        name.strip().replace(".", "/"): place
        for place, layer in enumerate(layers)
        for name in layer.split("|")
    }
    rows = re.findall(r"^\| (harness/.*?) \|", CONTRIBUTING, re.M)
    listed = [name.removesuffix(".py").rstrip("/") for row in rows for name in row.split(", ")]
    assert sorted(listed) == sorted(rank)
    assert [rank[name] for name in listed] == sorted(rank.values())


def test_contributing_locks_as_the_lock_file_was_made() -> None:
    written = (ROOT / "requirements.lock").read_text().splitlines()[1].lstrip("# ")
    told = " ".join(CONTRIBUTING.replace("\\\n", " ").split())
    assert written in told
