"""configs/boards/: the machines that QEMU emulates."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.config.reading import named_file, read_toml, validate
from harness.config.values import Address, Cmdline, Frozen, Size

Capability = Literal["net", "poweroff", "restore"]


class KernelTree(Frozen):
    """A tree of the kernel's own: its path below arch/arm/boot/dts, as 6.5 and later have it."""

    dts: str = Field(pattern=r"^[a-z]+/.+\.dts$")


class Board(Frozen):
    """A machine QEMU emulates, with the memory and console the kernel finds there."""

    name: str
    description: str
    machine: str
    machine_options: tuple[str, ...] = ()
    cpu: str
    cpus: int = Field(default=1, ge=1, le=8)
    ram: Address  # where its memory begins
    memory: Size  # what QEMU is to give it
    # What of it, from its beginning on, QEMU leaves to the kernel; by default all.
    usable_: Size | None = Field(default=None, alias="usable")
    family: str  # of families.toml: the kernels that boot on it
    tree: Literal["dump"] | KernelTree  # the base device tree: QEMU's own, or one of the kernel's
    console: str
    serial: int = Field(default=0, ge=0)  # which of the machine's serial ports is the console
    cmdline: Cmdline = ""  # what its kernels need to be told
    # What QEMU's machine has of a network and a way to power off, and the kernel a driver for;
    # and whether QEMU can store a guest of it, and restore it.
    # In the file's order: a set's would differ from run to run, and with it the cache's keys.
    has_: tuple[Capability, ...] = Field(default=(), alias="has")

    @property
    def qemu_machine(self) -> str:
        """The value of QEMU's -M."""
        return ",".join((self.machine, *self.machine_options))

    @property
    def usable(self) -> int:
        """The bytes of memory that the kernel has."""
        return self.memory if self.usable_ is None else self.usable_

    def counting(self) -> Board:
        """Return it with one processor and without a network, which would disturb a count."""
        left = tuple(capability for capability in self.has_ if capability != "net")
        return self.model_copy(update={"cpus": 1, "has_": left})

    def has(self, capability: Capability) -> bool:
        """Tell whether the board can do that."""
        return capability in self.has_


def load_board(name: str) -> Board:
    """Return the board configs/boards/NAME.toml, or the one in the file NAME."""
    path = named_file("boards", name, ".toml")
    return validate(Board, {"name": path.stem} | read_toml(path), path)
