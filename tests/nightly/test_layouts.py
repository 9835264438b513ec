"""Every supplied layout boots, is honoured, and passes the suites."""

from __future__ import annotations

import pytest

from harness import config

pytestmark = pytest.mark.layouts


@pytest.mark.parametrize("layout", config.names("layouts"))
def test_a_layout_passes(run, layout):
    line = run("test", "--layout", layout, "kmod/cma_kunit", "tests/target")
    assert line.status == 0, line.output
