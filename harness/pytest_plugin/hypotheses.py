"""Hypothesis in a run: it has the run's seed, and costs nothing where no test uses it.

To import it takes a quarter of a second, and its own options and its part of pytest's summary do.
"""

from __future__ import annotations

import sys

import pytest

_PLUGIN = "hypothesispytest"
_REPORTED = "_hypothesis_"  # begins what its plugin puts into reports of tests that use it


def pytest_collection_finish(session: pytest.Session) -> None:
    """Give it the run's seed, if a test uses it and nobody has given it another."""
    core = sys.modules.get("hypothesis.core")
    if core is not None and session.config.getoption("--hypothesis-seed", None) is None:
        core.global_force_seed = session.config.option.seed  # type: ignore[attr-defined]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave it out of the summary if no test has used it, here or in a worker of pytest-xdist."""
    plugins = session.config.pluginmanager
    terminal = plugins.get_plugin("terminalreporter")
    reports = [each for some in terminal.stats.values() for each in some] if terminal else []
    used = "hypothesis.core" in sys.modules or any(map(_told_of_it, reports))
    if not used and plugins.has_plugin(_PLUGIN):
        plugins.unregister(name=_PLUGIN)


def _told_of_it(report: object) -> bool:
    return any(name.startswith(_REPORTED) for name in vars(report))
