"""The helper device /dev/cma_test, driven through the guest program cma-ctl.

What the device does, and every errno it can answer, is told in kmod/cma_test/cma_test_uapi.h;
images/guest/cma-ctl.c prints one JSON object per line, and the name of an errno when it fails.
Sizes and addresses are bytes, times nanoseconds of the guest's clock (instructions in the exact
lane).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.cma.shell import Completed, Shell
from harness.errors import GuestError
from harness.verdict import Verdict

PROGRAM = "cma-ctl"
DEFAULT_DEVICE = "/dev/cma_test"

_STATUS_OK = 0
_STATUS_ERRNO = 1
_STATUS_DIFFERS = 3
_ERRNO = re.compile(rf"^{PROGRAM}: [a-z?]+: (?P<name>E[A-Z0-9]+) \(", re.MULTILINE)


class HelperError(GuestError):
    """The helper answered with an error; `errno_name` is "ENOSPC" and the like.

    It is empty when the program failed otherwise: it is missing, was misused or printed
    something else than this module understands.
    """

    def __init__(
        self, what: str, *, errno_name: str = "", where: str = "", next_step: str = ""
    ) -> None:
        super().__init__(what, where=where, next_step=next_step)
        self.errno_name = errno_name
        # An errno is what the kernel answered; the rest is a defect of the program or the image.
        self.verdict = Verdict.FAIL if errno_name else Verdict.ERROR


@dataclass(frozen=True, slots=True)
class Buffer:
    """A buffer just allocated: `size` as asked for, `took_ns` inside dma_alloc_attrs()."""

    handle: int
    dma_address: int
    size: int
    took_ns: int


@dataclass(frozen=True, slots=True)
class LiveBuffer:
    """A buffer as the device lists it; `allocated` is what alignment and pages made of `size`."""

    handle: int
    dma_address: int
    size: int
    allocated: int
    mappings: int
    attrs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How many of a buffer's bytes differ from the pattern, and the offset of the first."""

    size: int
    bad: int
    first_bad: int | None

    @property
    def good(self) -> bool:
        """Whether every byte is the pattern."""
        return self.bad == 0


