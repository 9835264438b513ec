"""The same cell, measured twenty times, gives one number."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from harness.boots import INITRAMFS, Boots, start
from harness.cell import Prepared
from harness.guest.guest import Guest
from harness.guest.qemu import Image
from harness.guest.stored import Stored

from .conftest import DONE, SECONDS, Costs, costs

RUN = 'CMA_RUN="cma-cost -k nothing,anon,fragmented -s 64K,4M"'
BEGUN = b"Subtest: anon"
EACH = 10
AT_ONCE = 2


@pytest.mark.long
def test_boots_and_copies_count_one_number(
    cell: Prepared, boots: Boots, tmp_path: Path, metric: Callable[[str, float, str], None]
) -> None:
    """In turns, and two at a time: what else the host does is not the same for any two."""
    launch = boots.launch(cell, RUN)
    stored = Stored(tmp_path / "stored")
    stored.directory.mkdir()
    first = replace(launch, image=Image(stored.memory))
    with start(cell, first, tmp_path / "first", login=False) as guest:
        guest.console.wait_for(BEGUN, SECONDS, "counting")
        guest.store(stored)
    rest = replace(launch, initrd=tmp_path / "first" / INITRAMFS)

    def booted(number: int) -> Costs:
        return _counted(start(cell, launch, tmp_path / f"boot-{number}", login=False))

    def restored(number: int) -> Costs:
        return _counted(Guest.restore(rest, stored, tmp_path / f"copy-{number}"))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        turns = [
            pool.submit(measure, number) for number in range(EACH) for measure in (booted, restored)
        ]
        found = [turn.result() for turn in turns]
    assert len(found) == 2 * EACH
    numbers = {key: {(each[key].alloc, each[key].free) for each in found} for key in found[0]}
    assert {key: each for key, each in numbers.items() if len(each) != 1} == {}
    for (kind, size), ((alloc, free),) in numbers.items():
        metric(f"{kind}-{size}.alloc", alloc, "instructions")
        metric(f"{kind}-{size}.free", free, "instructions")


def _counted(guest: Guest) -> Costs:
    with guest:
        guest.console.wait_for(DONE, SECONDS, "counting")
        return costs(guest.console.text())
