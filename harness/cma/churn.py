"""Buffers allocated and freed on several devices at once, by the guest program cma-churn."""

from __future__ import annotations

from collections.abc import Sequence

from harness.cma.answers import Answer, ask_one
from harness.cma.shell import Shell

PROGRAM = "cma-churn"


class Churned(Answer):
    """How it went: buffers allocated and those for which there was no room, both of all workers.

    `not_zero` buffers had a content when they came, `corrupt` ones another's when they went.
    Times are inside dma_alloc_attrs(); the last three say how often each kind of churn went round.
    """

    buffers: int
    failed: int
    not_zero: int
    corrupt: int
    median_ns: int
    max_ns: int
    forks: int
    maps: int
    drops: int


def churn(
    shell: Shell,
    devices: Sequence[str],
    *,
    rounds: int,
    workers: int = 2,
    largest: int = 1 << 20,
    seed: int = 1,
    background: Sequence[str] = (),
    timeout: float = 120.0,
) -> Churned:
    """Let `workers` for each device allocate `rounds` buffers of up to `largest` bytes each.

    `background` is what goes on meanwhile, as options of the program: --fork, --anon, --cache=F.
    """
    argv = [PROGRAM, "-r", str(rounds), "-w", str(workers), "-m", str(largest), "-s", str(seed)]
    return ask_one(shell, [*argv, *background, *devices], Churned, timeout)