@dataclass(frozen=True, slots=True)
class Step:
    """What a line of a script did: the buffer it made or the errno, and the area behind it.

    `set_bits` are the runs (first, length) of set bits in the area's bitmap.
    """

    line: int
    handle: int | None
    dma_address: int | None
    errno_name: str
    used: int
    set_bits: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What the device is; `natural_align` is the largest alignment CMA gives by itself."""

    abi: int
    page_size: int
    natural_align: int
    live: int


class _Reply:
    """One JSON object of cma-ctl, whose fields have the type they are asked for as."""

    def __init__(self, fields: Mapping[str, object], where: str) -> None:
        self._fields = fields
        self._where = where

    def integer(self, name: str) -> int:
        value = self._fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise self._odd(name, "a number")

    def optional_integer(self, name: str) -> int | None:
        return self.integer(name) if name in self._fields else None

    def text(self, name: str) -> str:
        """Return a string; one that is not there is empty."""
        value = self._fields.get(name, "")
        if isinstance(value, str):
            return value
        raise self._odd(name, "a string")

    def runs(self, name: str) -> tuple[tuple[int, int], ...]:
        value = self._fields.get(name)
        if isinstance(value, list) and all(isinstance(run, list) for run in value):
            return tuple((int(first), int(length)) for first, length in value)
        raise self._odd(name, "a list of runs")

    def strings(self, name: str) -> tuple[str, ...]:
        value = self._fields.get(name)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise self._odd(name, "a list of strings")

    def _odd(self, name: str, wanted: str) -> HelperError:
        return HelperError(
            f"{name} is {self._fields.get(name)!r}, not {wanted}",
            where=self._where,
            next_step="use the cma-ctl of this checkout in the guest's image",
        )


class Helper:
    """One helper device of a running guest.

    Every method raises HelperError when the device refuses, and lets the shell's own errors
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
        reply = self._one(argv)
        return Buffer(
            handle=reply.integer("handle"),
            dma_address=reply.integer("dma_address"),
            size=reply.integer("size"),
            took_ns=reply.integer("took_ns"),
        )

    def free(self, handle: int) -> int:
        """Free a buffer and return the nanoseconds it took; ENOENT, or EBUSY while mapped."""
        return self._one(["free", str(handle)]).integer("took_ns")

    def list(self) -> tuple[LiveBuffer, ...]:
        """Return the live buffers, oldest first."""
        return tuple(
            LiveBuffer(
                handle=reply.integer("handle"),
                dma_address=reply.integer("dma_address"),
                size=reply.integer("size"),
                allocated=reply.integer("allocated"),
                mappings=reply.integer("mappings"),
                attrs=reply.strings("attrs"),
            )
            for reply in self._run(["list"])
        )

    def fill(self, handle: int, pattern: int) -> int:
        """Set every byte to `pattern` (0 to 255); return how many bytes that were."""
        return self._one(["fill", str(handle), str(pattern)]).integer("bytes")

    def check(self, handle: int, pattern: int) -> CheckResult:
        """Compare every byte with `pattern`. Other bytes are a result, not an error."""
        reply = self._one(["check", str(handle), str(pattern)], good=(_STATUS_OK, _STATUS_DIFFERS))
        return CheckResult(
            size=reply.integer("bytes"),
            bad=reply.integer("bad"),
            first_bad=reply.optional_integer("first_bad"),
        )

    def write_kib(self, kib: int | str) -> int:
        """Write a number of KiB to the device, the v4 way; return what write(2) returned.

        A string goes to the device as it is, so that wrong ones can be tried too.
        """
        return self._one(["write", "--", str(kib)]).integer("returned")

    def read_oldest(self) -> int:
        """Free the oldest buffer, the v4 way; return what read(2) returned. EIDRM: none left."""
        return self._one(["read"]).integer("returned")

    def script(self, lines: Sequence[str], area: str) -> tuple[Step, ...]:
        """Run operations in one command, looking at an area after each.

        Lines are as `cma-ctl --help` tells. Returns the state before, a step for each line, and
        the state after the device was emptied: two more than there are lines.
        """
        argv = ["script", area]
        steps = tuple(
            Step(
                line=reply.integer("line"),
                handle=reply.optional_integer("handle"),
                dma_address=reply.optional_integer("dma_address"),
                errno_name=reply.text("errno"),
                used=reply.integer("used"),
                set_bits=reply.runs("set"),
            )
            for reply in self._run(argv, lines=lines)
        )
        if [step.line for step in steps] != list(range(len(lines) + 2)):
            raise HelperError(f"{len(steps)} steps of {len(lines)} lines", where=self._where(argv))
        return steps

    def info(self) -> DeviceInfo:
        """Ask the device what it is."""
        reply = self._one(["version"])
        return DeviceInfo(
            abi=reply.integer("abi"),
            page_size=reply.integer("page_size"),
            natural_align=reply.integer("natural_align"),
            live=reply.integer("live"),
        )

    def _one(self, argv: Sequence[str], *, good: Sequence[int] = (_STATUS_OK,)) -> _Reply:
        replies = self._run(argv, good=good)
        if len(replies) != 1:
            raise HelperError(f"{len(replies)} replies where one was due", where=self._where(argv))
        return replies[0]

    def _run(
        self,
        argv: Sequence[str],
        *,
        good: Sequence[int] = (_STATUS_OK,),
        lines: Sequence[str] | None = None,
    ) -> tuple[_Reply, ...]:
        where = self._where(argv)
        command = shlex.join([PROGRAM, "-d", self._device, *argv])
        if lines is not None:
            command = "\n".join([f"{command} <<'end'", *lines, "end"])
        done = self._shell.run(command, self._timeout)
        if done.status not in good:
            raise _failure(done, where)
        return _replies(done.output, where)

    def _where(self, argv: Sequence[str]) -> str:
        return " ".join([PROGRAM, "-d", self._device, *argv])


def _failure(done: Completed, where: str) -> HelperError:
    """Turn an exit status that is no success into an error, with the errno's name if told."""
    told = _ERRNO.search(done.output)
    if done.status == _STATUS_ERRNO and told:
        name = told["name"]
        return HelperError(f"the device answered {name}", errno_name=name, where=where)
    return HelperError(
        f"exit status {done.status}: {done.output.strip()!r}",
        where=where,
        next_step=f"check that the guest's image has {PROGRAM} and that cma_test is loaded",
    )


def _replies(output: str, where: str) -> tuple[_Reply, ...]:
    """Return the JSON lines; on a serial console kernel messages may stand between them."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return tuple(_Reply(_parse(line, where), where) for line in lines)


def _parse(line: str, where: str) -> Mapping[str, object]:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise HelperError(f"not JSON: {line!r}", where=where) from error
    if not isinstance(fields, dict):
        raise HelperError(f"not a JSON object: {line!r}", where=where)
    return fields
