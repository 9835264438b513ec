"""A kernel's make, and tuxmake around it: which words, flags and environment they are given."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.cache import Cache
from harness.config import Kernel
from harness.errors import BuildFailed, CommandFailed
from harness.kernel import diagnostics, kconfig
from harness.kernel.toolchain import Toolchain
from harness.kernel.tree import Source
from harness.process import run
from harness.progress import Phase

# `make all` would compile the trees of every board whose chip the kernel supports, hundreds for an
# i.MX; the one that is booted is harness/board/'s affair. dtstree: the top Makefile since 6.11
# (all: dtbs); KBUILD_DTBS: arch/arm/Makefile before.
# tuxmake 1.45 leaves out what is empty; make takes the blank away.
_NO_TREES = ("dtstree= ", "KBUILD_DTBS= ")
# As tuxmake has them with its wrapper; another compiler would have kconfig's programs made again.
_COMPILERS = ("CC=ccache $(CROSS_COMPILE)gcc", "HOSTCC=ccache gcc")

# Views tell statements apart that share an address, as all but one have no instruction left.
# Without them only the last has a line in the table; each instruction, and each variable that is
# somewhere, has what it had (seen of mm/cma.o). To make them is a fiftieth of a build.
_NO_VIEWS = "-gno-variable-location-views"

# One more than there are processors makes a build slower: two compilers to a processor's cache.
_JOBS = f"--jobs={os.cpu_count() or 1}"
# A compiler's memory in huge pages where the host gives them to who asks, and not piece by piece: a
# fifth of its page faults, a fiftieth of its time (glibc 2.35; before, of the faults a twentieth).
_MALLOC = ":".join(
    (
        *("glibc.malloc.hugetlb=1", f"glibc.malloc.top_pad={16 << 20}"),
        *(f"glibc.malloc.trim_threshold={1 << 30}", f"glibc.malloc.mmap_threshold={1 << 30}"),
    )
)

# What a caller's environment must not add to a build behind the cache key's back; make's own
# variables are there when the harness runs below `make test-arm`.
_NOT_INHERITED = (
    *("KBUILD_OUTPUT", "O", "M", "V", "W", "C", "KCONFIG_ALLCONFIG", "INSTALL_MOD_PATH"),
    *("KCFLAGS", "KAFLAGS", "KCPPFLAGS", "HOSTCFLAGS", "HOSTLDFLAGS", "LOCALVERSION", "CFLAGS"),
    *("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "GNUMAKEFLAGS"),
)


def environment(cache: Cache) -> Mapping[str, str | None]:
    """Return what a build's environment changes: ccache's ways, and nothing that is not keyed.

    ccache keeps its files in the user's own CCACHE_DIR, or in our cache. It goes by the files that
    the compiler read (depend mode): a source that it does not know is preprocessed once, not twice,
    which was a quarter of a first build. Preprocessed text it then knows nothing of, but has no use
    for it: of another configuration make itself compiles no more than what has changed.
    """
    return {
        **dict.fromkeys(_NOT_INHERITED),
        "CCACHE_DEPEND": "1",
        "CCACHE_DIR": os.environ.get("CCACHE_DIR", str(cache.root / "ccache")),
        "CCACHE_MAXSIZE": os.environ.get("CCACHE_MAXSIZE", "5G"),
    }


@dataclass(frozen=True, slots=True)
class Make:
    """A kernel's make, for one build directory."""

    kernel: Kernel
    source: Source
    work: Path
    output: Path
    toolchain: Toolchain
    cache: Cache

    @property
    def log(self) -> Path:
        """The build's whole output; it stays when the build fails."""
        return self.work.parent / f"{self.work.name}.txt"

    @property
    def note(self) -> Path:
        """What was built there last, source and configuration; none while it is being built."""
        return self.work.parent / f"{self.work.name}.built"

    def configure(self, requests: Iterable[kconfig.Request]) -> None:
        """Leave a .config in the build directory.

        The kernel's own script merges the requests into an empty configuration; what they make
        visible has its defaults. tuxmake 1.45 would evaluate all options four times for this, at
        2 s each, and start the script in the kernel's tree, where it (6.12) makes its temporary
        files.
        """
        work, tree = self.work, self.source.tree
        fragment = work.parent / f"{work.name}.config"
        fragment.write_text(kconfig.render(requests))
        auto = work / "include" / "config" / "auto.conf"
        known = auto.exists()
        self._configuration("allnoconfig")
        if not known:  # olddefconfig is to write it: else the build evaluates all once more
            auto.unlink(missing_ok=True)
        merge = str(tree / "scripts" / "kconfig" / "merge_config.sh")
        argv = ("sh", merge, "-m", "-O", work, work / ".config", fragment)
        run(argv, cwd=work, log=self.log, error=BuildFailed)
        self._configuration("olddefconfig")

    def _configuration(self, target: str) -> None:
        """Make one of kconfig's targets, with the compilers that tuxmake will name."""
        command = [
            *("make", "-C", str(self.source.tree), f"O={self.work}", "ARCH=arm", _JOBS),
            *(() if "LLVM" in self.kernel.make else _COMPILERS),
            *self._variables(),
            target,
        ]
        run(command, env=self._environment(), log=self.log, error=BuildFailed)

    def everything(self, phase: Phase) -> None:
        """Have tuxmake build the kernel and its modules, as configured."""
        compiled = 0

        def count(line: str) -> None:
            nonlocal compiled
            if line.startswith("  "):
                compiled += 1
                phase.step(f"{compiled} steps, {line.strip()}")

        command = [
            *(sys.executable, "-m", "tuxmake", "--runtime=null", "--target-arch=arm"),
            *("--toolchain=gcc", "--verbose", "--wrapper=ccache"),
            *(f"--build-dir={self.work}", f"--output-dir={self.output}"),
            *(f"--environment=KCFLAGS={self._flags()}", _JOBS),
            *self._variables(),
            "default",  # plain make; its other targets are this one, and more
        ]
        try:
            run(
                command,
                cwd=self.source.tree,
                env=self._environment(),
                log=self.log,
                on_line=count,
                error=BuildFailed,
            )
        except BuildFailed as problem:
            # tuxmake 1.45 goes on behind an error (make --keep-going): it is not among the last
            # words.
            lines = self.log.read_text(errors="replace").splitlines()
            raise BuildFailed(
                diagnostics.told(lines, {}), where=problem.where, next_step=problem.next_step
            ) from problem

    def _flags(self) -> str:
        """Return what the compiler is told beside what the configuration says; a blank is nothing.

        With nothing at all tuxmake 1.45 would have -ffile-prefix-map, a hundredth of a build.
        """
        if {"LLVM", "CC"} & self.kernel.make.keys():
            return " "
        try:
            run([f"{self.toolchain.prefix}gcc", _NO_VIEWS, "-E", "-x", "c", os.devnull])
        except CommandFailed:  # gcc 7 and before
            return " "
        return _NO_VIEWS

    def _environment(self) -> Mapping[str, str | None]:
        """Return a build's, in which ccache does not read headers that never change.

        They are some 600 of a file's, and half of the time that ccache takes.
        """
        settled = {}
        if self.source.settled:
            settled["CCACHE_IGNOREHEADERS"] = str(self.source.tree.resolve())  # as kbuild names it
        return {**environment(self.cache), "GLIBC_TUNABLES": _MALLOC, **settled}

    def _variables(self) -> Iterator[str]:
        yield f"CROSS_COMPILE={self.toolchain.prefix}"
        yield from _NO_TREES
        yield from (f"{name}={value}" for name, value in self.kernel.make.items())
