"""The guest itself: both its connections say the same, its faults are seen, its areas add up."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cma.areas import survey
from harness.cma.counters import take
from harness.cma.helper import Helper
from harness.errors import GuestTimeout, KernelFaulted
from harness.faults import FaultKind, extract
from harness.guest.console import Console
from harness.guest.guest import Guest
from harness.guest.ssh import Ssh
from harness.module_run import KUNIT_FILTER

KIB, MIB = 1 << 10, 1 << 20
SECONDS = 20.0
WARN = "insmod /lib/cma/broken_warn.ko"  # a KUnit suite that calls WARN_ON()

Connection = Console | Ssh


@pytest.fixture(params=["console", "ssh"])
def connection(request: pytest.FixtureRequest, guest: Guest) -> Connection:
    """Each of the guest's connections in turn."""
    if request.param == "console":
        return guest.console
    if guest.ssh is None:
        pytest.skip("the board has no network")
    return guest.ssh


COMMANDS = {
    "true": (0, ""),
    "exit 7": (7, ""),
    "echo out; echo err >&2; echo out": (0, "out\nerr\nout\n"),
    "printf 'no end of line'": (0, "no end of line"),
    r"printf 'gr\303\274n\t\001|\r\n'": (0, "grün\t\x01|\r\n"),
    "cat; echo no input": (0, "no input\n"),
    "sh -c 'kill -9 $$'; exit $?": (137, "Killed\n"),
    "grep -q PPid:.$$ /proc/self/status && echo mine": (0, "mine\n"),
    "cd /tmp; HOME=/mnt; pwd": (0, "/tmp\n"),
    "echo $HOME; pwd": (0, "/root\n/root\n"),  # nothing is left of the command before
    "echo a; echo said by the kernel >/dev/kmsg; echo b": (0, "a\nb\n"),
    "seq 9000": (0, "".join(f"{number}\n" for number in range(1, 9001))),
}


def test_a_command_has_its_status_and_output(connection: Connection) -> None:
    got = {command: connection.run(command, timeout=SECONDS) for command in COMMANDS}
    assert {command: (done.status, done.output) for command, done in got.items()} == COMMANDS


def test_a_command_over_its_deadline_leaves_a_usable_guest(connection: Connection) -> None:
    with pytest.raises(GuestTimeout):
        connection.run("sleep 60", timeout=0.5)
    assert connection.run("echo alive", timeout=SECONDS).output == "alive\n"


# The console carries some 25 kB a second into the guest; two of its blocks are enough there.
@pytest.mark.parametrize(
    ("connection", "size"), [("console", 25 * KIB), ("ssh", MIB)], indirect=["connection"]
)
def test_a_file_arrives_byte_for_byte_and_comes_back(
    guest: Guest, connection: Connection, size: int, tmp_path: Path
) -> None:
    sent, back = tmp_path / "sent", tmp_path / "back"
    data = bytes(range(256)) + random.Random(size).randbytes(size - 256)
    sent.write_bytes(data)
    sent.chmod(0o640)
    connection.put(sent, "/tmp/it's here")
    told = guest.run(
        """sha256sum <"/tmp/it's here"; stat -c '%a %s' "/tmp/it's here"; ls /tmp/*.part"""
    )
    digest, _, mode, there, *_ = told.output.split()
    assert (digest, mode, there) == (hashlib.sha256(data).hexdigest(), "640", str(size))
    connection.get("/tmp/it's here", back)
    assert back.read_bytes() == data
    assert back.stat().st_mode & 0o777 == 0o640
    guest.run("""rm "/tmp/it's here\"""").checked("removing the copy")


def test_a_provoked_warning_is_no_failure(guest: Guest) -> None:
    with guest.console.expect_fault(FaultKind.WARNING) as faults:
        guest.run(WARN).checked("provoking a warning")
    guest.run("rmmod broken_warn").checked("unloading")
    assert [fault.kind for fault in faults] == [FaultKind.WARNING]
    assert "broken_warn" in faults[0].headline
    assert not faults[0].terminal


def test_an_unannounced_warning_is_raised(guest: Guest) -> None:
    with pytest.raises(KernelFaulted, match=r"WARNING: .*broken_warn"):
        guest.run(WARN)
    guest.run("rmmod broken_warn").checked("unloading")


