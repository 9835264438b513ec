"""What is measured, each beside what it is compared with, in one run."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jinja2

from harness import boots, ktap
from harness.bench import rival
from harness.bench.builds import kernel_builds
from harness.cache import Cache
from harness.cell import Prepared
from harness.copies import Copies
from harness.errors import HostError
from harness.guest.console import Console
from harness.guest.guest import Guest
from harness.guest.machine import Machine
from harness.guest.qemu import Launch
from harness.image.initramfs import MODULES, File
from harness.invocation import COMMAND
from harness.process import run
from harness.progress import Progress
from harness.results import record
from harness.results.bench import Row

CASES = 50
_HERE = Path(__file__).resolve().parent
_REPOSITORY = _HERE.parent.parent
_SECONDS = 60.0
_PARSED = 64 << 20  # bytes
_POWER_OFF = "#!/bin/busybox sh\n/bin/busybox poweroff -f\n"


@dataclass(frozen=True, slots=True)
class Bench:
    """A prepared cell whose kernel has the rival's suite built in, and where to work."""

    prepared: Prepared
    kernel: tuple[str, ...]  # the options of `test` that choose the cell
    cache: Cache
    progress: Progress
    work: Path
    repeat: int
    builds: bool = False  # whether kernels are built too, which takes long

    def rows(self) -> Iterator[Row]:
        """Measure one after the other; each is yielded when it is there."""
        for measure in (self._restored, self._cases, self._boot, self._runs, self._changed):
            yield from measure()
        yield from self._parsed()
        if self.builds:
            yield from kernel_builds(self.prepared, self.cache, self.progress)

    def _restored(self) -> Iterator[Row]:
        """A fresh guest's first answer, beside kunit.py's boot for one case."""
        copies = Copies(self.prepared, _QUIET, self.cache, self.progress)
        copies.prepare(self.work / "copies")
        ours, theirs = [], []
        with self.progress.phase("bench", "restoring, and kunit.py beside it") as phase:
            for _ in range(3):
                for _ in range(self.repeat):
                    ours.append(_timed(lambda: _answer(copies, self.work / "copies")))
                theirs.append(rival.isolated(self.prepared.kernel).each)
            phase.note("restored, and kunit.py beside it")
        yield Row.of("a fresh guest answers / kunit.py, a case", ours, theirs, "s", most=1 / 3)

    def _cases(self) -> Iterator[Row]:
        """Fifty cases, each in a guest of its own, the whole command: seconds for each."""
        source = self.work / "trivial" / "trivial.c"
        source.parent.mkdir(parents=True, exist_ok=True)
        template = (_HERE / "trivial.c.jinja2").read_text()
        source.write_text(jinja2.Template(template, keep_trailing_newline=True).render(cases=CASES))
        ours, theirs = [], []
        with self.progress.phase("bench", f"{CASES} isolated cases") as phase:
            for number in range(3):
                ours.append(self._command(source, number) / CASES)
                theirs.append(rival.isolated(self.prepared.kernel).each)
            phase.note(f"{CASES} isolated cases, and kunit.py's")
        yield Row.of(f"{CASES} isolated cases, each / kunit.py's", ours, theirs, "s", most=1 / 3)

    def _command(self, source: Path, number: int) -> float:
        directory = self.work / f"run-{number}"
        command = [
            *(*COMMAND, "test", "--isolate", *self.kernel),
            *(f"--append={_QUIET}", f"--module={source}", "-n", "auto", f"--run-dir={directory}"),
        ]
        took = _timed(lambda: run(command, cwd=_REPOSITORY))
        names = [case.name for case in record.read(directory).cases()]
        passed = sum(name.startswith("nothing_") for name in names)
        if passed != CASES:
            raise HostError(f"{passed} cases ran, not {CASES}", where=str(directory))
        return took

    def _boot(self) -> Iterator[Row]:
        """A boot to user space, beside QEMU by itself with an init that powers off."""
        launch = self.prepared.launch(_QUIET)
        bare = self._bare(launch)
        ours, theirs = [], []
        with self.progress.phase("bench", "booting, and raw QEMU beside it") as phase:
            for number in range(self.repeat):
                ours.append(_timed(partial(self._booted, launch, number)))
                theirs.append(_timed(partial(_raw, bare, self.work / f"raw-{number}")))
            phase.note("booted, and raw QEMU beside it")
        yield Row.of("boot to user space / raw QEMU, powered off", ours, theirs, "s", most=1.2)

    def _booted(self, launch: Launch, number: int) -> None:
        directory = self.work / f"boot-{number}"
        with boots.start(self.prepared, launch, directory, login=False):
            pass

    def _bare(self, launch: Launch) -> Launch:
        """Return the same guest with an init that only powers off."""
        with tempfile.TemporaryDirectory(prefix="cma-bench-") as work:
            init = Path(work) / "init"
            init.write_text(_POWER_OFF)
            files = {"/init": File(init, 0o755)}
            image = self.prepared.image.with_files(files, Path(work), self.work / "raw.cpio")
        return replace(launch, initrd=image)

    def _runs(self) -> Iterator[Row]:
        """Whole runs with all that they need in the cache, beside QEMU that loads the module.

        And what `make test-arm` then takes beside the guest's work, which its cases wait for.
        """
        launch = self.prepared.launch(f"{_OURS} {_LOADS}")
        ours, theirs, beside = [], [], []
        with self.progress.phase("bench", f"{_SUITE}, and raw QEMU beside it") as phase:
            for number in range(4):
                took, waited = self._suite(_REPOSITORY, f"warm-{number}")
                raw = _timed(partial(_raw, launch, self.work / f"raw-suite-{number}"))
                if number:  # the first one makes what the others find
                    ours.append(took)
                    theirs.append(raw)
                    beside.append(took - waited)
            phase.note(f"{_SUITE}, and raw QEMU beside it")
        yield Row.of("a warm run / raw QEMU, the same module", ours, theirs, "s", most=1.15)
        yield Row.of("test-arm, warm, but its cases / 4 s", beside, [4.0], "s", most=1)

    def _changed(self) -> Iterator[Row]:
        """The same behind a change of a module's C file, in a copy of this repository."""
        copy = self.work / "copy"
        ignored = shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__", ".*_cache")
        shutil.copytree(_REPOSITORY, copy, ignore=ignored)
        source = copy / "kmod" / "cma_kunit" / "area.c"
        text = source.read_text()
        beside = []
        with self.progress.phase("bench", "a change of a module") as phase:
            for number in range(4):
                source.write_text(f"{text}/* {secrets.token_hex(8)} */\n")
                took, waited = self._suite(copy, f"changed-{number}")
                if number:
                    beside.append(took - waited)
            phase.note("a change of a module")
        yield Row.of("test-arm, a C file changed, but its cases / 6 s", beside, [6.0], "s", most=1)

    def _suite(self, repository: Path, name: str) -> tuple[float, float]:
        """Run what `make test-arm` runs: host seconds of it all, and of the waits for cases."""
        directory = self.work / name
        command = [
            *(*COMMAND, "test", *self.kernel),
            *(f"--append={_OURS}", f"--run-dir={directory}"),
        ]
        took = _timed(lambda: run(command, cwd=repository))
        cases = record.read(directory).cases()
        return took, sum(case.duration for case in cases if case.id != "layout")

    def _parsed(self) -> Iterator[Row]:
        """KTAP out of a console's noise: seconds for 64 MiB, beside 50 MB/s."""
        noise = b"".join(
            b"[%5d.%06d] a driver says: %d lines of what is no KTAP 0x%x\r\n"
            % (line // 10, line, line, line * 7919)
            for line in range(20_000)
        )
        times = -(-_PARSED // len(noise))
        ours = [_timed(lambda: _parse(noise, times)) for _ in range(3)]
        goal = times * len(noise) / 50e6
        yield Row.of("parse 64 MiB of console / at 50 MB/s", ours, [goal], "s", most=1)


# The suites that are built in run at each boot but for this; kunit.py says itself which it wants.
_QUIET = "kunit.filter_glob=none"
_OURS = "kunit.filter_glob=cma_*"  # the suites of _SUITE
_SUITE = "cma_kunit"
_LOADS = f'CMA_RUN="insmod {MODULES}/{_SUITE}.ko; rmmod {_SUITE}; poweroff -f"'


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _answer(copies: Copies, directory: Path) -> None:
    with copies.start(directory) as guest:
        _heard(guest)


def _heard(guest: Guest) -> None:
    if guest.console.run("echo here", _SECONDS).output != "here\n":
        raise HostError("a guest did not answer", where="bench")


def _raw(launch: Launch, directory: Path) -> None:
    machine = Machine.start(launch, directory)
    console = Console(machine.console, why=machine.why)  # reads it: QEMU waits for who does not
    try:
        machine.cont()
        ending = machine.ended(_SECONDS)
    finally:
        console.close()
        machine.stop()
    if ending is None:
        raise HostError("the guest did not power off", where=str(directory))


def _parse(noise: bytes, times: int) -> None:
    parser = ktap.Parser()
    for _ in range(times):
        parser.feed(noise)
    parser.close()
