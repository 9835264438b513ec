"""What a module's .ko says of itself and of what it needs, read before any boot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.kernel.elf import open_elf, reading

THIS_MODULE = ".gnu.linkonce.this_module"  # where struct module of the module itself lies
_EXPORTED = "__ksymtab_"  # begins the names of the entries of the table of exported symbols
_GPL = frozenset(  # license_is_gpl_compatible(), include/linux/license.h, 6.12
    (
        "GPL",
        "GPL v2",
        "GPL and additional rights",
        "Dual BSD/GPL",
        "Dual MIT/GPL",
        "Dual MPL/GPL",
    )
)
_DECLARED, _SHARES = "cma_harness", "shares_guest"


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """What a module says of itself, and what it needs.

    `undefined` are the symbols that the kernel or another module has to export, weak ones left
    out, sorted; `exports` those that it offers itself. `struct_size` is the size in bytes of the
    struct module that it was built with, 0 when there is none. `lasting`: it has an init function
    and no exit function, and the kernel never unloads it (kernel/module/main.c, delete_module()).
    """

    name: str
    vermagic: str
    license: str = ""
    depends: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    struct_size: int = 0
    lasting: bool = False
    shares_guest: bool = False

    @property
    def gpl(self) -> bool:
        """Whether its license lets it use what is exported with EXPORT_SYMBOL_GPL()."""
        return self.license in _GPL


def shares_guest(ko: Path) -> bool:
    """Whether the module says that its cases need no guest of their own.

    It says so with MODULE_INFO(cma_harness, "shares_guest"). HarnessError as for `module_info`.
    """
    with reading(ko):
        section = open_elf(ko).get_section_by_name(".modinfo")
        return section is not None and f"{_DECLARED}={_SHARES}".encode() in section.data().split(
            b"\0"
        )


def module_info(ko: Path) -> ModuleInfo:
    """Read a module's own words and its symbols.

    HarnessError if the file is no module of 32-bit ARM or is damaged.
    """
    with reading(ko):
        elf = open_elf(ko)
        section, symbols = elf.get_section_by_name(".modinfo"), elf.get_section_by_name(".symtab")
        if elf["e_type"] != "ET_REL" or section is None or symbols is None:
            raise HarnessError(
                "is not a kernel module: it is no relocatable file with .modinfo and symbols",
                where=str(ko),
                next_step="give the .ko that modpost wrote, not the .o, and do not strip it",
            )
        pairs = [line.partition("=") for line in section.data().decode().split("\0") if line]
        said = {key: value for key, _, value in pairs}
        whole = elf.get_section_by_name(THIS_MODULE)
        names = tuple(_names(symbols))
        defined = {name for name, kind in names if kind == "defined"}
        return ModuleInfo(
            name=said.get("name", ko.stem.replace("-", "_")),
            vermagic=said.get("vermagic", "").rstrip(),
            license=said.get("license", ""),
            depends=tuple(name for name in said.get("depends", "").split(",") if name),
            parameters=tuple(
                value.partition(":")[0] for key, _, value in pairs if key == "parmtype"
            ),
            namespaces=tuple(value for key, _, value in pairs if key == "import_ns"),
            undefined=tuple(sorted(name for name, kind in names if kind == "undefined")),
            exports=tuple(
                sorted(name[len(_EXPORTED) :] for name in defined if name.startswith(_EXPORTED))
            ),
            struct_size=whole["sh_size"] if whole is not None else 0,
            shares_guest=said.get(_DECLARED) == _SHARES,
            lasting="init_module" in defined and "cleanup_module" not in defined,
        )


def _names(symbols: Any) -> Iterator[tuple[str, str]]:
    """Give the symbols' names, and whether each is defined here, undefined, or neither (weak)."""
    for symbol in symbols.iter_symbols():
        if symbol.name and symbol["st_shndx"] != "SHN_UNDEF":
            yield symbol.name, "defined"
        elif symbol.name:
            strong = symbol["st_info"]["bind"] == "STB_GLOBAL"
            yield symbol.name, "undefined" if strong else "weak"
