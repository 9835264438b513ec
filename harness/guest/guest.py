"""A running guest: what the rest of the harness holds in its hand."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness.closing import Closing
from harness.errors import GuestDied, GuestError, GuestStuck, GuestTimeout
from harness.guest import marks
from harness.guest.command import Completed
from harness.guest.console import READY, Console
from harness.guest.machine import CONSOLE_LOG, Ending, Machine, Qmp
from harness.guest.marks import woven
from harness.guest.qemu import SSH_PORT, Image, Launch, boot_script
from harness.guest.ssh import AUTHORIZED_KEYS, Keys, Ssh
from harness.guest.stored import Stored, load, save
from harness.guest.stuck import Stuck, cpu_seconds, program_counters, telling

BOOT_SCRIPT = "boot.sh"

_INIT = rb"Run /init as init process"
_LOGIN_SECONDS = 30.0
_CHECK_SECONDS = 0.01  # for one look at the console
# Until SysRq says something, is done, and at most: a slow console has 10 KiB a second.
_ANSWER_SECONDS, _SILENCE_SECONDS, _LONGEST_ANSWER = 2.0, 0.5, 15.0
_KILL_LINE = b"\x15"  # of the terminal
_LOOK_SECONDS = 0.25  # between two looks at where the processors of a booting guest are


@dataclass(frozen=True, slots=True)
class Phases:
    """Where the host's seconds of a boot went. Not to be compared across runs or hosts.

    `qemu`: until QEMU has made the machine. `kernel`: until the kernel starts /init.
    `init`: until /init says that all is up.
    """

    qemu: float
    kernel: float
    init: float


@dataclass(frozen=True, slots=True)
class Typed:
    """A command that was typed at an offset of console.log, by the mark of its end."""

    mark: bytes
    at: int


class Guest(Closing):
    """A booted guest, used from one thread; leaving its `with` ends QEMU.

    Commands and files go over ssh when the board has a network and the run has keys, else over
    the console. Both raise KernelFaulted, GuestDied and GuestTimeout, with the console's tail.
    """

    def __init__(
        self,
        machine: Machine,
        console: Console,
        keys: Keys | None,
        boot: Phases,
        *,
        slow: float = 1,
        power_off: bool = True,
        typed: Typed | None = None,
    ) -> None:
        self.machine = machine
        self.console = console
        self.phases = boot
        self._keys = keys
        self._slow = slow
        self._can_power_off = power_off
        self._ssh: Ssh | None = None
        self._typed = typed  # what lets ssh in, until somebody has waited for it

    @classmethod
    def boot(
        cls,
        launch: Launch,
        directory: Path,
        keys: Keys | None = None,
        *,
        timeout: float = 60,
        slow: float = 1,
        gdb: bool = False,
    ) -> Self:
        """Start a guest and wait up to `timeout` seconds until its init is ready.

        `slow` is for a kernel that checks itself: all that it is waited for, this boot included,
        may take so many times longer than callers say.

        `directory` gets console.log, qemu.log and boot.sh. `launch.initrd` must hold images/init
        and, for ssh, `keys.files`. Raises HostError when QEMU fails, what waits raise, and
        GuestStuck as soon as no processor gets on.
        """
        directory.mkdir(parents=True, exist_ok=True)
        _write_script(launch, directory)
        began = time.monotonic()
        machine = Machine.start(launch, directory, gdb=gdb, timeout=timeout)
        console = Console(machine.console, why=machine.why, slow=slow)
        try:
            made = time.monotonic()
            machine.cont()
            _await(machine, console, _INIT + b"|" + woven(READY), timeout, "booting the kernel")
            init = time.monotonic()
            if READY not in console.text(0, console.position):
                left = timeout - (init - made) / slow
                _await(machine, console, woven(READY), left, "waiting for /init")
            phases = Phases(made - began, init - made, time.monotonic() - init)
        except BaseException:
            console.close()
            machine.stop()
            raise
        login = keys if launch.network else None
        return cls(machine, console, login, phases, slow=slow, power_off=launch.power_off)

    @classmethod
    def restore(
        cls,
        launch: Launch,
        stored: Stored,
        directory: Path,
        *,
        slow: float = 1,
        login: bool = True,
    ) -> Self:
        """Start a copy of a stored guest, which goes on where that was stopped.

        `directory` gets what `boot` gives it; console.log goes on in the one that is there, and
        begins with what the stored guest had said. `launch.image` is for a copy that is to be
        stored again. Without `login` nothing is typed, and all goes over the console; with it
        nobody has waited yet for what was. Raises HostError when QEMU fails or does not take what
        is stored, and GuestDied.
        """
        directory.mkdir(parents=True, exist_ok=True)
        _write_script(launch, directory)
        log = directory / CONSOLE_LOG
        if not log.exists():
            shutil.copyfile(stored.console, log)
        began = time.monotonic()
        image = launch.image or Image(stored.memory, restored=True)
        machine = Machine.start(replace(launch, image=image), directory)
        made = time.monotonic()
        console = Console(machine.console, why=machine.why, slow=slow, before=log.read_bytes())
        keys = typed = None
        try:
            load(machine, stored)
            machine.cont()
            if launch.network and login:
                keys = Keys(Ed25519PrivateKey.generate(), stored.host_key.read_bytes())
                authorize = f"echo '{keys.authorized}' >{AUTHORIZED_KEYS}"
                typed = Typed(console.type(authorize, _LOGIN_SECONDS), console.position)
        except BaseException:
            console.close()
            machine.stop()
            raise
        phases = Phases(made - began, time.monotonic() - made, 0)
        power_off = launch.power_off
        return cls(machine, console, keys, phases, slow=slow, power_off=power_off, typed=typed)

    def store(self, stored: Stored, known: bytes = b"") -> None:
        """Store this guest, which was started with `stored.memory` for its own, and end it.

        `known` is kept with it. A copy's console expects the shell of `console.run`, if it is to be
        typed at: let one have run before. Raises KernelFaulted for a fault that came meanwhile, and
        `HarnessError` when the board has a device that cannot be stored.
        """
        stored.host_key.write_bytes(self._keys.host if self._keys else b"")
        stored.known.write_bytes(known)
        save(self.machine, stored)
        self.console.check()  # a fault that came until now nobody would be told of in a copy
        self.close()
        shutil.copyfile(self.machine.directory / CONSOLE_LOG, stored.console)

    @property
    def qmp(self) -> Qmp:
        """QEMU's control socket."""
        return self.machine.qmp

    @property
    def boot_seconds(self) -> float:
        """Seconds from the first instruction to the init's ready line."""
        return self.phases.kernel + self.phases.init

    @property
    def ssh(self) -> Ssh | None:
        """The ssh connection, made when it is first asked for; None without network or keys.

        Raises what `Ssh.connect` and `Console.check` raise, and GuestTimeout.
        """
        if self._ssh is None and self._keys is not None:
            self._await_typed()
            port = self.machine.forwarded_port(SSH_PORT)
            self._ssh = Ssh.connect(
                port, self._keys, _LOGIN_SECONDS, self.console.check, slow=self._slow
            )
        return self._ssh

    def _await_typed(self) -> None:
        """Wait for the end of what was typed when the guest was restored.

        Nothing of the console is consumed: others may be at it, and may have read a part of that.
        """
        if self._typed is None:
            return
        ending = marks.ending(self._typed.mark)
        deadline = time.monotonic() + _LOGIN_SECONDS * self._slow
        while not ending.search(self.console.text(self._typed.at)):
            if time.monotonic() >= deadline:
                raise GuestTimeout(
                    f"authorizing the keys of ssh: not within {_LOGIN_SECONDS * self._slow:g} s",
                    where="console",
                    next_step="end what runs on the console before ssh is used first",
                    tail=self.console.tail(),
                )
            self.console.check(_CHECK_SECONDS)
        self._typed = None

    def run(self, command: str, timeout: float = 30) -> Completed:
        """Run a sh command, without input and keeping no state from the command before."""
        with self._tail():
            ssh = self.ssh
            return ssh.run(command, timeout) if ssh else self.console.run(command, timeout)

    def put(self, local: Path, remote: str, timeout: float = 60) -> None:
        """Copy a file into the guest with its mode, and compare the copy."""
        with self._tail():
            (self.ssh or self.console).put(local, remote, timeout)

    def get(self, remote: str, local: Path, timeout: float = 60) -> None:
        """Copy a file out of the guest with its mode, and compare the copy."""
        with self._tail():
            (self.ssh or self.console).get(remote, local, timeout)

    def power_off(self, timeout: float = 10) -> Ending:
        """Let the guest power itself off; end QEMU when it has not within `timeout` seconds.

        A board that cannot is ended when it has written out what it holds. Returns how QEMU ended;
        never hangs, whatever the guest does.
        """
        with suppress(GuestError):  # it may be dead or deaf already: then QEMU is ended below
            if self._can_power_off:
                self.console.send(_KILL_LINE + b"\npoweroff -f\n")
                self.machine.ended(timeout * self._slow)
            else:
                self.console.run("sync", timeout)
        self.close()
        ending = self.machine.ended()
        assert ending, "close() has ended it"
        return ending

    def sysrq(self, key: bytes) -> None:
        """Press a key of the kernel's SysRq: what it does or says needs no user space.

        A break on the serial line comes before it. Where that is nothing special (Zynq's in QEMU),
        the key is taken back from the terminal's line. Raises GuestError when QEMU is gone.
        """
        self.machine.qmp.execute("chardev-send-break", id="console")
        self.console.send(key + _KILL_LINE)

    def doing(self) -> tuple[tuple[int, ...], str]:
        """Return where each processor is, and what the kernel says of them and of its tasks.

        That is SysRq l and t; empty where it does not listen. For a guest that is of no use any
        more: its console is read on.
        """
        at: tuple[int, ...] = ()
        said = b""
        with suppress(GuestError):
            at = program_counters(self.machine.qmp.monitor("info registers -a"))
            for key in (b"l", b"t"):
                self.sysrq(key)
                for answer in self._answer():
                    said += answer
        return at, telling(said.decode("utf-8", "replace").replace("\r", ""))

    def _answer(self) -> Iterator[bytes]:
        """Yield what the console says until it is silent; what hangs may never be."""
        end = time.monotonic() + _LONGEST_ANSWER * self._slow
        answer = self.console.read(_ANSWER_SECONDS * self._slow)
        while answer and time.monotonic() < end:
            yield answer
            answer = self.console.read(_SILENCE_SECONDS * self._slow)

    @contextmanager
    def _tail(self) -> Iterator[None]:
        """Add the console's tail to errors of ssh, which does not see the console."""
        try:
            yield
        except GuestError as error:
            error.tail = error.tail or self.console.tail()
            raise

    def close(self) -> None:
        """End the guest at once; twice is fine. Its console's text and faults stay readable."""
        if self._ssh is not None:
            self._ssh.close()
            self._ssh = None
        self._keys = None
        self.machine.stop()
        self.console.close()


