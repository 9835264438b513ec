"""QEMU's command line: what the guest gets, what a person's script says, and its quoting."""

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

from harness.guest.qemu import Image, Launch, Sockets, Watch, argv, boot_script

LAUNCH = Launch(
    kernel=Path("zImage"), cmdline="console=ttyAMA0 panic=-1", memory=256, cpus=3, cpu="cortex-a7"
)
SOCKETS = Sockets(console=Path("s/console"), qmp=Path("s/qmp"), log=Path("run/console.log"))


def pairs(command):
    """Each option of the command with the word after it."""
    return list(zip(command, (*command[1:], ""), strict=True))


def test_the_guest_starts_stopped_with_what_the_launch_says():
    command = argv(LAUNCH, SOCKETS)
    assert command[0] == "qemu-system-arm"
    for pair in (
        ("-machine", "virt"),
        ("-cpu", "cortex-a7"),
        ("-smp", "3"),
        ("-m", "256M"),
        ("-kernel", "zImage"),
        ("-append", "console=ttyAMA0 panic=-1"),
        ("-nic", "none"),
        ("-qmp", "unix:s/qmp"),
        ("-serial", "chardev:console"),
    ):
        assert pair in pairs(command)
    assert {"-S", "-no-reboot", "-nodefaults"} <= set(command)
    assert not {"-dtb", "-initrd", "-seed", "-gdb", "-netdev"} & set(command)


def test_qemu_itself_logs_the_console():
    chardev = dict(pairs(argv(LAUNCH, SOCKETS)))["-chardev"]
    assert chardev == "socket,id=console,path=s/console,logfile=run/console.log,logappend=off"


def test_qemu_connects_to_the_harness_but_gdb_connects_to_qemu():
    command = argv(LAUNCH, replace(SOCKETS, gdb=Path("s/gdb")))
    assert ("-gdb", "unix:s/gdb,server=on,wait=off") in pairs(command)
    assert "server" not in dict(pairs(command))["-chardev"]


def test_a_comma_in_a_path_is_doubled():
    chardev = dict(pairs(argv(LAUNCH, replace(SOCKETS, log=Path("a,b/c.log")))))["-chardev"]
    assert "logfile=a,,b/c.log," in chardev


def test_the_console_is_the_serial_port_of_its_index():
    command = argv(replace(LAUNCH, serial_index=2), SOCKETS)
    ports = [value for option, value in pairs(command) if option == "-serial"]
    assert ports == ["null", "null", "chardev:console"]


def test_the_network_is_closed_but_for_ssh_on_the_loopback():
    command = argv(replace(LAUNCH, network=True), SOCKETS)
    assert ("-netdev", "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-:22") in pairs(command)
    assert ("-device", "virtio-net-device,netdev=net0,guest_announce=off") in pairs(command)
    assert ("-object", "rng-builtin,id=rng0") in pairs(command)
    assert "-nic" not in command


def test_optional_files_and_the_seed():
    launch = replace(
        LAUNCH, dtb=Path("b.dtb"), initrd=Path("i.cpio"), seed=0, extra=("-icount", "1")
    )
    command = pairs(argv(launch, SOCKETS))
    for pair in (("-dtb", "b.dtb"), ("-initrd", "i.cpio"), ("-seed", "0"), ("-icount", "1")):
        assert pair in command


def test_the_script_starts_the_same_guest_on_the_terminal(tmp_path):
    echo = tmp_path / "print arguments"
    echo.write_text("#!/bin/sh\nfor word; do printf '%s\\0' \"$word\"; done\n")
    echo.chmod(0o755)
    launch = replace(
        LAUNCH, program=str(echo), cmdline='it\'s "$HOME" `id` a\\b', serial_index=1, network=True
    )
    script = tmp_path / "boot.sh"
    script.write_text(boot_script(launch))
    said = subprocess.run(["sh", script, "-s"], capture_output=True, text=True, check=True).stdout
    words = said.split("\0")[:-1]
    harness = list(argv(launch, SOCKETS)[1:])
    assert words[-1] == "-s"
    assert ("-append", launch.cmdline) in pairs(words)
    assert [value for option, value in pairs(words) if option == "-serial"] == ["null", "mon:stdio"]
    ours = {"-s", "-serial", "null", "mon:stdio"}
    assert [word for word in words if word not in ours] == [
        word
        for option, word in zip(["", *harness], harness, strict=False)
        if word not in {"-S", "-chardev", "-qmp", "-serial"}
        and option not in {"-chardev", "-qmp", "-serial"}
    ]


def test_the_script_has_an_option_a_line():
    lines = boot_script(LAUNCH).splitlines()
    assert "    -cpu cortex-a7 \\" in lines
    assert f"    -append {shlex.quote(LAUNCH.cmdline)} \\" in lines


def test_a_guest_to_be_stored_writes_its_memory_into_a_file():
    command = argv(replace(LAUNCH, image=Image(Path("a,b/memory"))), SOCKETS)
    backend = "memory-backend-file,id=memory,mem-path=a,,b/memory,size=256M,share=on"
    assert ("-object", backend) in pairs(command)
    assert ("-machine", "memory-backend=memory") in pairs(command)
    assert "-incoming" not in command


def test_a_restored_guest_only_reads_that_and_waits_for_its_state():
    launch = replace(LAUNCH, image=Image(Path("memory"), restored=True))
    command = argv(launch, SOCKETS)
    assert any(word.endswith("mem-path=memory,size=256M,share=off") for word in command)
    assert ("-incoming", "defer") in pairs(command)
    assert dict(pairs(command))["-chardev"].endswith(",logappend=on")
    assert boot_script(launch) == boot_script(LAUNCH)  # by hand it is booted


def test_a_guest_that_counts_has_a_clock_of_instructions_alone():
    command = argv(replace(LAUNCH, cpus=1, counting=True), SOCKETS)
    assert ("-icount", "shift=1,sleep=off") in pairs(command)
    assert ("-rtc", "clock=vm,base=2026-01-01") in pairs(command)
    assert "-icount" not in argv(LAUNCH, SOCKETS)
    assert "-icount" in boot_script(replace(LAUNCH, cpus=1, counting=True))


def test_a_watched_guest_is_logged_at_each_address_without_chaining():
    watch = Watch(Path("run/executed.log"), (0xC0704646, 0xC0100000))
    command = pairs(argv(replace(LAUNCH, watch=watch), SOCKETS))
    assert ("-d", "exec,cpu,nochain") in command
    assert ("-dfilter", "0xc0704646+2,0xc0100000+2") in command
    assert ("-D", "run/executed.log") in command
    assert "-d" not in argv(LAUNCH, SOCKETS)
