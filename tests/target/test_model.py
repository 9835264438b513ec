"""Random operations on an area: placement, refusals and `used` are those of a reference model.

Each sequence is one command in the guest (`cma-ctl script`), on a device without buffers, and the
model (harness/cma/model.py) predicts every address, every errno and every bit of the bitmap. What
hypothesis finds it shrinks; the seed is the run's (`--seed`, in run.json).

Nothing may be busy: the areas hold at most pages of idle processes, which can be moved at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness import config
from harness.cell import Prepared
from harness.cma import counters
from harness.cma.areas import PAGE
from harness.cma.helper import DEFAULT_DEVICE, Helper, Step
from harness.cma.model import (
    SIZE_MAX,
    Alloc,
    AreaModel,
    DeviceModel,
    Expected,
    Free,
    Operation,
    Read,
    Write,
)
from harness.guest.guest import Guest

STEPS = 40
SHRINKING_SECONDS = 30
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Subject:
    """A device, the name of its area, the model of both, and all areas' addresses."""

    helper: Helper
    area: str
    model: DeviceModel
    areas: tuple[range, ...]
    tracked: bool  # by DMA_API_DEBUG


AREAS = [
    pytest.param(0, id="first-area"),
    pytest.param(1, id="second-area", marks=pytest.mark.long),
    pytest.param(2, id="third-area"),
]


@pytest.fixture(params=AREAS)
def subject(
    request: pytest.FixtureRequest, guest: Guest, cell: Prepared, helper: Helper
) -> Subject:
    """A helper device on each area of the layout that has one."""
    layout = cell.cell.layout
    if request.param >= len(layout.area):
        pytest.skip(f"layout {layout.name!r} has {len(layout.area)} areas")
    wanted = layout.area[request.param]
    if not wanted.default and not wanted.device:
        pytest.skip(f"no device of layout {layout.name!r} uses area {wanted.node!r}")
    device = DEFAULT_DEVICE if wanted.default else f"{DEFAULT_DEVICE}-{wanted.node}"
    snapshot = counters.take(guest.console)
    area = snapshot.area(wanted.node)
    return Subject(
        Helper(guest.console, device=device, timeout=60),
        area.name,
        DeviceModel(
            AreaModel.of(area.base_pfn * PAGE, area.count, area.set),
            max_order=int(cell.kernel.option("CONFIG_CMA_ALIGNMENT")),
            private=not wanted.default,
            falls_back=config.numbers(cell.kernel.version) >= (6, 0),
        ),
        tuple(
            range(each.base_pfn * PAGE, (each.base_pfn + each.count) * PAGE)
            for each in snapshot.areas
        ),
        cell.kernel.option("CONFIG_DMA_API_DEBUG") == "y",
    )


