"""What the kernel's command line says of CMA and of low memory. Pure.

As the kernel reads it: early_cma() in kernel/dma/contiguous.c, early_vmalloc() in
arch/arm/mm/mmu.c, memparse() in lib/cmdline.c (6.12).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.config import Layout

DEFAULT_NAME = "reserved"  # of the area that no node asks for: dma_contiguous_reserve_area()
_MEMPARSE = re.compile(r"(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9]\d*)([KkMmGgTt]?)")
_SHIFTS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


@dataclass(frozen=True, slots=True)
class CmaParameter:
    """`cma=SIZE[@BASE[-LIMIT]]`: bytes and addresses; a size of 0 is "no default area"."""

    size: int
    base: int = 0
    limit: int = 0

    @property
    def fixed(self) -> bool:
        """Whether it says the place itself; the kernel takes a base of 0 for "anywhere"."""
        return self.base != 0 and self.limit == self.base + self.size


def cma(cmdline: str) -> CmaParameter | None:
    """Return what the last `cma=` says; None without one, and for one that says nothing."""
    value = _last(cmdline, "cma")
    if value is None:
        return None
    size, rest = _memparse(value)
    if not rest.startswith("@"):
        return CmaParameter(size)
    base, rest = _memparse(rest[1:])
    if not rest.startswith("-"):
        return CmaParameter(size, base, base + size)
    return CmaParameter(size, base, _memparse(rest[1:])[0])


def vmalloc(cmdline: str) -> int | None:
    """Return the bytes that `vmalloc=` asks for; None without one."""
    value = _last(cmdline, "vmalloc")
    return None if value is None else _memparse(value)[0]


def default_area(layout: Layout, append: str = "") -> str | None:
    """Return the name of the area that devices without their own share; None when there is none.

    `append` are words behind the layout's own on the command line.
    """
    asked = cma(f"{layout.cmdline} {append}")
    if asked is not None:
        return DEFAULT_NAME if asked.size else None
    return next((area.node for area in layout.area if area.default), None)


def areas_of(layout: Layout, append: str = "") -> tuple[str, ...]:
    """Return the names of all areas that the kernel is to have, as it shows them."""
    asked = cma(f"{layout.cmdline} {append}")
    own = (DEFAULT_NAME,) if asked is not None and asked.size else ()
    return (*(area.node for area in layout.area), *own)


def _last(cmdline: str, name: str) -> str | None:
    values = [word.partition("=")[2] for word in cmdline.split() if word.startswith(f"{name}=")]
    return values[-1] if values and values[-1] else None


def _memparse(text: str) -> tuple[int, str]:
    """Return the number at the beginning, 0 when there is none, and what is behind it."""
    match = _MEMPARSE.match(text)
    if match is None:
        return 0, text
    octal = re.fullmatch(r"0[0-7]+", match[1])
    number = int(match[1], 8 if octal else 0)
    return number << _SHIFTS[match[2].lower()], text[match.end() :]
