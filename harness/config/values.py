"""What the values of TOML files are made of: frozen tables, sizes, names."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MIB = 1 << 20
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_size(value: object) -> int:
    """Return bytes for 4194304, "4M", "0x400000" or "1G"; raise ValueError for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"(0x[0-9a-fA-F]+|\d+)\s*([KMG]?)(?:i?B)?", str(value))
    if not match:
        raise ValueError(f"{value!r} is not a size such as 65536, '64K', '16M' or '1G'")
    return int(match[1], 0) * _UNITS[match[2]]


Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
Extent = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]  # of something that may be empty
Address = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
# What the device tree specification (v0.4, 2.2.1) allows in a node's name.
NodeName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9,._+-]{0,30}$")]
Cmdline = Annotated[str, Field(pattern=r"^[!-~ ]*$")]


class Frozen(BaseModel):
    """A table of a file: it does not change, and has no key that it should not have."""

    model_config = ConfigDict(frozen=True, extra="forbid")
