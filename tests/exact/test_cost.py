"""What an allocation costs, in instructions, by its size and by what fills the area.

`cma-harness test --lane exact tests/exact`. Path length, of one processor: caches and memory cost
nothing here. The board's counter runs at 62.5 MHz, so that counts come in steps of eight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.boots import INITRAMFS, Boots, start
from harness.cell import Prepared
from harness.guest.guest import Guest
from harness.guest.qemu import Image
from harness.guest.stored import Stored

from .conftest import DONE, IN_THE_WAY, KINDS, RUN, SECONDS, SIZES, Costs, costs, differences


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_cost(
    kind: str, size: str, counted: Costs, metric: Callable[[str, float, str], None]
) -> None:
    cost = counted[kind, size]
    metric("alloc", cost.alloc, "instructions")
    metric("free", cost.free, "instructions")
    assert cost.alloc > 0
    assert cost.free > 0


def test_the_same_guest_counts_the_same(counted: Costs, count: Callable[..., Costs]) -> None:
    assert differences(counted, count()) == {}


def test_a_copy_that_goes_on_in_the_middle_counts_the_same(
    counted: Costs, cell: Prepared, boots: Boots, tmp_path: Path
) -> None:
    """The guest is stored while it counts, wherever it is then, and a copy does the rest."""
    stored = Stored(tmp_path / "stored")
    stored.directory.mkdir()
    launch = boots.launch(cell, RUN)
    first = replace(launch, image=Image(stored.memory))
    with start(cell, first, tmp_path / "boot", login=False) as guest:
        guest.console.wait_for(b"Subtest: clean", SECONDS, "counting")
        guest.store(stored)
    rest = replace(launch, initrd=tmp_path / "boot" / INITRAMFS)
    with Guest.restore(rest, stored, tmp_path / "rest") as copy:
        copy.console.wait_for(DONE, SECONDS, "counting")
        text = copy.console.text()
    assert differences(counted, costs(text)) == {}


@pytest.mark.parametrize("kind", ["clean", "dirty", "anon", "mlock"])
def test_pages_in_the_way_cost_something(kind: str, counted: Costs) -> None:
    assert counted[kind, IN_THE_WAY].alloc > counted["nothing", IN_THE_WAY].alloc


def test_clean_pages_are_dropped_and_others_moved(counted: Costs) -> None:
    """02c6de8d757c ("mm: cma: discard clean pages during contiguous allocation"), 3.7."""
    assert counted["clean", IN_THE_WAY].alloc < counted["mlock", IN_THE_WAY].alloc
