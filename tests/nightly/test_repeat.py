"""On an unmodified kernel nothing is ever red: a case that is now and then is a defect."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.repeat


@pytest.mark.parametrize("number", range(20))
def test_the_suites_pass_again(run, number):
    line = run("test", "--layout", "contract", "-n", "2", "kmod/cma_kunit", "tests/target")
    assert line.status == 0, line.output
