"""The areas of a running kernel, as it shows them in debugfs, sysfs and /proc/meminfo."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.cma.shell import Shell
from harness.errors import GuestError

PAGE = 4096
DEBUGFS = "/sys/kernel/debug/cma"
SYSFS = "/sys/kernel/mm/cma"
# One command for all of it: the paths differ by version (cma/cma-NAME before 6.1, cma/NAME since,
# ranges/N/ below it from 6.15), so files are found, not named. `grep -H` prints "path:value".
# A folder's name says less than the area's before 6.1; what is cut off, the tree's nodes have.
NODES = "for node in /proc/device-tree/reserved-memory/*; do echo node:${node##*/}; done"
SURVEY = (
    f"{NODES}; cd {DEBUGFS} 2>/dev/null && find . -type f "
    r"\( -name base_pfn -o -name count -o -name used -o -name maxchunk \) -exec grep -H . {} +; "
    "grep -H ^Cma /proc/meminfo"
)
_FILE = re.compile(
    rf"^(?:\.|{DEBUGFS}|{SYSFS})/(?:cma-)?([^/\n]+)/(?:ranges/0/)?([a-z_]+):([\d ]+)$", re.M
)
_NODE = re.compile(r"^node:(.+)$", re.M)
_CUT = re.compile(rf"^(?:\.|{DEBUGFS})/cma-([^/\n]{{11}})/", re.M)
_FOLDER = re.compile(rf"^(?:\.|{DEBUGFS})/(cma-|)([^/\n]+)/", re.M)
_MEMINFO = re.compile(r"^/proc/meminfo:(Cma\w+): +(\d+) kB$", re.M)


@dataclass(frozen=True, slots=True)
class LiveArea:
    """An area as the kernel has it: base address and size in bytes, pages in use."""

    name: str
    base: int
    size: int
    used: int

    @property
    def end(self) -> int:
        """The first address behind the area."""
        return self.base + self.size


@dataclass(frozen=True, slots=True)
class Survey:
    """What the kernel says of CMA at one moment; `meminfo` is in bytes."""

    areas: tuple[LiveArea, ...]
    meminfo: Mapping[str, int]

    def area(self, name: str) -> LiveArea:
        """Return the area of that name; raise `GuestError` when the kernel has none."""
        found = next((area for area in self.areas if area.name == name), None)
        if found is None:
            names = ", ".join(area.name for area in self.areas) or "none"
            raise GuestError(f"the kernel has no area {name!r}; it has {names}", where="debugfs")
        return found


def survey(shell: Shell, timeout: float = 30) -> Survey:
    """Ask the guest for its areas; needs CONFIG_CMA_DEBUGFS and a mounted debugfs."""
    return parse_survey(shell.run(SURVEY, timeout=timeout).output)


def parse_survey(text: str) -> Survey:
    """Return the areas, in the order of their addresses, that the output of `SURVEY` tells of.

    Raises `GuestError` when an area lacks a file: then debugfs is not what we think it is.
    """
    areas = []
    for name, fields in parse_files(text).items():
        lacking = {"base_pfn", "count", "used"} - fields.keys()
        if lacking:
            raise GuestError(f"area {name!r} has no {', '.join(sorted(lacking))}", where="debugfs")
        base, count, used = (int(fields[field]) for field in ("base_pfn", "count", "used"))
        areas.append(LiveArea(name, base * PAGE, count * PAGE, used))
    meminfo = {name: int(value) << 10 for name, value in _MEMINFO.findall(text)}
    return Survey(tuple(sorted(areas, key=lambda area: area.base)), meminfo)


def parse_files(text: str) -> dict[str, dict[str, str]]:
    """Return what areas' files in debugfs and sysfs hold, by area and file.

    `text` are the lines `path:value` that `grep -H` prints, and those of `NODES`; what is no
    number is left out.
    """
    whole = _whole_names(text)
    found: dict[str, dict[str, str]] = {}
    for name, field, value in _FILE.findall(text):
        found.setdefault(whole.get(name, name), {})[field] = value
    return found


def _whole_names(text: str) -> dict[str, str]:
    """Return the names that are cut off in the text, each with the node that begins so.

    Of two nodes that begin so the kernel shows one alone, and does not say which.
    """
    nodes = _NODE.findall(text)
    begun = {name: [node for node in nodes if node.startswith(name)] for name in _CUT.findall(text)}
    return {name: found[0] for name, found in begun.items() if len(found) == 1}


def folders(text: str) -> dict[str, str]:
    """Return the path of each area's folder in debugfs, as `parse_files` reads it.

    Before 6.1 (cma_debugfs_add_one(), 5.10) its name is "cma-" and the area's, 15 characters.
    """
    whole = _whole_names(text)
    found = {}
    for prefix, shown in _FOLDER.findall(text):
        found[whole.get(shown, shown)] = f"{DEBUGFS}/{prefix}{shown}"
    return found
