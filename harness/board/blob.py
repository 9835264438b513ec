"""A device tree from a file of the user's: a .dtb as it is, a .dts compiled as the kernel does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import libfdt

from harness.board.tree import DeviceTreeError
from harness.errors import ConfigError, UsageError
from harness.process import run


def read(file: Path, include: Sequence[Path] = (), cpp: str = "cpp") -> bytes:
    """Return the blob; `include` are further folders for what a .dts includes, `cpp` reads it.

    Raises `UsageError` without the file, `DeviceTreeError` with what cpp or dtc said, `ConfigError`
    for what is no device tree.
    """
    if not file.is_file():
        raise UsageError("no such file", where=str(file))
    blob = _compiled(file, include, cpp) if file.suffix == ".dts" else file.read_bytes()
    try:
        whole = libfdt.Fdt(blob).totalsize() <= len(blob)
    except libfdt.FdtException:
        whole = False
    if not whole:
        raise ConfigError(
            "is no device tree, or is cut short",
            where=str(file),
            next_step="give a .dtb (dtc -I dtb -O dts shows what is in one) or a .dts",
        )
    return blob


def _compiled(file: Path, include: Sequence[Path], cpp: str) -> bytes:
    folders = [*include, file.parent, *_of_the_kernel(file.resolve())]
    with tempfile.TemporaryDirectory(prefix="cma-tree-") as directory:
        plain, blob = Path(directory) / "board.dts", Path(directory) / "board.dtb"
        # As scripts/Makefile.lib has it for .dts files.
        flags = ["-nostdinc", "-undef", "-D__DTS__", "-x", "assembler-with-cpp"]
        found = [f"-I{folder}" for folder in folders]
        run([cpp, *flags, *found, file, plain], error=DeviceTreeError)
        found = [f"-i{folder}" for folder in folders]
        run(
            ["dtc", "-q", "-I", "dts", "-O", "dtb", *found, "-o", blob, plain],
            error=DeviceTreeError,
        )
        return blob.read_bytes()


def _of_the_kernel(file: Path) -> Iterator[Path]:
    """Yield where a .dts of a kernel's tree finds dt-bindings/ and other architectures' files."""
    for parent in file.parents:
        if (parent / "include" / "dt-bindings").is_dir():
            yield parent / "include"
            yield parent / "scripts" / "dtc" / "include-prefixes"
            return
