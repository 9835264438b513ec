"""A stored record as one HTML page that opens without a network."""

from __future__ import annotations

from pathlib import Path

import jinja2

from harness.report import parts
from harness.report.grid import grid
from harness.results.record import RunRecord, write_whole

_TEMPLATE = Path(__file__).with_name("report.html.jinja2")


def write(record: RunRecord, path: Path) -> None:
    """Write the page; everything that came from the guest is escaped."""
    write_whole(path, render(record))


def render(record: RunRecord) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.from_string(_TEMPLATE.read_text()).render(
        record=record, grid=grid(record), bars=parts.bars, names=parts.names
    )
