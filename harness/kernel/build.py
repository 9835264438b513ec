"""Building a kernel with tuxmake, and keeping of the build what later steps need."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

from harness.cache import Cache, digest_file
from harness.config import Kernel, Userland
from harness.errors import BuildFailed, CommandFailed, MissingTool, UsageError
from harness.kernel import diagnostics, kconfig
from harness.kernel.seeding import seed, touch_changed
from harness.kernel.tree import Source
from harness.process import find, run
from harness.progress import Phase, Progress

_RECIPE = 2  # raise it when the steps below change what an entry holds
# What `make M=` needs of a build directory; objects and archives are most of its size.
_NOT_FOR_MODULES = shutil.ignore_patterns("*.o", "*.a", "*.cmd", "vmlinux*", "*Image")
# What `make M=` reads of it.
_FOR_MODULES = (".config", "Module.symvers", "include", "arch/arm/include", "scripts")


# Debian's cross compilers, by the architecture whose programs they make. One for armhf links its
# programs with a libgcc and a libc that are ARMv7 code.
_PREFIXES: Mapping[Userland, str] = {
    "armhf": "arm-linux-gnueabihf-",
    "armel": "arm-linux-gnueabi-",
}


@dataclass(frozen=True, slots=True)
class Toolchain:
    """The cross compiler: its prefix, and what tells one installation from another.

    `userland` is Debian's architecture whose programs run beside the kernels it builds.
    """

    prefix: str
    identity: str
    userland: Userland


@dataclass(frozen=True, slots=True)
class BuiltKernel:
    """A kernel in the cache: boot image, symbols, configuration, and a tree to build modules in."""

    key: str
    version: str
    path: Path
    source: Path
    toolchain: Toolchain
    source_interface: str

    def interface(self) -> str:
        """Return a digest of all that modules are built from; code inside vmlinux is not.

        So a change of a .c file builds no module again, unless it moves an exported symbol or a
        generated header. utsversion.h has the number and the time of the build in it, and only
        init/ includes it.
        """
        return _interface(self)

    @property
    def zimage(self) -> Path:
        """The compressed image QEMU boots."""
        return self.path / "zImage"

    @property
    def vmlinux(self) -> Path:
        """The ELF with DWARF, for symbols."""
        return self.path / "vmlinux"

    @property
    def dotconfig(self) -> Path:
        """The configuration it was built with."""
        return self.path / "kdir" / ".config"

    def option(self, symbol: str) -> str:
        """Return the value of a CONFIG_ symbol in that configuration; "n" when it is not set."""
        return kconfig.settings(self.dotconfig.read_text()).get(symbol, kconfig.UNSET)

    @property
    def kdir(self) -> Path:
        """What `make -C KDIR M=…` takes."""
        return self.path / "kdir"

    @property
    def gen_init_cpio(self) -> Path:
        """The kernel's own program that makes an initramfs without root."""
        return self.path / "kdir" / "usr" / "gen_init_cpio"


def toolchain(userland: Userland = "armhf") -> Toolchain:
    """Return the cross compiler that CROSS_COMPILE names, else Debian's; no compiler is started.

    `userland` is Debian's architecture of the guest.

    Raises `UsageError` when ARCH is set to anything but arm, `MissingTool` without a compiler.
    """
    if os.environ.get("ARCH", "arm") != "arm":
        raise UsageError(
            f"ARCH={os.environ['ARCH']}: the harness builds 32-bit ARM kernels only",
            where="environment",
            next_step="unset ARCH",
        )
    prefix = os.environ.get("CROSS_COMPILE", _PREFIXES[userland])
    try:
        compiler = find(f"{prefix}gcc").resolve()
    except MissingTool as error:
        raise MissingTool(
            error.what,
            where=f"CROSS_COMPILE={prefix}",
            next_step=f"set CROSS_COMPILE to a compiler that is there, or: {error.next_step}",
        ) from error
    status = compiler.stat()
    identity = f"{compiler.name}:{status.st_size}:{status.st_mtime_ns}"
    return Toolchain(prefix, identity, userland)


@cache
def _interface(kernel: BuiltKernel) -> str:
    """Read its files once; several steps ask."""
    whole = hashlib.sha256(f"{kernel.source_interface}\0{kernel.toolchain.identity}\0".encode())
    for name in _FOR_MODULES:
        place = kernel.kdir / name
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file() and file.name != "utsversion.h":
                whole.update(f"{file.relative_to(kernel.kdir)}\0{digest_file(file)}\n".encode())
    return whole.hexdigest()[:16]


def build(kernel: Kernel, source: Source, cache: Cache, progress: Progress) -> BuiltKernel:
    """Return the kernel, configured, verified and compiled if the cache has it not.

    Raises `ConfigError` for an option that did not survive, `BuildFailed` with the compiler's
    complaints.
    """
    requests = kconfig.read_fragments(kernel.fragments(), source.version)
    chain = toolchain(kernel.userland)
    inputs = {
        "source": source.identity,
        "version": source.version,
        "config": kconfig.render(requests),
        "toolchain": chain.identity,
        "tuxmake": version("tuxmake"),
        "recipe": _RECIPE,
    } | ({"make": dict(kernel.make)} if kernel.make else {})

    named = f"linux {source.version} ({kernel.family}, {kernel.variant})"
    with progress.phase("kernel", named) as phase:

        def compile_into(directory: Path) -> None:
            progress.say(
                f"kernel   building {source.version}: several minutes without a warm ccache"
            )
            with workdir(cache, source, kernel.family) as work:
                make = _Make(kernel, source, work, directory, chain, cache)
                seeded = _seeded(make, requests, progress, phase)
                _compile(make, requests, phase)
                _keep(work, directory)
                if seeded:  # as it can be again, and takes 700 MB
                    shutil.rmtree(work)

        entry = cache.make("kernel", inputs, compile_into)
        phase.note(f"linux {source.version} {entry.key}{'' if entry.made else ' (cached)'}")
    return BuiltKernel(entry.key, source.version, entry.path, source.tree, chain, source.interface)


