"""Kernel builds from nothing and with a warm ccache, beside plain make with the same configuration.

Each takes minutes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harness.bench import turns
from harness.cache import Cache
from harness.cell import Prepared
from harness.errors import UsageError
from harness.kernel import build, source
from harness.kernel.build import BuiltKernel
from harness.kernel.make import environment
from harness.process import run
from harness.progress import Progress
from harness.results.bench import Row


def kernel_builds(prepared: Prepared, cache: Cache, progress: Progress) -> Iterator[Row]:
    """Build the kernel with plain make and as the harness does; then with a full ccache."""
    kernel = prepared.cell.kernel
    for name in ("CCACHE_DIR", "KBUILD_OUTPUT"):
        if name in os.environ:
            raise UsageError(
                f"{name} is set, but what is measured begins with nothing",
                where="environment",
                next_step=f"unset {name}",
            )
    origin = source.obtain(kernel, cache, progress)
    with (
        tempfile.TemporaryDirectory(prefix="cma-builds-", dir=cache.root) as directory,
        progress.phase("bench", "a kernel from nothing, plain make beside it") as phase,
    ):
        work = Path(directory)
        own = Cache(work / "cache")

        def ours() -> None:
            build.build(kernel, origin, own, Progress(quiet=True))

        def theirs() -> None:
            _plain(prepared.kernel, work / "plain", own)

        took = turns.taken({"plain make": theirs, "the harness": ours}, phase.step)
        plain, cold = [took["plain make"]], [took["the harness"]]
        yield Row.of("kernel, nothing cached / plain make", cold, plain, "s", most=1)
        shutil.rmtree(own.root / "kernel")
        shutil.rmtree(own.root / "build")
        phase.step("with what ccache has now")
        began = time.monotonic()
        ours()
        warm = time.monotonic() - began
        yield Row.of("kernel, a warm ccache / plain make", [warm], plain, "s", most=1 / 3)


def _plain(built: BuiltKernel, work: Path, cache: Cache) -> None:
    """Have the kernel's own make build what the harness does."""
    work.mkdir()
    shutil.copyfile(built.kdir / ".config", work / ".config")
    make: list[str | Path] = [
        *("make", "-C", built.source, f"O={work}", "ARCH=arm", f"-j{os.cpu_count() or 1}"),
        f"CROSS_COMPILE={built.toolchain.prefix}",
    ]
    for targets in (["olddefconfig"], ["zImage", "modules"]):
        run([*make, *targets], env=environment(cache))
