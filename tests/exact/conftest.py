"""A guest that counts its instructions, and works without a byte from outside."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from harness import ktap
from harness.boots import Boots
from harness.cell import Prepared
from harness.guest.qemu import NS_PER_INSTRUCTION
from harness.verdict import Verdict

SECONDS = 900.0
RUN = 'CMA_RUN="cma-cost"'
DONE = re.compile(rb"cma-cost: done|Bail out!")


@dataclass(frozen=True, slots=True)
class Cost:
    """Instructions inside dma_alloc_attrs() and dma_free_attrs()."""

    alloc: int
    free: int


Costs = Mapping[tuple[str, str], Cost]
"""By what fills the area, and the size that is allocated."""


@pytest.fixture(scope="session")
def count(cell: Prepared, boots: Boots) -> Callable[[], Costs]:
    """Boot a guest that runs cma-cost, and return what it counted."""
    if cell.cell.lane != "exact":
        pytest.skip("counts instructions: --lane exact")

    def counted() -> Costs:
        with boots.boot(cell.cell.layout, RUN) as guest:
            guest.console.wait_for(DONE, SECONDS, "counting")
            return costs(guest.console.text())

    return counted


@pytest.fixture(scope="session")
def counted(count: Callable[[], Costs]) -> Costs:
    """The counts of one boot."""
    return count()


def costs(console: bytes) -> Costs:
    """Read what cma-cost printed; every case must be there and have passed."""
    parser = ktap.Parser()
    parser.feed(console)
    report = parser.close()
    assert not report.problems, report.problems
    found = {}
    for suite in report.cases:
        for case in suite.cases:
            assert case.verdict is Verdict.PASS, (case.name, case.message)
            ns = {name: int(metric.value) for name, metric in case.metrics.items()}
            found[suite.name, case.name] = Cost(
                ns["alloc"] // NS_PER_INSTRUCTION, ns["free"] // NS_PER_INSTRUCTION
            )
    return found