@contextmanager
def workdir(cache: Cache, source: Source, family: str) -> Iterator[Path]:
    """Give the directory that the kernel is built in, to one run at a time.

    Its name is stable, so that make and ccache see the same paths again; a variant shares it, as
    ccache then has what the variant leaves as it is. Of another family's kernel nothing is the
    same. KBUILD_OUTPUT, when it is set, is used instead.
    """
    label = f"{source.label}-{family}"
    chosen = os.environ.get("KBUILD_OUTPUT")
    if chosen is None:
        with cache.building(label) as work:
            yield work
        return
    with cache.lock(f"build-{label}"):
        work = Path(chosen).absolute()
        work.mkdir(parents=True, exist_ok=True)
        yield work


def _compile(make: _Make, requests: Sequence[kconfig.Request], phase: Phase) -> None:
    """Configure and build the kernel in the build directory, and note what was built there."""
    make.log.unlink(missing_ok=True)
    make.note.unlink(missing_ok=True)
    _configure(make, requests)
    kconfig.verify(requests, (make.work / ".config").read_text(), make.source.tree)
    make.everything(phase)
    make.note.write_text(_built(make.source, requests))


def _built(source: Source, requests: Iterable[kconfig.Request]) -> str:
    return f"{source.identity}\n{kconfig.render(requests)}"


def _seeded(
    make: _Make, requests: Sequence[kconfig.Request], progress: Progress, phase: Phase
) -> bool:
    """Begin a patched kernel's build with that of the unpatched one, if that was ever built.

    ccache has nothing for a patched one, as it goes by the paths of the sources. For the unpatched
    one it has much: so when another variant was built there last, that is built again first.
    """
    original = make.source.original
    if original is None:
        return False
    with workdir(make.cache, original, make.kernel.family) as known:
        if make.work == known or not (known / ".config").exists():
            return False
        with tempfile.TemporaryDirectory(prefix="cma-kernel-") as images:
            theirs = replace(make, source=original, work=known, output=Path(images))
            if not theirs.note.exists() or theirs.note.read_text() != _built(original, requests):
                _compile(theirs, requests, phase)
        if not seed(make.work, make.source.tree, known, original.tree, progress):
            return False
    touch_changed(make.source.tree, original.tree)
    return True


def _configure(make: _Make, requests: Iterable[kconfig.Request]) -> None:
    """Leave a .config in the build directory.

    The kernel's own script merges the requests into an empty configuration; what they make visible
    has its defaults. tuxmake 1.45 would evaluate all options four times for this, at 2 s each, and
    start the script in the kernel's tree, where it (6.12) makes its temporary files.
    """
    work, tree = make.work, make.source.tree
    fragment = work.parent / f"{work.name}.config"
    fragment.write_text(kconfig.render(requests))
    auto = work / "include" / "config" / "auto.conf"
    known = auto.exists()
    make.configuration("allnoconfig")
    if not known:  # for olddefconfig to write it, or the build would begin with a third evaluation
        auto.unlink(missing_ok=True)
    merge = str(tree / "scripts" / "kconfig" / "merge_config.sh")
    argv = ("sh", merge, "-m", "-O", work, work / ".config", fragment)
    run(argv, cwd=work, log=make.log, error=BuildFailed)
    make.configuration("olddefconfig")


@dataclass(frozen=True, slots=True)
class _Make:
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

    def configuration(self, target: str) -> None:
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
        return {**build_environment(self.cache), "GLIBC_TUNABLES": _MALLOC, **settled}

    def _variables(self) -> Iterator[str]:
        yield f"CROSS_COMPILE={self.toolchain.prefix}"
        yield from _NO_TREES
        yield from (f"{name}={value}" for name, value in self.kernel.make.items())


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


def build_environment(cache: Cache) -> Mapping[str, str | None]:
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


# Since 6.13 ("kbuild: allow to start building external modules in any directory", 8cd07cc6c88c) the
# Makefile of a build directory names that directory, and in a copy of it `make M=` would leave the
# modules in the copy.
_OUTPUT = re.compile(r"^export KBUILD_OUTPUT = .*$", re.M)
_HERE = "export KBUILD_OUTPUT := $(realpath $(dir $(lastword $(MAKEFILE_LIST))))"


def _keep(work: Path, directory: Path) -> None:
    kdir = directory / "kdir"
    shutil.copytree(work, kdir, symlinks=True, ignore=_NOT_FOR_MODULES)
    makefile = kdir / "Makefile"
    makefile.write_text(_OUTPUT.sub(_HERE, makefile.read_text()))
    shutil.copy2(work / "arch" / "arm" / "boot" / "zImage", directory / "zImage")
    shutil.copy2(work / "vmlinux", directory / "vmlinux")
    shutil.copy2(work / "System.map", directory / "System.map")
