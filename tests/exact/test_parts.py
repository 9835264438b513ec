"""Where the instructions of an allocation go: search, isolation, draining, migration, clearing.

QEMU counts them, by what harness/cma/parts.py says of the kernel's functions. The guest is none the
wiser: what its own clock counts is the same as without.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.cma.parts import FUNCTIONS, INTERRUPT, NAMES, REST

from .conftest import IN_THE_WAY, KINDS, SIZES, Costs, Parted

LARGE = ("1M", "4M", "16M")
EXPLAINED = 0.9  # of each allocation, without the rest; 97 % were seen on 5.10 to 7.3


@pytest.mark.parametrize("part", NAMES)
def test_part_is_told_apart(part: str, told: frozenset[str], parted: Parted) -> None:
    if part not in told:
        pytest.skip(f"not told apart: the kernel has none of {', '.join(FUNCTIONS[part])}")
    assert any(found[part] > 0 for found in parted.parts.values())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_parts(
    kind: str, size: str, parted: Parted, counted: Costs, metric: Callable[[str, float, str], None]
) -> None:
    found = parted.parts[kind, size]
    metric("alloc", parted.costs[kind, size].alloc, "instructions")
    metric("path", sum(found.values()) - found[INTERRUPT], "instructions")
    for name, cost in found.items():
        metric(f"part.{name}", cost, "instructions")
    assert parted.costs[kind, size] == counted[kind, size]
    assert 0 <= found[REST] < (1 - EXPLAINED) * counted[kind, size].alloc


@pytest.mark.parametrize("kind", ["anon", "mlock"])
def test_pages_in_use_are_most_of_the_cost(kind: str, parted: Parted) -> None:
    found = parted.parts[kind, IN_THE_WAY]
    assert found["migrate"] > sum(found.values()) / 2


@pytest.mark.parametrize("size", LARGE)
def test_an_empty_area_has_nothing_to_migrate(size: str, parted: Parted) -> None:
    found = parted.parts["nothing", size]
    assert found["migrate"] + found["reclaim"] < sum(found.values()) / 100


def test_clean_pages_are_reclaimed(parted: Parted) -> None:
    """02c6de8d757c ("mm: cma: discard clean pages during contiguous allocation"), 3.7.

    Some are moved all the same, such as those that are mapped.
    """
    clean, anon = (parted.parts[kind, IN_THE_WAY] for kind in ("clean", "anon"))
    assert clean["reclaim"] > 10 * anon["reclaim"]
    assert clean["migrate"] < anon["migrate"] / 2


@pytest.mark.parametrize("kind", KINDS)
def test_clearing_is_proportional_to_the_size(
    kind: str, parted: Parted, told: frozenset[str]
) -> None:
    if "clear" not in told:
        pytest.skip("clearing is not told apart")
    one = parted.parts[kind, "1M"]["clear"]
    for size, times in (("4M", 4), ("16M", 16)):
        assert parted.parts[kind, size]["clear"] == pytest.approx(times * one, rel=0.02)


def test_a_fragmented_bitmap_is_searched_longer(parted: Parted) -> None:
    """256 KiB are looked for in holes of 64 KiB."""
    assert (
        parted.parts["fragmented", "256K"]["search"] > 4 * parted.parts["nothing", "256K"]["search"]
    )
