"""What a kernel exports to modules, and why it does not export what a module wants."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.config import load_departed
from harness.kernel.build import BuiltKernel

_EXPORT = re.compile(r"^EXPORT_(?:\w*SYMBOL\w*)\(\s*(\w+)", re.M)
_OBJECTS = r"obj-\$\((CONFIG_\w+)\)[^\n]*?(?:\\\n[^\n]*?)*\b{}\.o\b"
_NO_KERNEL = ("Documentation", "samples", "scripts", "tools", "usr")


@dataclass(frozen=True, slots=True)
class Export:
    """An exported symbol: whose it is, whether only GPL modules get it, and its namespace."""

    owner: str
    gpl: bool = False
    namespace: str = ""


def exports(symvers: Path) -> dict[str, Export]:
    """Read Module.symvers: CRC, symbol, owner, kind of export, namespace, a tab between them."""
    found = {}
    for line in symvers.read_text().splitlines():
        _, name, owner, kind, *rest = line.split("\t")
        found[name] = Export(owner, kind.endswith("_GPL"), rest[0] if rest else "")
    return found


def why_missing(names: Iterable[str], kernel: BuiltKernel) -> dict[str, str]:
    """Say of each symbol why a module cannot have it, to go on behind "which"."""
    wanted = set(names)
    if not wanted:
        return {}
    symbols = (kernel.path / "System.map").read_text().splitlines()
    inside = {line.rpartition(" ")[2] for line in symbols}
    gone = load_departed()
    places = _exporters(wanted - inside - gone.keys(), kernel.source)
    told = {}
    for name in wanted:
        if name in inside:
            told[name] = "the kernel has but does not export to modules"
        elif name in places:
            told[name] = places[name]
        else:
            told[name] = "no file of this kernel's source exports"
        if name in gone:
            told[name] += f": {gone[name]}"
    return told


def _exporters(wanted: set[str], tree: Path) -> Mapping[str, str]:
    """Find the files of the source that export symbols, and the options that build those.

    It reads most C files of the tree, which takes seconds; to be asked when something is missing.
    """
    found: dict[str, str] = {}
    for file in _sources(tree) if wanted else ():
        text = file.read_bytes()
        if any(name.encode() in text for name in wanted):
            for name in wanted.intersection(_EXPORT.findall(text.decode("utf-8", "replace"))):
                option = _option(file)
                built = f", which {option} builds" if option else ", which is not built"
                found[name] = f"{file.relative_to(tree)} exports{built}"
    return found


def _sources(tree: Path) -> Iterator[Path]:
    """Yield the C files of what can be in a kernel for ARM."""
    for folder in sorted(tree.iterdir()):
        place = folder / "arm" if folder.name == "arch" else folder
        if folder.name not in _NO_KERNEL and place.is_dir():
            yield from place.rglob("*.c")


def _option(file: Path) -> str:
    """Return the CONFIG_ that the folder's Makefile names for a file, "" for none."""
    makefile = file.parent / "Makefile"
    text = makefile.read_text(errors="replace") if makefile.is_file() else ""
    match = re.search(_OBJECTS.format(re.escape(file.stem)), text)
    return match[1] if match else ""
