"""A guest that counts its instructions, and works without a byte from outside."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from harness.boots import Boots
from harness.cell import Prepared
from harness.cma import parts
from harness.guest import counter
from harness.kernel.elf import code_symbols, open_elf
from harness.studies.costs import DONE as FINISHED
from harness.studies.costs import read

SECONDS = 3600.0  # a host may be busy; the guest takes two minutes of its own time
RUN = 'CMA_RUN="cma-cost"'
DONE = re.compile(FINISHED)
KINDS = ("nothing", "clean", "dirty", "anon", "mlock", "fragmented")
SIZES = ("4K", "16K", "64K", "256K", "1M", "4M", "16M")
# A quarter of the area, and cma-cost leaves less of it free: of what holds the rest some is in its
# way wherever it lies. A smaller one may find a place where nothing is (4M does on 6.1).
IN_THE_WAY = "16M"


@dataclass(frozen=True, slots=True)
class Cost:
    """Instructions inside dma_alloc_attrs() and dma_free_attrs() of the device's N-th buffer."""

    alloc: int
    free: int
    handle: int


Costs = Mapping[tuple[str, str], Cost]
"""By what fills the area, and the size that is allocated."""


@dataclass(frozen=True, slots=True)
class Parted:
    """The costs of a boot, and of each allocation the instructions of its parts."""

    costs: Costs
    parts: Mapping[tuple[str, str], Mapping[str, int]]


@pytest.fixture(scope="session", autouse=True)
def _exact(cell: Prepared) -> None:
    if cell.cell.lane != "exact":
        pytest.skip("counts instructions: --lane exact")


@pytest.fixture(scope="session")
def count(cell: Prepared, boots: Boots) -> Callable[..., Costs]:
    """Boot a guest that runs cma-cost, and return what it counted."""

    def counted(*options: str) -> Costs:
        with boots.boot(cell.cell.layout, RUN, options=options) as guest:
            guest.console.wait_for(DONE, SECONDS, "counting")
            return costs(guest.console.text())

    return counted


@pytest.fixture(scope="session")
def counted(count: Callable[..., Costs]) -> Costs:
    """The counts of one boot."""
    return count()


@pytest.fixture(scope="session")
def symbols(cell: Prepared) -> parts.Symbols:
    """The functions of the cell's kernel."""
    return code_symbols(open_elf(cell.kernel.vmlinux))


@pytest.fixture(scope="session")
def told(symbols: parts.Symbols) -> frozenset[str]:
    """The parts that can be told apart in this kernel."""
    return parts.told_apart(symbols)


@pytest.fixture(scope="session")
def parted(
    cell: Prepared,
    count: Callable[..., Costs],
    symbols: parts.Symbols,
    told: frozenset[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Parted:
    """The counts of a boot whose allocations QEMU takes apart."""
    work = tmp_path_factory.mktemp("counter")
    ranges, output = work / "ranges", work / "windows"
    ranges.write_text(parts.ranges(symbols))
    plugin = counter.build(cell.launch().program, work / "counter.so")
    found = count(*counter.options(plugin, ranges, output))
    windows = parts.read(output.read_text())
    # Others may have allocated before the device was there, nobody after its last buffer.
    before = len(windows) - max(cost.handle for cost in found.values())
    return Parted(
        found,
        {
            key: windows[before + cost.handle - 1].of(cost.alloc, told)
            for key, cost in found.items()
        },
    )


def costs(console: bytes) -> Costs:
    """Read what cma-cost printed; every case must be there and have passed."""
    return {
        key: Cost(said["alloc"], said["free"], said["handle"])
        for key, said in read(console).items()
    }


def differences(one: Costs, other: Costs) -> dict[tuple[str, str], tuple[Cost, Cost]]:
    """Return where they differ."""
    return {key: (cost, other[key]) for key, cost in one.items() if other[key] != cost}
