"""Cases that are to fail, as configs/defects.toml has it: XFAIL, and red once they pass."""

from __future__ import annotations

import pytest

from harness.config import load_defects
from harness.pytest_plugin.stash import SESSION


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the cases that show a defect of the cell's kernel."""
    if SESSION not in config.stash:
        return
    version = config.stash[SESSION].prepared.kernel.version
    for defect in load_defects():
        for item in items:
            if defect.shown_by(item.nodeid, version):
                item.add_marker(pytest.mark.xfail(reason=str(defect), strict=True))
