"""QEMU's command line for a guest, and the script that starts the same guest by hand. Pure.

QEMU is the client of its console and QMP sockets: the harness listens before it starts QEMU, so
nobody polls for a socket to appear, and a QEMU whose harness is already dead finds no listener and
ends by itself. It starts with -S; the guest runs from the first `cont`, and nothing that it prints
is missed.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GUEST_ADDRESS = "10.0.2.15"  # the first address of QEMU's user network
SSH_PORT = 22
NS_PER_INSTRUCTION = 2  # of a guest that counts: icount's 2^shift
_COUNTING = ("-icount", "shift=1,sleep=off", "-rtc", "clock=vm,base=2026-01-01")


@dataclass(frozen=True, slots=True)
class Launch:
    """What a guest is made of; everything a board's and a cell's data say about its QEMU.

    `memory` is in MiB. `serial_index` counts the serial ports before the console's (zynq: 1).
    `network` adds QEMU's user network on a virtio-mmio device, with a port of 127.0.0.1 forwarded
    to the guest's ssh and nothing else reachable, and a virtio random number generator for
    dropbear's keys. `power_off`: whether the guest can end QEMU by itself. `seed` makes QEMU's own
    random numbers the same in each run. `image` is for a guest that is stored, or was.

    `watch` has QEMU log each time that a guest comes to some addresses.

    `counting`: the guest's clock counts its instructions, of which one takes 2 ns, and nothing
    else; when it sleeps, the clock jumps. It takes one processor: with two, 7.2 stands still.
    """

    kernel: Path
    machine: str = "virt"
    cpu: str = "cortex-a15"
    memory: int = 512
    cpus: int = 2
    dtb: Path | None = None
    initrd: Path | None = None
    cmdline: str = ""
    serial_index: int = 0
    network: bool = False
    power_off: bool = True
    counting: bool = False
    seed: int | None = None
    image: Image | None = None
    watch: Watch | None = None
    extra: tuple[str, ...] = ()
    program: str = "qemu-system-arm"


@dataclass(frozen=True, slots=True)
class Image:
    """The file that is a guest's memory: written to by one that is to be stored.

    A `restored` one only reads it: what it writes is its own (copy on write), so that many can
    run from one file. It waits for its state, and its console goes on in the log that is there.
    One that is `stored_again` has a file of its own to write to.
    """

    memory: Path
    restored: bool = False
    stored_again: bool = False


@dataclass(frozen=True, slots=True)
class Watch:
    """Addresses of functions, and the file that gets a record of each time one is entered.

    harness/guest/executed.py reads it. The guest takes some ten times as long.
    """

    file: Path
    addresses: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sockets:
    """Where QEMU meets the harness: unix sockets (at most 107 bytes of path), and the raw log."""

    console: Path
    qmp: Path
    log: Path
    gdb: Path | None = None


def argv(launch: Launch, sockets: Sockets) -> tuple[str, ...]:
    """Return the command that starts QEMU, stopped, with console and QMP on `sockets`.

    QEMU itself writes every byte of the console to `sockets.log`, so a harness that dies or falls
    behind loses none.
    """
    restored = launch.image is not None and launch.image.restored
    console = (
        f"socket,id=console,path={_option(sockets.console)}"
        f",logfile={_option(sockets.log)},logappend={'on' if restored else 'off'}"
    )
    return (
        *_hardware(launch),
        *_memory(launch),
        *("-display", "none"),
        *("-chardev", console),
        *_serial(launch, "chardev:console"),
        *("-qmp", f"unix:{_option(sockets.qmp)}"),
        *(("-gdb", f"unix:{_option(sockets.gdb)},server=on,wait=off") if sockets.gdb else ()),
        *_network(launch),
        *_watch(launch),
        *launch.extra,
        *(("-incoming", "defer") if restored else ()),
        "-S",
    )


def boot_script(launch: Launch) -> str:
    """Return a sh script with which a person starts the same guest on the terminal.

    Its arguments are added to QEMU's: `./boot.sh -s -S` waits for gdb.
    """
    command = (
        *_hardware(launch),
        *("-display", "none"),
        *_serial(launch, "mon:stdio"),
        *_network(launch),
        *launch.extra,
    )
    return (
        "#!/bin/sh\n"
        "# The guest of this run, by hand. Ctrl-A X ends it, Ctrl-A C is QEMU's monitor.\n"
        f'exec {_lines(command)} \\\n    "$@"\n'
    )


def _hardware(launch: Launch) -> tuple[str, ...]:
    """The part that the harness's guest and a person's have in common.

    Without -nodefaults QEMU would add a network card that wants a boot ROM of a package that need
    not be there (efi-virtio.rom, Debian's ipxe-qemu).

    A board's sound chip plays nowhere: it would look for the host's, and fill standard error when
    there is none.
    """
    return (
        launch.program,
        *("-no-user-config", "-nodefaults", "-no-reboot"),
        *("-audiodev", "none,id=sound"),
        *("-machine", launch.machine),
        *("-cpu", launch.cpu),
        *("-smp", str(launch.cpus)),
        *("-m", f"{launch.memory}M"),
        *("-kernel", str(launch.kernel)),
        *(("-dtb", str(launch.dtb)) if launch.dtb else ()),
        *(("-initrd", str(launch.initrd)) if launch.initrd else ()),
        *("-append", launch.cmdline),
        *(("-seed", str(launch.seed)) if launch.seed is not None else ()),
        *(_COUNTING if launch.counting else ()),
    )


def _memory(launch: Launch) -> tuple[str, ...]:
    """The machine's memory as a file, where it is to outlive its QEMU."""
    if launch.image is None:
        return ()
    share = "off" if launch.image.restored and not launch.image.stored_again else "on"
    file = f"mem-path={_option(launch.image.memory)},size={launch.memory}M,share={share}"
    return (
        *("-object", f"memory-backend-file,id=memory,{file}"),
        *("-machine", "memory-backend=memory"),
    )


def _watch(launch: Launch) -> tuple[str, ...]:
    """A block of instructions begins at each address: two bytes are the shortest instruction."""
    if launch.watch is None:
        return ()
    ranges = ",".join(f"{address:#x}+2" for address in launch.watch.addresses)
    return (
        *("-d", "exec,cpu,nochain"),
        *("-dfilter", ranges),
        *("-D", str(launch.watch.file)),
    )


def _serial(launch: Launch, console: str) -> tuple[str, ...]:
    return (*("-serial", "null") * launch.serial_index, "-serial", console)


def _network(launch: Launch) -> tuple[str, ...]:
    """The forwarded port is chosen by the host's kernel; QMP's `info usernet` tells which.

    rng-builtin costs no reading of the host's devices and follows `-seed`. virtio-net-device is
    the virtio-mmio card, which has no boot ROM; a guest that was restored is where it was, and need
    not tell its neighbours (guest_announce).
    """
    if not launch.network:
        return ("-nic", "none")
    return (
        *("-netdev", f"user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-:{SSH_PORT}"),
        *("-device", "virtio-net-device,netdev=net0,guest_announce=off"),
        *("-object", "rng-builtin,id=rng0"),
        *("-device", "virtio-rng-device,rng=rng0"),
    )


def _option(path: Path) -> str:
    """A path as the value of a QEMU option, where a comma is written twice."""
    return str(path).replace(",", ",,")


def _lines(command: Sequence[str]) -> str:
    """Quote a command for sh, an option with its value on each line."""
    lines: list[str] = []
    for word in command:
        if word.startswith("-") or not lines:
            lines.append(shlex.quote(word))
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n    ".join(lines)
