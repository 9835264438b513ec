"""kunit.py, the rival: the kernel tree's own tool, run on a kernel that is built already."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HostError
from harness.kernel.build import BuiltKernel
from harness.process import run

_SUITE = "list-kunit-test"
"""The suite that it runs; lib/list-test.c, built in by configs/kconfig/bench.config."""
_TAIL = 900  # characters
_CONTROLS = re.compile(r"\x1b\[[0-9;]*m")
_TESTS = re.compile(r"Testing complete\. Ran (\d+) tests?: passed: (\d+)")


@dataclass(frozen=True, slots=True)
class Took:
    """Host seconds of a whole invocation, and how many cases it ran."""

    seconds: float
    cases: int

    @property
    def each(self) -> float:
        """Seconds for each case."""
        return self.seconds / self.cases


def isolated(kernel: BuiltKernel) -> Took:
    """Boot once for each case of its suite: `kunit.py exec --run_isolated=test`.

    It boots once more to learn which cases there are. Raises `HostError` when they do not pass.
    """
    with tempfile.TemporaryDirectory(prefix="cma-kunit-") as directory:
        image = Path(directory) / "arch" / "arm" / "boot" / "zImage"
        image.parent.mkdir(parents=True)
        image.symlink_to(kernel.zimage)
        began = time.monotonic()
        said = run(
            [
                *(sys.executable, kernel.source / "tools" / "testing" / "kunit" / "kunit.py"),
                *("exec", "--arch=arm", f"--cross_compile={kernel.toolchain.prefix}"),
                *(f"--build_dir={directory}", "--run_isolated=test", _SUITE),
            ],
            cwd=kernel.source,
            env={"PYTHONDONTWRITEBYTECODE": "1"},
        ).output
        seconds = time.monotonic() - began
    found = _TESTS.findall(_CONTROLS.sub("", said))
    cases = sum(int(ran) for ran, _ in found)
    if not cases or cases != sum(int(passed) for _, passed in found):
        raise HostError(f"its cases did not all pass; it said: …{said[-_TAIL:]}", where="kunit.py")
    return Took(seconds, cases)
