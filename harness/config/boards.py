"""configs/boards/: the machines that QEMU emulates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.config.reading import named_file, read_toml, validate
from harness.config.values import Frozen, Size


class Board(Frozen):
    """A machine QEMU emulates, with the memory and console the kernel finds there."""

    name: str
    description: str
    machine: str
    machine_options: tuple[str, ...] = ()
    cpu: str
    cpus: int = Field(default=1, ge=1, le=8)
    memory: Size
    tree: Literal["dump"]  # the base device tree: QEMU's own
    console: str
    serial: int = Field(default=0, ge=0)  # which of the machine's serial ports is the console
    userland: Literal["armhf"]
    # In the file's order: a set's would differ from run to run, and with it the cache's keys.
    has_: tuple[Literal["net", "poweroff"], ...] = Field(default=(), alias="has")

    @property
    def qemu_machine(self) -> str:
        """The value of QEMU's -M."""
        return ",".join((self.machine, *self.machine_options))

    def has(self, capability: Literal["net", "poweroff"]) -> bool:
        """Tell whether the board has a network, or can power itself off."""
        return capability in self.has_


def load_board(name: str) -> Board:
    """Return the board configs/boards/NAME.toml, or the one in the file NAME."""
    path = named_file("boards", name, ".toml")
    return validate(Board, {"name": path.stem} | read_toml(path), path)
