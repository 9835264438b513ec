"""configs/defects.toml: defects of the kernel that cases of ours show, and where they are."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from harness.config.reading import CONFIGS, read_toml, validate
from harness.config.values import Frozen
from harness.config.versions import VersionsField


class Defect(Frozen):
    """A case that fails because of the kernel, on kernels of these versions.

    `case` is the end of the case's id, from the name of its file, module or suite on; `*` is
    anything. `variant`: only a kernel of that variant shows it. `ends` is the verdict that it leads
    to. `commit` is the one that brought it, or that took it away.
    """

    case: str = Field(min_length=1)
    versions: VersionsField
    variant: str | None = None
    ends: Literal["FAIL", "CRASH"] = "FAIL"
    commit: str | None = Field(default=None, pattern=r"^[0-9a-f]{12}$")
    reason: str = Field(min_length=1)

    def __str__(self) -> str:
        where = ", ".join(filter(None, (self.versions.text, self.commit)))
        return f"{self.reason} ({where})"

    def is_of(self, version: str, variant: str) -> bool:
        """Whether such a kernel has it, and shows it."""
        return version in self.versions and self.variant in (None, variant)

    def is_about(self, node_id: str) -> bool:
        """Whether it is the case of that id that shows it."""
        pattern = ".*".join(re.escape(part) for part in self.case.split("*"))
        return re.search(f"(?:^|/|::){pattern}$", node_id, re.S) is not None


class _Defects(Frozen):
    defect: tuple[Defect, ...] = ()


def load_defects() -> tuple[Defect, ...]:
    """Return configs/defects.toml."""
    path = CONFIGS / "defects.toml"
    return validate(_Defects, read_toml(path), path).defect
