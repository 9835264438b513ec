"""What is said of a kernel that does not compile."""

from __future__ import annotations

import pytest

from harness.cache import Cache
from harness.config import Kernel
from harness.errors import BuildFailed
from harness.kernel import build
from harness.kernel.tree import Source
from harness.progress import Phase

ERROR = "mm/cma.c:9:2: error: 'pages' undeclared (first use in this function)"
LAST = "I: default: FAIL in 0:00:00.4"  # of tuxmake, which has gone on with --keep-going


def test_a_kernel_that_does_not_compile_is_told_by_the_compiler_s_complaint(tmp_path, monkeypatch):
    def run(command, *, log, error, **_):
        others = (f"  CC      lib/{number}.o" for number in range(50))
        log.write_text("\n".join(["mm/cma.c: In function 'f':", ERROR, *others, LAST]))
        raise error(f"ended with status 2\n{LAST}", where="tuxmake", next_step="see the log")

    monkeypatch.setattr(build, "run", run)
    kernel = Kernel(name="6.12", package="linux-source-6.12", config=())
    chain = build.Toolchain("arm-", "gcc", "armhf")
    source = Source(tmp_path, "1", "6.12.0", "linux", "1")
    work = tmp_path / "work"
    make = build._Make(kernel, source, work, tmp_path / "out", chain, Cache(tmp_path / "cache"))
    with pytest.raises(BuildFailed) as caught:
        make.everything(Phase("kernel", None))
    assert caught.value.what == f"mm/cma.c: In function 'f':\n{ERROR}"
    assert (caught.value.where, caught.value.next_step) == ("tuxmake", "see the log")
