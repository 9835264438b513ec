"""How an exception that ends a test judges: the kernel, or us."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from harness.config import parse_size
from harness.pytest_plugin.hypotheses import pytest_collection_finish, pytest_sessionfinish
from harness.session import Session
from harness.verdict import Verdict


def judged(act: Callable[[], object]) -> tuple[Verdict, str]:
    """Return what a session makes of the exception that `act` raises."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        act()
    outcome = Session.judge(cast("Session", SimpleNamespace()), caught.value)
    return outcome.verdict, outcome.message


def claim() -> None:
    assert 1 + 1 == 3, "no"


def look() -> None:
    nothing: list[int] = []
    (_only,) = nothing


def test_an_assertion_of_a_test_is_a_fail() -> None:
    verdict, message = judged(claim)
    assert verdict is Verdict.FAIL
    assert message.startswith("no")
    assert judged(lambda: pytest.fail("told")) == (Verdict.FAIL, "told")


def test_a_test_that_finds_nothing_to_look_at_is_a_fail() -> None:
    verdict, message = judged(look)
    assert verdict is Verdict.FAIL
    assert message == "ValueError: not enough values to unpack (expected 1, got 0)"


@pytest.mark.parametrize(
    "act", [lambda: parse_size("much"), lambda: json.loads("{")], ids=["harness", "library"]
)
def test_an_exception_of_ours_or_of_a_library_is_an_error(act: Callable[[], object]) -> None:
    assert judged(act)[0] is Verdict.ERROR


@pytest.mark.parametrize(("own", "seed"), [(None, 7), ("3", "unset")])
def test_hypothesis_has_the_run_s_seed_unless_it_was_given_one(
    monkeypatch: pytest.MonkeyPatch, own: str | None, seed: object
) -> None:
    core = SimpleNamespace(global_force_seed="unset")
    monkeypatch.setitem(sys.modules, "hypothesis.core", core)
    config = SimpleNamespace(option=SimpleNamespace(seed=7), getoption=lambda *_: own)
    pytest_collection_finish(cast("pytest.Session", SimpleNamespace(config=config)))
    assert core.global_force_seed == seed


@pytest.mark.parametrize(
    ("imported", "fields", "stays"),
    [(False, {}, False), (True, {}, True), (False, {"_hypothesis_stats": ""}, True)],
)
def test_hypothesis_has_no_part_in_a_run_that_does_not_use_it(
    monkeypatch: pytest.MonkeyPatch, imported: bool, fields: dict[str, str], stays: bool
) -> None:
    monkeypatch.delitem(sys.modules, "hypothesis.core", raising=False)
    if imported:
        monkeypatch.setitem(sys.modules, "hypothesis.core", SimpleNamespace())
    plugins = pytest.PytestPluginManager()
    stats = {"passed": [SimpleNamespace(**fields)], "": [SimpleNamespace()]}
    plugins.register(SimpleNamespace(stats=stats), "terminalreporter")
    plugins.register(SimpleNamespace(), "hypothesispytest")
    config = SimpleNamespace(pluginmanager=plugins)
    pytest_sessionfinish(cast("pytest.Session", SimpleNamespace(config=config)))
    assert plugins.has_plugin("hypothesispytest") is stays
