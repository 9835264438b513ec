"""What cma-cost prints, as figures."""

from __future__ import annotations

import pytest

from harness.errors import GuestError
from harness.studies import costs

# As a guest with 6.12.117 said it.
CONSOLE = b"""\
KTAP version 1
1..1
    KTAP version 1
    # Subtest: clean
    1..1
    # alloc: 15427664 ns
    # free: 1856128 ns
    # discarded: 2553 pages
    ok 1 10M
ok 1 clean
cma-cost: done
"""


def test_nanoseconds_become_instructions_and_pages_stay():
    figures = costs.read(CONSOLE)
    assert figures == {("clean", "10M"): {"alloc": 7713832, "free": 928064, "discarded": 2553}}


@pytest.mark.parametrize(
    "console",
    [CONSOLE.replace(b"    ok 1", b"    not ok 1"), CONSOLE.replace(b"    ok 1 10M\n", b"")],
)
def test_a_case_that_did_not_pass_has_none(console):
    with pytest.raises(GuestError, match="cma-cost"):
        costs.read(console)