def _write_script(launch: Launch, directory: Path) -> None:
    script = directory / BOOT_SCRIPT
    script.write_text(boot_script(launch))
    script.chmod(0o755)


def _await(machine: Machine, console: Console, pattern: bytes, timeout: float, doing: str) -> None:
    """Wait for a console's text as long as there is hope."""
    deadline = time.monotonic() + timeout
    stuck = Stuck(
        lambda: program_counters(machine.qmp.monitor("info registers -a")),
        lambda: cpu_seconds(machine.process.pid),
    )
    while True:
        left = deadline - time.monotonic()
        heard = console.heard
        try:
            console.wait_for(pattern, min(_LOOK_SECONDS, max(0.0, left)), doing)
        except GuestTimeout as error:
            if left <= _LOOK_SECONDS:
                raise GuestTimeout(
                    f"{doing}: not within {timeout:.3g} s",
                    where=error.where,
                    next_step=error.next_step,
                    tail=error.tail,
                ) from error
            if console.heard != heard:
                stuck.forget()  # who speaks gets on; a look would take the guest's time
            else:
                with suppress(GuestDied):  # the console says how
                    _raise_if_stuck(stuck, console, doing)
        else:
            return


def _raise_if_stuck(stuck: Stuck, console: Console, doing: str) -> None:
    at = stuck.look()
    if at:
        raise GuestStuck(
            f"{doing}: the processors repeat {', '.join(f'{each:#x}' for each in at)}",
            where="console",
            next_step="see the end of the console; 'earlycon' shows more of it",
            tail=console.tail(),
        )
