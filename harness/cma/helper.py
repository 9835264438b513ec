"""The helper device /dev/cma_test, driven through the guest program cma-ctl.

What the device does, and every errno it can answer, is told in kmod/cma_test/cma_test_uapi.h;
images/guest/cma-ctl.c prints one JSON object per line, and the name of an errno when it fails.
Sizes and addresses are bytes, times nanoseconds of the guest's clock (instructions in the exact
lane).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import Field

from harness.cma.answers import Answer, ProgramError, ask, ask_one
from harness.cma.shell import Shell

PROGRAM = "cma-ctl"
DEFAULT_DEVICE = "/dev/cma_test"


class Buffer(Answer):
    """A buffer just allocated: `size` as asked for, `took_ns` inside dma_alloc_attrs()."""

    handle: int
    dma_address: int
    size: int
    took_ns: int


class LiveBuffer(Answer):
    """A buffer as the device lists it; `allocated` is what alignment and pages made of `size`."""

    handle: int
    dma_address: int
    size: int
    allocated: int
    mappings: int
    attrs: tuple[str, ...]


class CheckResult(Answer):
    """How many of a buffer's bytes differ from the pattern, and the offset of the first."""

    handle: int
    size: int = Field(alias="bytes")
    bad: int
    first_bad: int | None = None

    @property
    def good(self) -> bool:
        """Whether every byte is the pattern."""
        return self.bad == 0


class Step(Answer):
    """What a line of a script did: the buffer it made or the errno, and the area behind it.

    `set_bits` are the runs (first, length) of set bits in the area's bitmap.
    """

    line: int
    handle: int | None = None
    dma_address: int | None = None
    errno_name: str = Field(alias="errno", default="")
    used: int
    set_bits: tuple[tuple[int, int], ...] = Field(alias="set")


class DeviceInfo(Answer):
    """What the device is; `natural_align` is the largest alignment CMA gives by itself."""

    abi: int
    page_size: int
    natural_align: int
    live: int


class Freed(Answer):
    """A buffer that is no more."""

    handle: int
    took_ns: int


class Filled(Answer):
    """How many of a buffer's bytes were set."""

    handle: int
    size: int = Field(alias="bytes")


class Returned(Answer):
    """What read(2) or write(2) returned."""

    returned: int


A = TypeVar("A", bound=Answer)


class Helper:
    """One helper device of a running guest.

    Every method raises ProgramError when the device refuses, and lets the shell's own errors
    (the guest died, the time is over) pass.
    """

    def __init__(
        self, shell: Shell, *, device: str = DEFAULT_DEVICE, timeout: float = 30.0
    ) -> None:
        self._shell = shell
        self._device = device
        self._timeout = timeout

    def alloc(
        self, size: int, *, align: int = 0, attrs: Sequence[str] = (), nowait: bool = False
    ) -> Buffer:
        """Allocate `size` bytes at a multiple of `align` (0, or a power of two).

        `attrs` are cma-ctl's names: write-combine, no-kernel-mapping, force-contiguous, no-warn.
        `nowait` forbids the allocator to sleep. No room is ENOSPC.
        """
        argv = ["alloc", str(size)]
        if align:
            argv += ["--align", str(align)]
        if attrs:
            argv += ["--attr", ",".join(attrs)]
        if nowait:
            argv.append("--nowait")
        return self._one(argv, Buffer)

    def free(self, handle: int) -> int:
        """Free a buffer and return the nanoseconds it took; ENOENT, or EBUSY while mapped."""
        return self._one(["free", str(handle)], Freed).took_ns

    def list(self) -> tuple[LiveBuffer, ...]:
        """Return the live buffers, oldest first."""
        return ask(self._shell, self._argv("list"), LiveBuffer, self._timeout)

    def fill(self, handle: int, pattern: int) -> int:
        """Set every byte to `pattern` (0 to 255); return how many bytes that were."""
        return self._one(["fill", str(handle), str(pattern)], Filled).size

    def check(self, handle: int, pattern: int) -> CheckResult:
        """Compare every byte with `pattern`. Other bytes are a result, not an error."""
        return self._one(["check", str(handle), str(pattern)], CheckResult)

    def write_kib(self, kib: int | str) -> int:
        """Write a number of KiB to the device, the v4 way; return what write(2) returned.

        A string goes to the device as it is, so that wrong ones can be tried too.
        """
        return self._one(["write", "--", str(kib)], Returned).returned

    def read_oldest(self) -> int:
        """Free the oldest buffer, the v4 way; return what read(2) returned. EIDRM: none left."""
        return self._one(["read"], Returned).returned

    def script(self, lines: Sequence[str], area: str) -> tuple[Step, ...]:
        """Run operations in one command, looking at an area after each.

        Lines are as `cma-ctl --help` tells. Returns the state before, a step for each line, and
        the state after the device was emptied: two more than there are lines.
        """
        argv = self._argv("script", area)
        steps = ask(self._shell, argv, Step, self._timeout, lines=lines)
        if [step.line for step in steps] != list(range(len(lines) + 2)):
            raise ProgramError(f"{len(steps)} steps of {len(lines)} lines", where=" ".join(argv))
        return steps

    def info(self) -> DeviceInfo:
        """Ask the device what it is."""
        return self._one(["version"], DeviceInfo)

    def _one(self, argv: Sequence[str], kind: type[A]) -> A:
        return ask_one(self._shell, self._argv(*argv), kind, self._timeout)

    def _argv(self, *words: str) -> Sequence[str]:
        return [PROGRAM, "-d", self._device, *words]