def test_a_warning_is_raised_where_another_fault_was_announced(guest: Guest) -> None:
    announced = guest.console.expect_fault(FaultKind.OOPS)
    with pytest.raises(KernelFaulted, match=r"WARNING: .*broken_warn"), announced:
        guest.run(WARN)
    guest.run("rmmod broken_warn").checked("unloading")


def test_the_boot_has_no_fault(guest: Guest) -> None:
    log = guest.run("dmesg").checked("dmesg")
    boot, reached, _later = log.partition("Run /init as init process")
    assert reached
    assert "Linux version" in boot
    assert [fault.headline for fault in extract(boot.encode())] == []


def test_the_areas_are_meminfo_s_total(guest: Guest) -> None:
    seen, system = survey(guest.console), take(guest.console).system
    total = sum(area.size for area in seen.areas)
    assert total == seen.meminfo["CmaTotal"] == system.cma_total * KIB
    assert bool(seen.areas) <= seen.meminfo["CmaFree"] <= seen.meminfo["CmaTotal"]


def test_used_is_what_sysfs_counts_and_the_bitmap_holds(guest: Guest, helper: Helper) -> None:
    for kib in (4, 100, 12):
        helper.write_kib(kib)
    helper.read_oldest()
    seen, snapshot = survey(guest.console), take(guest.console)
    if any(area.release_pages_success is None for area in snapshot.areas):
        pytest.skip("this kernel has no release_pages_success (before 6.9)")
    assert [(area.name, area.used) for area in seen.areas] == [
        (area.name, sum(length for _first, length in area.set)) for area in snapshot.areas
    ]
    for area in snapshot.areas:
        assert area.alloc_pages_success is not None
        assert area.release_pages_success is not None
        assert area.used == area.alloc_pages_success - area.release_pages_success


def test_survey_follows_each_page(guest: Guest, helper: Helper, used: Callable[[], int]) -> None:
    seen = [used()]
    for kib in (4, 40):
        helper.write_kib(kib)
        seen.append(used())
    assert [count - seen[0] for count in seen] == [0, 1, 11]


FRACTION = "/proc/sys/vm/percpu_pagelist_high_fraction"
FIRST_SCAN = "/sys/module/rcutree/parameters/jiffies_till_first_fqs"
# What has come of each line is waited for; the name of a process in `stat` ends with a bracket.
CASE = f"""
mkfifo /tmp/lines
cma-case </tmp/lines >/tmp/said 2>&1 & program=$!
exec 9>/tmp/lines
asked() {{
    echo "~$*" >&9
    until grep -q "~$1:" /tmp/said; do kill -0 $program || exit 1; sleep 0.1; done
    echo "$1 $(cat {FIRST_SCAN}) $(sed 's/.*) //' /proc/$program/stat | cut -d ' ' -f 39)"
}}
echo "0 $(cat {FIRST_SCAN})"
asked 1 load none /lib/cma/cma_test.ko
fraction=$(cat {FRACTION} 2>/dev/null)
asked 2 cma-snapshot --at-once
[ "$fraction" = "$(cat {FRACTION} 2>/dev/null)" ] || echo "the lists of free pages stay long"
asked 3 cma-snapshot
asked 4 load none /lib/cma/cma_test.ko
exec 9>&-
wait $program
echo "5 $(cat {FIRST_SCAN})"
grep -v '^{{' /tmp/said
rmmod cma_test
rm /tmp/lines /tmp/said
"""


def test_cma_case_puts_the_ends_of_grace_periods_off_while_it_has_something_loaded(
    guest: Guest,
) -> None:
    """And whatever it loads, or is done with, is of no better class than others."""
    if guest.run(f"test -e {FIRST_SCAN}").status:
        pytest.skip("one processor: nothing is behind a grace period (TINY_RCU)")
    if guest.run(f"stat -c %a {KUNIT_FILTER}").output.strip() != "600":
        pytest.skip("this kernel's KUnit cannot be told which case to run")
    done = guest.run(CASE, SECONDS)
    first, *rest = done.checked("working with cma-case").splitlines()
    usual = first.split()[1]
    assert usual != "30"
    assert rest == [
        "1 30 0",
        "2 30 0",
        f"3 {usual} 0",
        "4 30 0",
        f"5 {usual}",
        "cma-case: waiting",
        "~1:0.",
        "~2:0.",
        "~3:0.",
        "cma-case: /lib/cma/cma_test.ko: EEXIST (File exists)",
        "~4:1.",
    ]
