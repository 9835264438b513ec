"""What the kernel's version decides: cases that it has nothing for, and those that it must fail."""

from __future__ import annotations

import pytest

from harness.config import load_defects, numbers
from harness.pytest_plugin.stash import EXPECTED, SESSION
from harness.verdict import Verdict


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark of cases for newer kernels."""
    config.addinivalue_line(
        "markers", "since(version, why): a case for kernels from that version on; SKIP before"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what the cell's kernel is too old for; mark what shows a defect that it has.

    A case of configs/defects.toml is XFAIL, and red once it passes.
    """
    if SESSION not in config.stash:
        return
    prepared = config.stash[SESSION].prepared
    version, variant = prepared.kernel.version, prepared.cell.kernel.variant
    defects = [known for known in load_defects() if known.is_of(version, variant)]
    for item in items:
        for mark in item.iter_markers("since"):
            since, why = mark.args
            if numbers(version) < numbers(since):
                item.add_marker(pytest.mark.skip(reason=f"since {since}: {why}"))
        for known in defects:
            if known.is_about(item.nodeid):
                item.stash[EXPECTED] = Verdict(known.ends)
                item.add_marker(pytest.mark.xfail(reason=str(known), strict=True))