def sizes(pages: int) -> st.SearchStrategy[int]:
    """Bytes: odd and even, small and as large as the area, and too large."""
    most = pages * PAGE
    return st.one_of(
        st.integers(1, 16 * PAGE),
        st.integers(1, 600).map(lambda some: some * PAGE),
        st.integers(0, 13).map(lambda order: min(PAGE << order, most)),
        st.integers(1, 8).map(lambda eighths: most * eighths // 8),
        st.integers(1, 16).map(lambda spare: most - spare * PAGE + 1),
        st.sampled_from([0, most, most + 1, most + PAGE, SIZE_MAX - PAGE, SIZE_MAX, SIZE_MAX + 1]),
    )


def allocs(pages: int, tracked: bool) -> st.SearchStrategy[Alloc]:
    """Allocations through the ioctl. What may lie elsewhere is small: 1 MiB at most.

    Where DMA_API_DEBUG tracks them all have an address: it takes a struct page for one, and warns
    of two in a cache line (add_dma_entry(), 6.12.117).
    """
    aligns = st.integers(0, 25).map(
        lambda order: 0 if order < 12 else 1 << order if order < 25 else 3 * PAGE
    )
    attrs = st.lists(
        st.sampled_from(["force-contiguous", "no-warn", "write-combine"]), unique=True
    ).map(tuple)
    unmapped = st.builds(
        Alloc,
        st.integers(1, MIB),
        st.sampled_from([0, 64 << 10]),
        st.just(("no-kernel-mapping", "no-warn")),
    )
    mapped = st.builds(Alloc, sizes(pages), aligns, attrs)
    kinds = [mapped] * 3 if tracked else [mapped, mapped, mapped, unmapped]
    return st.sampled_from(kinds).flatmap(lambda one: one)


@dataclass(frozen=True, slots=True)
class Drop:
    """Free one of the buffers that live by then: the one with this number, counted around."""

    number: int


def sequences(model: DeviceModel, tracked: bool) -> st.SearchStrategy[list[Operation]]:
    """Sequences in which about as much is freed as is allocated.

    They are long from the first on; a None, which every step can shrink to, is left out.
    """
    pages = model.area.pages
    alloc = allocs(pages, tracked)
    drop = st.integers(0, STEPS).map(Drop)
    kib = st.one_of(
        st.integers(1, 4096),
        st.sampled_from([0, pages * 4, SIZE_MAX // 1024, SIZE_MAX // 1024 + 1]),
    )
    rare = st.one_of(st.integers(1, STEPS).map(Free), st.just(Read()), kib.map(Write))
    # Not one_of() once more: that would make all these branches equally likely.
    often = st.sampled_from([st.none(), *[alloc, drop] * 5, rare, rare])
    plans = st.lists(often.flatmap(lambda one: one), min_size=STEPS * 2 // 3, max_size=STEPS)
    return plans.map(lambda plan: concrete(model, plan))


def concrete(model: DeviceModel, plan: Iterable[Operation | Drop | None]) -> list[Operation]:
    """Put the line of a living buffer in the place of each `Drop`, as the model has them."""
    operations: list[Operation] = []
    for planned in plan:
        if planned is None or (isinstance(planned, Drop) and not model.held):
            continue
        if isinstance(planned, Drop):
            planned = Free(model.held[planned.number % len(model.held)].line)
        model, _expected = model.step(planned)
        operations.append(planned)
    return operations


def differs(expected: Expected, step: Step, areas: Iterable[range]) -> str:
    """Return how a step was otherwise than the model says, or nothing."""
    wrong = []
    if step.errno_name != expected.errno_name:
        wrong.append(f"errno {step.errno_name or 'none'}, not {expected.errno_name or 'none'}")
    elif expected.elsewhere:
        if any(step.dma_address in area for area in areas):
            wrong.append(f"at {step.dma_address:#x}, in an area, not elsewhere")
    elif step.dma_address != expected.address:
        wrong.append(f"at {_hex(step.dma_address)}, not {_hex(expected.address)}")
    if step.used != expected.area.used:
        wrong.append(f"`used` is {step.used}, not {expected.area.used}")
    if step.set_bits != expected.area.runs:
        wrong.append(f"the set bits are {step.set_bits}, not {expected.area.runs}")
    return "; ".join(wrong)


def _hex(address: int | None) -> str:
    return "no address" if address is None else f"{address:#x}"


def compare(subject: Subject, operations: Sequence[Operation]) -> None:
    """Run the operations and compare each step with the model."""
    lines = [operation.line() for operation in operations]
    before, *steps, emptied = subject.helper.script(lines, subject.area)
    model = subject.model
    compared = [("before", differs(Expected(model.area), before, subject.areas))]
    for operation, step in zip(operations, steps, strict=True):
        model, expected = model.step(operation)
        if expected.may_fail and step.errno_name == "ENOSPC":
            model, expected = model.without(step.line), Expected(model.area, errno_name="ENOSPC")
        wrong = differs(expected, step, subject.areas)
        compared.append((f"{step.line}: {operation.line()}", wrong))
        if wrong:
            break
    compared.append(("emptied", differs(Expected(subject.model.area), emptied, subject.areas)))
    if any(wrong for _step, wrong in compared):
        area = subject.model.area
        told = [f"{step}  <-- {wrong}" if wrong else step for step, wrong in compared]
        raise AssertionError(
            f"the area of {area.pages} pages at {area.base:#x} is not as the model:\n"
            + "\n".join(told)
        )


def explore(subject: Subject, examples: int) -> None:
    """Compare so many random sequences; shrink what fails, but not for longer than it is worth."""
    bounded = _Bounded(lambda operations: compare(subject, operations))

    def sequence(operations: Sequence[Operation]) -> None:
        bounded(operations)

    once = given(sequences(subject.model, subject.tracked))(sequence)
    settings(
        max_examples=examples,
        deadline=None,
        database=None,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )(once)()


class _Bounded:
    """A check that, when it failed, is given up after a time for all but the smallest failure.

    Hypothesis bounds shrinking by five minutes and not by less. What it last saw fail is the
    smallest so far, and that is what it runs again at the end.
    """

    def __init__(self, check: Callable[[Sequence[Operation]], None]) -> None:
        self._check = check
        self._smallest: Sequence[Operation] | None = None
        self._deadline = 0.0

    def __call__(self, operations: Sequence[Operation]) -> None:
        late = self._smallest is not None and time.monotonic() > self._deadline
        if late and operations != self._smallest:
            return
        try:
            self._check(operations)
        except AssertionError:
            if self._smallest is None:
                self._deadline = time.monotonic() + SHRINKING_SECONDS
            self._smallest = operations
            raise


def test_each_buffer_lies_where_the_model_says(subject: Subject) -> None:
    explore(subject, examples=12)


@pytest.mark.long
def test_each_buffer_lies_where_the_model_says_in_many_sequences(subject: Subject) -> None:
    explore(subject, examples=40)
