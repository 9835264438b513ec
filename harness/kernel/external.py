"""External modules: a user's .c file, Kbuild directory or .ko, built against a cell's kernel.

The word is kbuild's (Documentation/kbuild/modules.rst). What is built is a copy: the user's
directory is only read. A module that does not compile, or that the kernel would refuse, is an
error before any boot.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cache import Cache, digest_file, digest_tree
from harness.config import CONFIGS, load_departed
from harness.errors import BuildFailed, HarnessError, UsageError
from harness.kernel import loadable
from harness.kernel.build import BuiltKernel
from harness.kernel.diagnostics import told
from harness.kernel.kunit_elf import Suite
from harness.kernel.make import environment
from harness.kernel.modinfo import ModuleInfo, module_info
from harness.kernel.modules import note_suites, noted_suites
from harness.process import run
from harness.progress import Progress

_RECIPE = 2  # raise it when the steps below change what an entry holds
_KBUILD_FILES = ("Kbuild", "Makefile")
_SOURCE, _GUEST = "source", "guest"  # in a cache entry: the copy and its .ko; those without DWARF
# What a build in the user's directory left there; .git and the like begin with a dot.
_LEFT = shutil.ignore_patterns(
    *("*.o", "*.ko", "*.mod", "*.mod.c", "*.cmd", "*.a", ".*", "modules.order", "Module.symvers")
)
OLD_API = CONFIGS / "old_api"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `--module PATH[:NAME=VALUE ...]` asks for."""

    path: Path
    parameters: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Wanted:
        """Read the option; UsageError when nothing is there, or nothing that can be a module."""
        path, _, words = text.partition(":") if not Path(text).exists() else (text, "", "")
        found = Path(path).absolute()
        if not found.exists():
            raise UsageError(
                "there is no such file or directory",
                where=f"--module {path}",
                next_step="give a .c file, a directory with a Kbuild file or Makefile, or a .ko",
            )
        if found.is_dir() and not any((found / name).is_file() for name in _KBUILD_FILES):
            sources = ", ".join(sorted(file.name for file in found.glob("*.c"))[:5])
            raise UsageError(
                f"the directory has neither {' nor '.join(_KBUILD_FILES)}",
                where=f"--module {path}",
                next_step=f"give one of its files ({sources}), or add a Kbuild with obj-m := NAME.o"
                if sources
                else "add a Kbuild with a line obj-m := NAME.o",
            )
        if not found.is_dir() and found.suffix not in (".c", ".ko"):
            raise UsageError(
                "is neither a .c file, nor a .ko, nor a directory",
                where=f"--module {path}",
                next_step="for a Kbuild file or Makefile give its directory",
            )
        return cls(found, tuple(words.split()))


@dataclass(frozen=True, slots=True)
class Request:
    """The modules that a run asks for; `old_api` gives their sources configs/old_api/."""

    wanted: tuple[Wanted, ...] = ()
    old_api: bool = False


NONE = Request()


