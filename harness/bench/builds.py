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

from harness.cache import Cache
from harness.cell import Prepared
from harness.errors import UsageError
from harness.kernel import build, source
from harness.kernel.build import BuiltKernel
from harness.process import run
from harness.progress import Progress
from harness.results.bench import Row


def kernel_builds(prepared: Prepared, cache: Cache, progress: Progress) -> Iterator[Row]:
    """Build the kernel with plain make, then as the harness does: ccache empty, then full."""
    kernel = prepared.cell.kernel
    for name in ("CCACHE_DIR", "KBUILD_OUTPUT"):
        if name in os.environ:
            raise UsageError(
                f"{name} is set, but what is measured begins with nothing",
                where="environment",
                next_step=f"unset {name}",
            )
    origin = source.obtain(kernel, cache, progress)
    with tempfile.TemporaryDirectory(prefix="cma-builds-", dir=cache.root) as directory:
        work = Path(directory)
        theirs = _plain(prepared.kernel, work / "plain")
        own = Cache(work / "cache")
        took = []
        for _ in ("cold", "warm"):
            shutil.rmtree(own.root / "kernel", ignore_errors=True)
            shutil.rmtree(own.root / "build", ignore_errors=True)
            began = time.monotonic()
            build.build(kernel, origin, own, progress)
            took.append(time.monotonic() - began)
    cold, warm = took
    yield Row.of("kernel, nothing cached / plain make", [cold], [theirs], "s", most=1)
    yield Row.of("kernel, a warm ccache / plain make", [warm], [theirs], "s", most=1 / 3)


def _plain(built: BuiltKernel, work: Path) -> float:
    """Return the seconds that the kernel's own make takes for what the harness builds."""
    work.mkdir()
    shutil.copyfile(built.kdir / ".config", work / ".config")
    make: list[str | Path] = [
        *("make", "-C", built.source, f"O={work}", "ARCH=arm", f"-j{os.cpu_count() or 1}"),
        f"CROSS_COMPILE={built.toolchain.prefix}",
    ]
    began = time.monotonic()
    run([*make, "olddefconfig"])
    run([*make, "zImage", "modules"])
    return time.monotonic() - began
