"""Building the modules of kmod/ against a kernel."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from harness.cache import Cache, digest_tree
from harness.errors import BuildFailed
from harness.kernel.build import BuiltKernel
from harness.kernel.kunit_elf import NoDebugInformation, Suite, read_suites
from harness.kernel.make import environment
from harness.process import run
from harness.progress import Progress

KMOD = Path(__file__).resolve().parent.parent.parent / "kmod"
_SUITES = TypeAdapter(tuple[Suite, ...])
_SUITES_SUFFIX = ".suites.json"
_RECIPE = 3  # raise it when the steps below change what an entry holds
_MAKEFILES = ("Kbuild", "Makefile")
_FRAME = ".frame"  # which sources there are, and how they are put together
_OPTION = "$(CONFIG_"  # in a Kbuild file that asks for an option of the kernel's
_SOURCES = ("**/*.c", "**/*.h", "**/Kbuild", "**/Makefile")


@dataclass(frozen=True, slots=True)
class Modules(Mapping[str, Path]):
    """The modules of one build, by name (as the kernel has it), each with the path of its .ko."""

    key: str
    path: Path

    def suites(self, name: str) -> tuple[Suite, ...]:
        """Return the KUnit suites and cases that a module holds, as `note_suites` found them."""
        return noted_suites(self[name])

    def __getitem__(self, name: str) -> Path:
        found = next(self.path.glob(f"*/{name}.ko"), None)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in sorted(self.path.glob("*/*.ko")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def build(kernel: BuiltKernel, cache: Cache, progress: Progress, kmod: Path = KMOD) -> Modules:
    """Return kmod/'s modules for the kernel; the sources are copied first, never written to.

    Raises `BuildFailed` with the compiler's last words.
    """
    inputs = {"kernel": kernel.interface(), "kmod": digest_tree(kmod, _SOURCES), "recipe": _RECIPE}

    def compile_into(directory: Path) -> None:
        label = f"kmod-{cache.key({'kernel': kernel.interface(), 'kmod': str(kmod)})}"
        with cache.building(label) as work:
            folders = _copy_sources(kmod, work)
            _make(kernel, work, cache)
            for module in work.glob("*/*.ko"):
                note_suites(module)
            for folder in folders:
                _keep(work / folder, directory / folder)

    with progress.phase("modules", "building kmod/") as phase:
        entry = cache.make("modules", inputs, compile_into)
        modules = Modules(entry.key, entry.path)
        phase.note(f"{', '.join(modules)}{'' if entry.made else ' (cached)'}")
    return modules


def _copy_sources(kmod: Path, work: Path) -> list[str]:
    """Make the sources in `work` those of kmod/; return the folders that have modules.

    What did not change is not written to, so that make compiles what did alone. When a file is new
    or gone, or a Kbuild file has changed, it begins with nothing: an object could stay unnoticed.
    """
    wanted = {
        file.relative_to(kmod): file.read_bytes()
        for pattern in _SOURCES
        for file in kmod.glob(pattern)
    }
    folders = sorted(str(path.parent) for path in wanted if path.name == "Kbuild")
    wanted[Path("Kbuild")] = "".join(f"obj-m += {name}/\n" for name in folders).encode()
    frame = work / _FRAME
    plan = "".join(
        f"{path} {hashlib.sha256(data).hexdigest() if path.name in _MAKEFILES else ''}\n"
        for path, data in sorted(wanted.items())
    )
    if not frame.exists() or frame.read_text() != plan:
        shutil.rmtree(work)
        work.mkdir()
    for path, data in wanted.items():
        copy = work / path
        if not copy.exists() or copy.read_bytes() != data:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(data)
    frame.write_text(plan)
    return folders


def _make(kernel: BuiltKernel, work: Path, cache: Cache) -> None:
    prefix = kernel.toolchain.prefix
    run(
        [
            *("make", f"-j{os.cpu_count() or 1}", "-C", kernel.kdir, f"M={work}"),
            f"KCFLAGS=-ffile-prefix-map={work}=kmod",  # in WARN()s and debug information
            *("ARCH=arm", f"CROSS_COMPILE={prefix}", f"CC=ccache {prefix}gcc", "modules"),
        ],
        env=environment(cache),
        error=BuildFailed,
    )


def _keep(built: Path, folder: Path) -> None:
    """Put a folder's modules, with what was noted of them, into the entry."""
    folder.mkdir()
    for module in built.glob("*.ko"):
        for file in (module, module.with_suffix(_SUITES_SUFFIX)):
            shutil.copy2(file, folder)
    # One that asks for an option of the kernel's may have nothing for this one.
    asks = _OPTION in (built / "Kbuild").read_text()
    if not asks and not any(folder.iterdir()):
        raise BuildFailed(f"kbuild ended well, but made no module of kmod/{folder.name}")


def note_suites(module: Path, *, without: tuple[Suite, ...] | None = None) -> None:
    """Write what suites a new module holds beside it: reading its DWARF takes seconds.

    `without` is what to write of one that has suites, but no debug information to read them by;
    None raises `NoDebugInformation`.
    """
    noted = module.with_suffix(_SUITES_SUFFIX)
    if not noted.exists() or noted.stat().st_mtime_ns < module.stat().st_mtime_ns:
        noted.write_bytes(_SUITES.dump_json(_read(module, without)))


def _read(module: Path, without: tuple[Suite, ...] | None) -> tuple[Suite, ...]:
    try:
        return read_suites(module)
    except NoDebugInformation:
        if without is None:
            raise
        return without


def noted_suites(module: Path) -> tuple[Suite, ...]:
    """Return what `note_suites` has written of a module."""
    return _SUITES.validate_json(module.with_suffix(_SUITES_SUFFIX).read_bytes())
