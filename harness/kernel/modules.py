"""Building the modules of kmod/ against a kernel."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from harness.cache import Cache, digest_tree
from harness.errors import BuildFailed
from harness.kernel.build import BuiltKernel, build_environment
from harness.kernel.kunit_elf import Suite, read_suites
from harness.process import run
from harness.progress import Progress

KMOD = Path(__file__).resolve().parent.parent.parent / "kmod"
_SUITES = TypeAdapter(tuple[Suite, ...])
_SUITES_SUFFIX = ".suites.json"
_RECIPE = 2  # raise it when the steps below change what an entry holds
_SOURCES = ("**/*.c", "**/*.h", "**/Kbuild", "**/Makefile")


@dataclass(frozen=True, slots=True)
class Modules(Mapping[str, Path]):
    """The modules of one build, by name (as the kernel has it), each with the path of its .ko."""

    key: str
    path: Path

    def suites(self, name: str) -> tuple[Suite, ...]:
        """Return the KUnit suites and cases that a module holds, as `_note_suites` found them."""
        return _SUITES.validate_json(self[name].with_suffix(_SUITES_SUFFIX).read_bytes())

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
        for pattern in _SOURCES:
            for file in kmod.glob(pattern):
                copy = directory / file.relative_to(kmod)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
        folders = sorted(kbuild.parent.name for kbuild in directory.glob("*/Kbuild"))
        (directory / "Kbuild").write_text("".join(f"obj-m += {name}/\n" for name in folders))
        prefix = kernel.toolchain.prefix
        run(
            [
                *("make", f"-j{os.cpu_count() or 1}", "-C", kernel.kdir, f"M={directory}"),
                f"KCFLAGS=-ffile-prefix-map={directory}=kmod",  # in WARN()s and debug information
                *("ARCH=arm", f"CROSS_COMPILE={prefix}", f"CC=ccache {prefix}gcc", "modules"),
            ],
            env=build_environment(cache),
            error=BuildFailed,
        )
        for folder in folders:
            if not any((directory / folder).glob("*.ko")):
                raise BuildFailed(f"kbuild ended well, but made no module of kmod/{folder}")
        for module in directory.glob("*/*.ko"):
            _note_suites(module)

    with progress.phase("modules", "building kmod/") as phase:
        entry = cache.make("modules", inputs, compile_into)
        modules = Modules(entry.key, entry.path)
        phase.note(f"{', '.join(modules)}{'' if entry.made else ' (cached)'}")
    return modules


def _note_suites(module: Path) -> None:
    """Write what suites the module holds beside it: reading its DWARF takes seconds."""
    module.with_suffix(_SUITES_SUFFIX).write_bytes(_SUITES.dump_json(read_suites(module)))
