"""Whether a kernel will take a module, told before the boot instead of by insmod.

What the kernel itself checks (kernel/module/main.c, 6.12): the file is a relocatable ELF for its
machine, struct module has the size that it expects (elf_validity_cache_index_mod), the version
magic is its own (check_modinfo), and each symbol is exported, to modules of that license and that
namespace (resolve_symbol). insmod's answer is one errno for all of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.config.reading import nearest
from harness.errors import UsageError
from harness.kernel.build import BuiltKernel
from harness.kernel.exports import Export, exports, why_missing
from harness.kernel.modinfo import THIS_MODULE, ModuleInfo, module_info

# What the words of a version magic stand for (include/linux/vermagic.h, and arch/arm's).
_WORDS = {
    "SMP": "CONFIG_SMP",
    "preempt": "CONFIG_PREEMPT",
    "preempt_rt": "CONFIG_PREEMPT_RT",
    "mod_unload": "CONFIG_MODULE_UNLOAD",
    "modversions": "CONFIG_MODVERSIONS",
    "thumb2": "CONFIG_THUMB2_KERNEL",
    "p2v8": "CONFIG_ARM_PATCH_PHYS_VIRT",
}


def require(kos: Sequence[Path], kernel: BuiltKernel, reference: Path) -> None:
    """Raise `UsageError` with all that keeps the kernel from loading the modules in this order.

    `reference` is a module that was built for this kernel.
    """
    known = exports(kernel.kdir / "Module.symvers")
    own = module_info(reference)
    names: set[str] = set()
    problems: list[str] = []
    for ko in kos:
        info = module_info(ko)
        wrong = [*_misfits(info, own), *_unmet(info, names), *_unresolved(info, known, kernel)]
        problems += [f"{info.name}: {each}" for each in wrong]
        names.add(info.name)
        known |= {name: Export(info.name) for name in info.exports}
    if problems:
        raise UsageError(
            f"linux {kernel.version} will not load it\n  " + "\n  ".join(problems),
            where="--module",
            next_step="change what it uses, or give its source instead of a .ko: it is built for "
            "this kernel then",
        )


def require_parameters(words: Sequence[str], infos: Sequence[ModuleInfo], *, where: str) -> None:
    """Raise `UsageError` for a parameter that no module has: the kernel would only log it."""
    known = sorted({name for info in infos for name in info.parameters})
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in known or not equals:
            raise UsageError(
                f"there is no parameter {name!r}{nearest(name, known)}"
                if equals
                else f"{word!r} is no NAME=VALUE",
                where=where,
                next_step=f"choose of: {', '.join(known)}" if known else "it has no parameters",
            )


def _misfits(info: ModuleInfo, own: ModuleInfo) -> Iterator[str]:
    """Yield what is wrong with the module as a file, beside a module that fits."""
    if not info.struct_size:
        yield f"has no {THIS_MODULE}: it is an object file that modpost has not finished"
    elif info.struct_size != own.struct_size:
        yield (
            f"its struct module has {info.struct_size} bytes, this kernel's {own.struct_size}: "
            "it was built with another configuration"
        )
    if info.vermagic != own.vermagic:
        yield (
            f"vermagic '{info.vermagic}', the kernel wants '{own.vermagic}'"
            f" ({'; '.join(_differences(info.vermagic, own.vermagic))})"
        )
    if not info.license:
        yield "has no MODULE_LICENSE()"


def _differences(module: str, kernel: str) -> Iterator[str]:
    """Yield how two version magics differ, word by word."""
    (release, *has), (wanted, *wants) = (text.split() or [""] for text in (module, kernel))
    if release != wanted:
        yield f"for linux {release or 'unknown'}, not {wanted}"
    for word in sorted({*has} ^ {*wants}):
        option = f" ({_WORDS[word]})" if word in _WORDS else ""
        yield f"{'without' if word in wants else 'with'} {word}{option}"


def _unmet(info: ModuleInfo, loaded: set[str]) -> Iterator[str]:
    for name in info.depends:
        if name not in loaded:
            yield f"depends on the module {name}: give that with --module too"


def _unresolved(
    info: ModuleInfo, known: Mapping[str, Export], kernel: BuiltKernel
) -> Iterator[str]:
    missing = [name for name in info.undefined if name not in known]
    reasons = why_missing(missing, kernel)
    for name in missing:
        yield f"needs {name}, which {reasons[name]}"
    for name in info.undefined:
        export = known.get(name)
        if export and export.gpl and not info.gpl:
            license = f"its license is '{info.license}'" if info.license else "it tells no license"
            yield f"needs {name}, which is exported to GPL modules only, and {license}"
        if export and export.namespace and export.namespace not in info.namespaces:
            yield f"needs {name}: MODULE_IMPORT_NS({export.namespace}) is missing"
