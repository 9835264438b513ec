"""An imported layout, and its text as a file of configs/layouts/. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from harness.config import Layout
from harness.layout.room import size


@dataclass(frozen=True, slots=True)
class Note:
    """What became otherwise: of which node, and how; `kind` is how bad that is."""

    kind: Literal["kept", "changed", "left out"]
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.about}: {self.text}"


@dataclass(frozen=True, slots=True)
class Imported:
    """A layout, and what of the board is not in it, or not as it was."""

    layout: Layout
    notes: tuple[Note, ...]


def printable_ascii(text: str) -> str:
    """Return the text with what a comment should not have as question marks."""
    return re.sub(r"[^ -~]", "?", text)


def toml(imported: Imported, file: str) -> str:
    """Return the layout as a file of configs/layouts/, with the notes as comments."""
    layout = imported.layout
    lines = [
        f'description = "{_quoted(layout.description)}"',
        f"# Imported from {printable_ascii(file)} by 'cma-harness layout import'. Of the board:",
        *(f"#   {printable_ascii(str(note))}" for note in imported.notes),
    ]
    if layout.cmdline:
        lines.append(f'cmdline = "{_quoted(layout.cmdline)}"')
    for area in layout.area:
        lines += ["", "[[area]]", f'name = "{area.name}"']
        lines += [f'at = "{area.at:#x}"'] if area.at is not None else []
        lines.append(f'size = "{size(area.size)}"')
        lines += [f'alignment = "{size(area.alignment)}"'] if area.alignment else []
        if area.within:
            lines.append(f'within = ["{area.within[0]:#x}", "{area.within[1]:#x}"]')
        lines += ["default = true"] if area.default else []
        lines += [f'device = "{area.device}"'] if area.device else []
    for carveout in layout.carveout:
        lines += ["", "[[carveout]]", f'name = "{carveout.name}"', f'at = "{carveout.at:#x}"']
        lines.append(f'size = "{size(carveout.size)}"')
        lines += [] if carveout.no_map else ["no_map = false"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return printable_ascii(text).replace("\\", "\\\\").replace('"', '\\"')
