"""What a matrix says while it works: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from harness.errors import HarnessError
from harness.matrix.plan import Planned
from harness.report import terminal
from harness.results import record
from harness.results.record import CELL_CASE, CellRecord
from harness.verdict import Verdict


class Watch:
    """A line for each cell that begins and ends; on a terminal also how far the running ones are.

    `directory` is the matrix's; the folders of its cells have their records.
    """

    def __init__(self, console: Console, directory: Path, cells: int) -> None:
        self._console = console
        self._directory = directory
        self._cells = cells
        self._done = 0
        self._running: dict[str, tuple[Planned, float]] = {}  # by what is shown
        self._live = Live(
            console=console, get_renderable=self._table, refresh_per_second=1, transient=True
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Print one plain line."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def refresh(self) -> None:
        """Look again at what runs; a terminal is refreshed once a second anyway."""
        if self._live.is_started:
            self._live.refresh()

    def began(self, planned: Planned, *, builds: bool) -> None:
        """A cell has begun, or the build of a kernel."""
        self._running[_label(planned, builds)] = (planned, time.monotonic())
        if not self._console.is_terminal:
            self.say(f"{_label(planned, builds)}: began")

    def built(self, planned: Planned, seconds: float, *, well: bool) -> None:
        """A kernel is there, or is not."""
        self._running.pop(_label(planned, True))
        state = "is there" if well else "COULD NOT BE MADE"
        self.say(f"{_label(planned, True)}: {state}  {seconds:.1f} s")

    def kept(self, planned: Planned, cell: CellRecord) -> None:
        """A cell was finished by an earlier invocation."""
        self._count(planned, cell, "kept")

    def ended(self, planned: Planned, cell: CellRecord) -> None:
        """A cell has come to an end, or will not begin."""
        began = self._running.pop(planned.name, None)
        self._count(planned, cell, f"{time.monotonic() - began[1]:.1f} s" if began else "")

    def _count(self, planned: Planned, cell: CellRecord, note: str) -> None:
        self._done += 1
        line = f"{escape(planned.name)}: {terminal.counts(cell.cases)}  {note}".rstrip()
        self._console.print(
            f"{line} ({self._done} of {self._cells})", highlight=False, soft_wrap=True
        )
        trouble = [case for case in cell.cases if case.id == CELL_CASE]
        terminal.show_cases(trouble, self._console)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for label, (planned, began) in tuple(self._running.items()):
            table.add_row(
                escape(label), f"{time.monotonic() - began:.0f} s", self._how_far(planned, label)
            )
        return table

    def _how_far(self, planned: Planned, label: str) -> str:
        if label != planned.name:
            return ""
        try:
            cases = tuple(record.read(self._directory / planned.name).cases())
        except HarnessError:
            return "preparing"  # there is no record yet
        done = [case for case in cases if case.verdict is not Verdict.LOST]
        return f"{len(done)} of {len(cases)}: {terminal.counts(done)}"


def _label(planned: Planned, builds: bool) -> str:
    return f"kernel {planned.cell.kernel.label}" if builds else planned.name
