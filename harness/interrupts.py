"""Holding Ctrl-C back where it would cut between a step and what undoes it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """While it is open, a signal that interrupts comes through inside `heard` only.

    The first one there ends that; those before it, and behind it, wait. What has waited comes when
    it closes, unless an interrupt is on its way already. Signals that are ignored, or end the
    process, are left as they are; and so are all in a thread, which Python never interrupts.
    """

    def __init__(self) -> None:
        self._before: dict[int, signal._HANDLER] = {}
        self._waiting: list[int] = []
        self._open = False
        self._closed = True  # before and behind it, those that are still its own are passed on

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _NUMBERS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._before[number] = handler
                    signal.signal(number, self._come)
        self._closed = False
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._closed = True
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            for number in self._waiting:
                signal.raise_signal(number)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Let them through until the block ends, at once the one that has waited."""
        try:
            self._open = True
            if self._waiting:
                self._through(self._waiting.pop(0), None)
            yield
        finally:
            self._open = False

    def _come(self, number: int, frame: FrameType | None) -> None:
        if self._closed:
            self._pass(number, frame)
        elif self._open:
            self._through(number, frame)
        else:
            self._waiting.append(number)

    def _through(self, number: int, frame: FrameType | None) -> None:
        self._open = False  # it may raise: what is undone then is not interrupted in its turn
        self._pass(number, frame)
        self._open = True

    def _pass(self, number: int, frame: FrameType | None) -> None:
        handler = self._before[number]
        assert callable(handler)
        handler(number, frame)