@dataclass(frozen=True, slots=True)
class External:
    """A module of the user's, ready to be loaded.

    `origin` is what he gave; `ko` has the debug information, `stripped` goes into the guest;
    `suites` are its KUnit suites, as far as they can be known before they run; `needs` the names
    of the other external modules that must be there before it.
    """

    origin: Path
    ko: Path
    stripped: Path
    info: ModuleInfo
    suites: tuple[Suite, ...] = ()
    parameters: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name, as the kernel has it."""
        return self.info.name

    @property
    def place(self) -> str:
        """Where it is in the guest."""
        return f"/lib/external/{self.name}.ko"


def obtain(
    request: Request, kernel: BuiltKernel, reference: Path, cache: Cache, progress: Progress
) -> tuple[External, ...]:
    """Build what is wanted, check that the kernel will take it, and put it in loading order.

    `reference` is a module that was built for this kernel. Raises `UsageError` with all that is
    wrong.
    """
    found: list[External] = []
    for each in request.wanted:
        with progress.phase("module", f"building {each.path.name}") as phase:
            entry, made = _made(each.path, kernel, cache, old_api=request.old_api)
            built = list(_opened(each, entry))
            phase.note(f"{', '.join(m.name for m in built)}{'' if made else ' (cached)'}")
        found += built
    ordered = _in_order(found)
    if ordered:
        loadable.require([module.ko for module in ordered], kernel, reference)
    return ordered


def _made(path: Path, kernel: BuiltKernel, cache: Cache, *, old_api: bool) -> tuple[Path, bool]:
    """Return the cache entry of a module, and whether it had to be made."""
    inputs: dict[str, object] = {
        "name": path.name,
        "recipe": _RECIPE,
        "toolchain": kernel.toolchain.identity,
    }
    if path.suffix == ".ko":
        inputs["ko"] = digest_file(path)
    else:
        inputs |= {"kernel": kernel.interface(), "sources": _digest(path)}
        inputs["old_api"] = digest_tree(OLD_API) if old_api else ""
    lines: list[str] = []

    def fill(directory: Path) -> None:
        source = directory / _SOURCE
        source.mkdir()
        if path.suffix == ".ko":
            _require_module(path)
            shutil.copyfile(path, source / path.name)
        else:
            _copy(path, source)
            _compile(path, source, kernel, cache, lines, old_api=old_api)
        (directory / _GUEST).mkdir()
        for ko in source.rglob("*.ko"):
            stripped = directory / _GUEST / ko.name
            run([f"{kernel.toolchain.prefix}strip", "-g", "-o", stripped, ko])
            note_suites(ko, without=())

    try:
        entry = cache.make("external", inputs, fill)
    except BuildFailed as error:
        raise UsageError(
            f"does not compile for linux {kernel.version}:\n{told(lines, load_departed())}",
            where=str(path),
            next_step="mend it" + ("" if old_api else "; for one of older kernels --module-compat"),
        ) from error
    return entry.path, entry.made


def _require_module(ko: Path) -> None:
    """Say what is wrong with a user's .ko; as a file of ours it would be the host's fault."""
    try:
        module_info(ko)
    except HarnessError as error:
        raise UsageError(error.what, where=error.where, next_step=error.next_step) from error


def _digest(path: Path) -> str:
    if path.is_dir():
        return digest_tree(path, ("**/[!.]*",))
    return digest_tree(path.parent, (path.name, "*.h"))


def _copy(path: Path, source: Path) -> None:
    """Copy what is to be built: of a single file also the headers that lie beside it."""
    if path.is_dir():
        shutil.copytree(path, source, ignore=_LEFT, dirs_exist_ok=True)
        return
    for file in (path, *path.parent.glob("*.h")):
        shutil.copyfile(file, source / file.name)
    (source / "Kbuild").write_text(f"obj-m := {path.stem}.o\n")


def _compile(
    path: Path, source: Path, kernel: BuiltKernel, cache: Cache, lines: list[str], *, old_api: bool
) -> None:
    """Run kbuild on the copy; `lines` gets what it prints, with the user's paths in it."""
    prefix = kernel.toolchain.prefix
    home = path if path.is_dir() else path.parent
    shown = f"{re.sub(r'[^A-Za-z0-9._+-]', '_', path.name)}/" if path.is_dir() else ""
    flags = [f"-ffile-prefix-map={source}/={shown}"]  # in WARN()s and debug information
    if old_api:
        # A .remove() that still returns an int (until 6.11) does no harm: nobody looks at it.
        flags += [f"-I{OLD_API}", f"-include {OLD_API / 'old_api.h'}"]
        flags += ["-Wno-error=incompatible-pointer-types"]
    run(
        [
            *("make", f"-j{os.cpu_count() or 1}", "-C", kernel.kdir, f"M={source}"),
            *("ARCH=arm", f"CROSS_COMPILE={prefix}", f"CC=ccache {prefix}gcc"),
            # Symbols that nobody exports are told by harness/kernel/loadable.py, which knows why.
            *(f"KCFLAGS={' '.join(flags)}", "KBUILD_MODPOST_WARN=1", "modules"),
        ],
        cwd=source,
        env={**environment(cache), "PWD": str(source)},  # Makefiles have -I$(PWD)
        on_line=lambda line: lines.append(line.replace(str(source), str(home))),
        error=BuildFailed,
    )
    if not any(source.rglob("*.ko")):
        raise UsageError(
            "kbuild made no module of it",
            where=str(path),
            next_step="its Kbuild file or Makefile needs a line obj-m := NAME.o that does not "
            "depend on a CONFIG_ of a kernel tree",
        )


def _opened(wanted: Wanted, entry: Path) -> Iterator[External]:
    modules = [(ko, module_info(ko)) for ko in sorted((entry / _SOURCE).rglob("*.ko"))]
    loadable.require_parameters(
        wanted.parameters, [info for _, info in modules], where=str(wanted.path)
    )
    for ko, info in modules:
        yield External(
            origin=wanted.path,
            ko=ko,
            stripped=entry / _GUEST / ko.name,
            info=info,
            suites=noted_suites(ko),
            parameters=tuple(
                word for word in wanted.parameters if word.partition("=")[0] in info.parameters
            ),
        )


def _in_order(modules: Sequence[External]) -> tuple[External, ...]:
    """Put each behind those that it depends on, else in the order given."""
    names = [module.name for module in modules]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(f"two modules are called {', '.join(sorted(twice))}", where="--module")
    known = {module.name: module for module in modules}
    ordered: dict[str, External] = {}

    def visit(module: External, above: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Place all that a module needs, then itself; return the names of what it needs."""
        needs: dict[str, None] = {}
        for name in module.info.depends:
            if name in known and name not in above:
                needs |= dict.fromkeys((*visit(known[name], (*above, module.name)), name))
        ordered.setdefault(module.name, replace(module, needs=tuple(needs)))
        return tuple(needs)

    for module in modules:
        visit(module)
    return tuple(ordered.values())
