"""Building a kernel in its build directory, and keeping of the build what later steps need."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

from harness.cache import Cache, digest_file
from harness.config import Kernel
from harness.kernel import kconfig
from harness.kernel.make import Make
from harness.kernel.seeding import seed, touch_changed
from harness.kernel.toolchain import Toolchain, toolchain
from harness.kernel.tree import Source
from harness.progress import Phase, Progress

_RECIPE = 2  # raise it when the steps below, or those of make.py, change what an entry holds
# What `make M=` needs of a build directory; objects and archives are most of its size.
_NOT_FOR_MODULES = shutil.ignore_patterns("*.o", "*.a", "*.cmd", "vmlinux*", "*Image")
# What `make M=` reads of it.
_FOR_MODULES = (".config", "Module.symvers", "include", "arch/arm/include", "scripts")


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
                make = Make(kernel, source, work, directory, chain, cache)
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


def _compile(make: Make, requests: Sequence[kconfig.Request], phase: Phase) -> None:
    """Configure and build the kernel in the build directory, and note what was built there."""
    make.log.unlink(missing_ok=True)
    make.note.unlink(missing_ok=True)
    make.configure(requests)
    kconfig.verify(requests, (make.work / ".config").read_text(), make.source.tree)
    make.everything(phase)
    make.note.write_text(_built(make.source, requests))


def _built(source: Source, requests: Iterable[kconfig.Request]) -> str:
    return f"{source.identity}\n{kconfig.render(requests)}"


def _seeded(
    make: Make, requests: Sequence[kconfig.Request], progress: Progress, phase: Phase
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
