"""A kernel that breaks what CMA promises turns the run red, and says where."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import config
from harness.cache import Cache, default_root
from harness.kernel import source
from harness.progress import Progress
from harness.verdict import Verdict

pytestmark = pytest.mark.mutant


@dataclass(frozen=True)
class Mutant:
    """One small breakage of the kernel, and a case that must see it."""

    name: str
    file: str
    before: str
    after: str
    killed_by: str


MUTANTS = (
    Mutant(
        "a release that keeps its bits",
        "mm/cma.c",
        "\tcma_clear_bitmap(cma, pfn, count);\n\tcma_sysfs_account_release_pages",
        "\tcma_sysfs_account_release_pages",
        "free_restores_the_bitmap",
    ),
    Mutant(
        "a buffer that is not zeroed",
        "arch/arm/mm/dma-mapping.c",
        "\t__dma_clear_buffer(page, size, coherent_flag);\n\n\tif (!want_vaddr)",
        "\tif (!want_vaddr)",
        "zeroed_after_dirty",
    ),
    Mutant(
        "an alignment that is forgotten",
        "mm/cma.c",
        "\treturn (1UL << (align_order - cma->order_per_bit)) - 1;",
        "\treturn 0;",
        "aligned_to_the_order",
    ),
)


@pytest.fixture(scope="module")
def tree() -> Path:
    """A copy of 6.12's source, hard links but for what a mutant edits; its place is stable."""
    original = source.obtain(config.load_kernel("6.12"), Cache(), Progress(quiet=True)).tree
    copy = default_root() / "mutant" / "linux"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(original, copy, symlinks=True, copy_function=os.link)
    return copy


def write(path: Path, text: str) -> None:
    """Replace a file, not what its hard link shares with the cache."""
    path.unlink()
    path.write_text(text)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_killed(run, tree, mutant):
    victim = tree / mutant.file
    healthy = victim.read_text()
    assert healthy.count(mutant.before) == 1, "the mutant no longer applies"
    write(victim, healthy.replace(mutant.before, mutant.after))
    try:
        line = run("test", "--kernel", str(tree), "kmod/cma_kunit")
    finally:
        write(victim, healthy)
    assert line.status == 1, line.output
    red = {case.name for case in line.record.cases() if case.verdict is Verdict.FAIL}
    assert mutant.killed_by in red
