"""When Ctrl-C comes through, and when it waits."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.interrupts import Interrupts


@pytest.fixture(autouse=True)
def _python_s_own_handlers() -> Iterator[None]:
    """Whoever starts the tests in the background may have SIGINT ignored."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_comes_early_waits_until_it_is_heard(number: int) -> None:
    steps = []

    def act() -> None:
        with Interrupts() as interrupts:
            signal.raise_signal(number)
            steps.append("held")
            with interrupts.heard():
                steps.append("heard")

    with pytest.raises(KeyboardInterrupt):
        act()
    assert steps == ["held"]


def test_what_is_undone_is_not_interrupted_in_its_turn() -> None:
    steps = []

    def act() -> None:
        with Interrupts() as interrupts:
            try:
                with interrupts.heard():
                    ctrl_c()
            finally:
                ctrl_c()
                steps.append("undone")

    with pytest.raises(KeyboardInterrupt):
        act()
    assert steps == ["undone"]


def test_the_second_one_ends_the_wait_that_hears_it() -> None:
    def act() -> None:
        with Interrupts() as interrupts:
            with pytest.raises(KeyboardInterrupt), interrupts.heard():
                ctrl_c()
            ctrl_c()
            with interrupts.heard():
                pytest.fail("it was to come at once")

    with pytest.raises(KeyboardInterrupt):
        act()


@pytest.mark.parametrize("error", [None, ValueError])
def test_what_nobody_heard_comes_at_the_end(error: type[Exception] | None) -> None:
    steps = []

    def act() -> None:
        with Interrupts():
            ctrl_c()
            steps.append("held")
            if error:
                raise error

    with pytest.raises(KeyboardInterrupt):
        act()
    assert steps == ["held"]


def test_the_handlers_are_those_of_before_behind_it() -> None:
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("step", "comes"), [(1, signal.SIGTERM), (3, signal.SIGINT)], ids=["entering", "leaving"]
)
def test_one_that_comes_while_handlers_change_leaves_none_deaf(
    monkeypatch: pytest.MonkeyPatch, step: int, comes: int
) -> None:
    """SIGINT has its new handler then, SIGTERM its old one; what comes has Python's own."""
    change = signal.signal
    changed = []

    def changing(number: int, handler: signal._HANDLER) -> signal._HANDLER:
        before = change(number, handler)
        changed.append(number)
        if len(changed) == step:
            signal.raise_signal(comes)
        return before

    def act() -> None:
        with Interrupts():
            pass

    monkeypatch.setattr(signal, "signal", changing)
    with pytest.raises(KeyboardInterrupt):
        act()
    for number in (signal.SIGINT, signal.SIGTERM):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupts() as interrupts, interrupts.heard():
        ctrl_c()


def test_a_handler_that_goes_on_is_called_each_time() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    with Interrupts() as interrupts, interrupts.heard():
        ctrl_c()
        ctrl_c()
    assert heard == [signal.SIGINT] * 2


def test_a_thread_has_none_and_changes_none() -> None:
    def look() -> object:
        with Interrupts() as interrupts, interrupts.heard():
            return signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(look).result() is signal.default_int_handler
