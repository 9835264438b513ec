"""The run: its options, what it prepares before pytest collects, and who records it."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import cell
from harness.boots import Boots
from harness.cache import Cache
from harness.config import PLAIN
from harness.copies import Copies
from harness.coverage import counters as coverage
from harness.current import How
from harness.kernel.external import Request, Wanted
from harness.kernel.modules import KMOD
from harness.live import LiveCell
from harness.progress import Progress
from harness.pytest_plugin.stash import SESSION
from harness.recording import Recording
from harness.results.record import Recorder
from harness.session import Session

SUITES = (KMOD / "cma_kunit",)  # when no path is given


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose the cell."""
    group = parser.getgroup("cma-harness", "the cell that the tests run on")
    group.addoption("--kernel", default="6.12", help="a name of kernels.toml, a tree or a tarball")
    group.addoption("--patch", action="append", default=[], help="a patch, mailbox or series.toml")
    group.addoption("--config", action="append", default=[], help="a fragment for the kernel")
    group.addoption("--variant", default=PLAIN, help="plain, or a variant of kernels.toml")
    group.addoption("--board", default="virt", help="a name of configs/boards/, or a .toml file")
    group.addoption("--layout", default="default", help="a name of configs/layouts/, or a file")
    group.addoption("--lane", default="smp", help="smp, or exact: a clock that counts")
    group.addoption(
        "--module",
        action="append",
        default=[],
        metavar="PATH[:NAME=VALUE ...]",
        help="a module of your own: a .c file, a directory with a Kbuild file or Makefile, or a "
        ".ko; with its parameters behind a colon; can be given several times",
    )
    group.addoption(
        "--module-compat",
        action="store_true",
        help="build it with configs/old_api/, for modules that older kernels took",
    )
    group.addoption("--append", default="", help="added to the kernel's command line")
    group.addoption(
        "--isolate",
        action="store_true",
        help="each case starts from a fresh copy of the guest, also where its suite shares one",
    )
    group.addoption(
        "--boot", action="store_true", help="boot each guest, which cases share; restore none"
    )
    group.addoption("--force", action="store_true", help="boot a layout that cannot be")
    group.addoption("--case-timeout", type=float, default=60, help="seconds for each KUnit case")
    group.addoption("--seed", type=int, help="of random operations; by default another each time")
    group.addoption("--runs", type=Path, default=Path("runs"), help="where records go")
    group.addoption("--run-dir", type=Path, help="write the record here, not to runs/<UTC>-<id>")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Prepare the cell; a `HarnessError` goes up to the command line as it is."""
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is not None:
        config.args = worker["cma_paths"]
    if config.option.help or config.option.version or worker is not None:
        return
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [] if config.option.module else [str(path) for path in SUITES]
    if getattr(config.option, "dist", "no") == "load" and not config.option.isolate:
        config.option.dist = "loadfile"  # one guest has all cases of a module
    if config.option.seed is None:  # workers of pytest-xdist have it with the other options
        config.option.seed = secrets.randbits(32)
    config.stash[SESSION] = _prepare(config)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Tell the seed, with which random operations come again, and why all cases share a guest."""
    if SESSION not in config.stash:
        return None
    why = _why_shared(config, config.stash[SESSION].prepared)
    shared = [f"guest: shared by all cases, for {why}"] if why else []
    return "\n".join([f"seed: {config.option.seed}", *shared])


def _why_shared(config: pytest.Config, prepared: cell.Prepared) -> str:
    """Return why cases have no guests of their own; empty when they can have them."""
    board = prepared.cell.board
    if not board.has("restore"):
        return f"QEMU cannot restore the board {board.name}"
    if prepared.kernel.option(coverage.OPTION) == "y":
        return "each guest has its own counters of coverage"
    return "--boot asks for it" if config.option.boot else ""


def pytest_sessionstart(session: pytest.Session) -> None:
    """Find in a worker what the controller prepared, and begin to record in the controller."""
    config = session.config
    if hasattr(config, "workerinput"):
        config.stash[SESSION] = _prepare(config)
    elif SESSION in config.stash:
        config.pluginmanager.register(Recording(config.stash[SESSION]))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Make what guests are restored from before the first test, so that this is seen."""
    config = session.config
    nothing = session.testscollected == 0 and getattr(config.option, "dist", "no") == "no"
    if SESSION in config.stash and not config.option.collectonly and not nothing:
        config.stash[SESSION].live.prepare()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End a worker's guests as the controller's are ended: they may have counted coverage."""
    if hasattr(session.config, "workerinput"):
        session.config.stash[SESSION].end()


def _prepare(config: pytest.Config) -> Session:
    option = config.option
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    progress = Progress(quiet=worker is not None)
    chosen = cell.load(
        option.kernel,
        option.board,
        option.layout,
        option.variant,
        patches=option.patch,
        fragments=option.config,
        lane=option.lane,
    )
    cache = Cache(on_wait=progress.say)
    wanted = tuple(Wanted.parse(text) for text in option.module)
    own = Request(wanted, old_api=option.module_compat)
    prepared = cell.prepare(
        chosen, cache, progress, append=option.append, force=option.force, own=own
    )
    recorder = None
    directory = Path(os.devnull)  # with --collect-only nothing boots
    if worker is not None:
        directory = Path(worker["cma_run"]) / chosen.name / worker["workerid"]
    elif not option.collectonly:
        recorder = Recorder.start(option.runs, tuple(sys.argv), option.run_dir)
        directory = recorder.directory / chosen.name
    copies = None
    if not _why_shared(config, prepared):
        copies = Copies(prepared, option.append, cache, progress)
    live = LiveCell(
        prepared, directory, How(append=option.append, force=option.force, copies=copies)
    )
    further = Boots(prepared, directory / "boots", cache, append=option.append)
    return Session(prepared, live, further, progress, recorder, seed=option.seed)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the run is recorded."""
    recorder = node.config.stash[SESSION].recorder
    node.workerinput["cma_run"] = str(recorder.directory.absolute())
    node.workerinput["cma_paths"] = list(node.config.args)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """Write the planned cases; pytest-xdist's controller collects nothing itself."""
    node.config.stash[SESSION].plan(ids)
