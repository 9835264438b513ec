"""Whether a cell is still what it was when it ran: a digest of all that it is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from harness.cache import Cache, digest_file, digest_tree
from harness.config import CONFIGS, Kernel, patch_files
from harness.errors import HarnessError
from harness.kernel import source
from harness.matrix.plan import Planned
from harness.progress import Progress

_REPOSITORY = CONFIGS.parent
_OWN = ("harness", "kmod", "images")
_SOURCES = tuple(f"**/*{end}" for end in (".py", ".c", ".h", ".sh", ".toml", ".jinja2", "Kbuild"))


def digests(plan: Sequence[Planned], cache: Cache) -> dict[str, str]:
    """Return a digest for each cell, by its name.

    It covers the cell's definition, its kernel's fragments, patches and (of a tree) files, the
    tests it runs with their arguments, and the harness's own sources.
    """
    own = "\0".join(digest_tree(_REPOSITORY / name, _SOURCES) for name in _OWN)
    kernels = {each.kernel: _kernel(each.cell.kernel, cache) for each in plan}
    return {each.name: _digest(each, own, kernels[each.kernel]) for each in plan}


def _digest(planned: Planned, own: str, kernel: str) -> str:
    cell, wish = planned.cell, planned.wish
    parts = (
        *(own, kernel, planned.kernel, cell.board.model_dump_json(), cell.layout.model_dump_json()),
        *(wish.append, *wish.arguments, *map(_content, wish.arguments)),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _kernel(kernel: Kernel, cache: Cache) -> str:
    found = [digest_file(path) for path in kernel.fragments()]
    try:
        found += map(digest_file, patch_files(kernel.patches))
        if kernel.tree is not None:
            found.append(source.obtain(kernel, cache, Progress(quiet=True)).identity)
    except HarnessError as error:  # its build will end with it, and be the cells' ERROR
        found.append(str(error))
    return "\0".join(found)


def _content(argument: str) -> str:
    """Return a digest of the files that an argument of pytest names; nothing for other words."""
    path = Path(argument.partition("::")[0])
    if path.is_dir():
        return digest_tree(path, _SOURCES)
    return digest_file(path) if path.is_file() else ""
