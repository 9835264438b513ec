"""The reference model of an area: first fit, aligned by physical address; and the helper on it."""

from __future__ import annotations

import pytest

from harness.cma.areas import PAGE
from harness.cma.model import (
    SIZE_MAX,
    Alloc,
    AreaModel,
    DeviceModel,
    Expected,
    Free,
    Read,
    Write,
    order_of,
)

MIB = 1 << 20
BASE = 0x50400000  # an odd multiple of 4 MiB
AREA = AreaModel(BASE, 8192)


def device(area: AreaModel = AREA, *, private: bool = True) -> DeviceModel:
    return DeviceModel(area, max_order=12, private=private)


def run(model: DeviceModel, *operations) -> tuple[DeviceModel, list[Expected]]:
    seen = []
    for operation in operations:
        model, expected = model.step(operation)
        seen.append(expected)
    return model, seen


@pytest.mark.parametrize(
    ("size", "order"),
    [(1, 0), (PAGE, 0), (PAGE + 1, 1), (3 * PAGE, 2), (MIB, 8), (MIB + 1, 9), (SIZE_MAX, 20)],
)
def test_the_order_of_a_size(size, order):
    assert order_of(size) == order


@pytest.mark.parametrize(
    ("taken", "pages", "order", "first"),
    [
        ((), 1, 0, 0),
        ((), 8192, 0, 0),
        ((), 8193, 0, None),
        (((0, 1),), 1, 0, 1),
        (((0, 1),), 8191, 0, 1),
        (((0, 1),), 8192, 0, None),
        (((0, 4), (6, 8186)), 2, 1, 4),  # first fit, and it just fits
        (((0, 4), (6, 8186)), 3, 0, None),
        (((0, 3),), 2, 1, 4),  # page 3 is free, but not aligned
        ((), 4096, 12, 3072),  # 0x51000000: the base is 4 MiB short of 16 MiB
        (((3072, 1),), 4096, 12, None),  # 0x52000000 would reach over the end
        (((3072, 1),), 1024, 12, 7168),
        ((), 2048, 11, 1024),
    ],
)
def test_a_buffer_goes_to_the_first_run_that_fits(taken, pages, order, first):
    assert AreaModel.of(BASE, 8192, taken).place(pages, order) == first


def test_runs_are_the_bitmap_s():
    runs = ((0, 3), (5, 1), (100, 64), (8191, 1))
    area = AreaModel.of(BASE, 8192, runs)
    assert area.runs == runs
    assert area.used == 69
    assert area.with_free(100, 64).runs == ((0, 3), (5, 1), (8191, 1))
    assert AREA.runs == ()


def test_pages_are_not_taken_or_freed_twice():
    area = AREA.with_taken(10, 10)
    with pytest.raises(AssertionError, match="handed out twice"):
        area.with_taken(19, 1)
    with pytest.raises(AssertionError, match="freed twice"):
        area.with_free(19, 2)
    with pytest.raises(AssertionError, match="outside"):
        area.with_taken(8190, 3)


def test_sizes_are_rounded_to_pages_and_first_fit_reuses_the_hole():
    model, seen = run(device(), Alloc(1), Alloc(5000), Alloc(1), Free(2), Alloc(PAGE))
    assert [each.address for each in seen] == [
        BASE,
        BASE + 2 * PAGE,
        BASE + PAGE,
        None,
        BASE + 2 * PAGE,
    ]
    assert seen[-1].area.runs == ((0, 3),)
    assert [held.line for held in model.held] == [1, 3, 5]


def test_more_than_the_natural_alignment_takes_its_slack():
    _model, (made,) = run(device(), Alloc(PAGE, align=8 * MIB))
    # 8 MiB + 1 page - 1 page of slack: 2048 pages, order 11, at 0x50800000, which is aligned.
    assert made.address == 0x50800000
    assert made.area.runs == ((1024, 2048),)
    _model, (made,) = run(device(), Alloc(1, align=PAGE))
    assert made.area.runs == ((0, 1),)


def test_v4_writes_kib_and_reads_the_oldest():
    _model, seen = run(device(), Write(8), Alloc(1), Read(), Read(), Read())
    assert [each.address for each in seen] == [BASE, BASE + 2 * PAGE, None, None, None]
    assert [each.area.runs for each in seen] == [((0, 2),), ((0, 3),), ((2, 1),), (), ()]
    assert [each.errno_name for each in seen] == ["", "", "", "", "EIDRM"]


@pytest.mark.parametrize(
    ("operation", "errno_name"),
    [
        (Alloc(0), "EINVAL"),
        (Alloc(1, align=3 * PAGE), "EINVAL"),
        (Alloc(SIZE_MAX + 1), "EOVERFLOW"),
        (Alloc(1, align=SIZE_MAX + 1), "EOVERFLOW"),
        (Alloc(SIZE_MAX), "ENOSPC"),
        (Alloc(32 * MIB + 1), "ENOSPC"),
        (Alloc(2 * PAGE, align=1 << 31), "ENOSPC"),
        (Write(0), "EINVAL"),
        (Write(SIZE_MAX // 1024), "ENOSPC"),
        (Write(SIZE_MAX // 1024 + 1), "EOVERFLOW"),
        (Free(1), "ENOENT"),
        (Free(9), "ENOENT"),
        (Read(), "EIDRM"),
    ],
)
def test_what_is_refused_changes_nothing(operation, errno_name):
    model, (seen,) = run(device(), operation)
    assert seen == Expected(AREA, errno_name=errno_name)
    assert (model.area, model.held) == (AREA, ())


UNMAPPED = ("no-kernel-mapping",)


def test_without_a_kernel_mapping_a_full_area_is_passed_by():
    full = device(AREA.with_taken(0, 8192))
    model, seen = run(full, Alloc(PAGE, attrs=UNMAPPED), Alloc(MIB, attrs=UNMAPPED), Free(1))
    assert [each.elsewhere for each in seen] == [True, True, False]
    assert [each.may_fail for each in seen] == [False, True, False]
    assert all(each.area == full.area for each in seen)
    assert [held.line for held in model.without(2).held] == []


def test_without_a_kernel_mapping_one_page_passes_the_default_area_by():
    (one,) = run(device(private=False), Alloc(PAGE, attrs=UNMAPPED))[1]
    (two,) = run(device(private=False), Alloc(2 * PAGE, attrs=UNMAPPED))[1]
    (own,) = run(device(private=True), Alloc(PAGE, attrs=UNMAPPED))[1]
    assert (one.elsewhere, two.elsewhere, own.elsewhere) == (True, False, False)


def test_operations_are_lines_of_a_script():
    assert [
        each.line()
        for each in (
            Alloc(4096),
            Alloc(1, align=8192, attrs=("no-warn", "write-combine")),
            Free(7),
            Write(8),
            Read(),
        )
    ] == [
        "alloc 0x1000",
        "alloc 0x1 --align 0x2000 --attr no-warn,write-combine",
        "free 7",
        "write 8",
        "read",
    ]
