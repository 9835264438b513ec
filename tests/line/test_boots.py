"""Further guests: their faults and hangs are verdicts, and their consoles are kept."""

from __future__ import annotations

from harness.verdict import Verdict

CASES = """
import pytest
from harness.config import Area, Layout

pytestmark = pytest.mark.shares_guest
PLAIN = Layout(name="further", description="none")
HANGS = PLAIN.model_copy(
    update={"area": (Area(name="linux,cma", size=16 << 20, at=0x40000000),), "name": "hangs"}
)


def test_a_command_line_of_its_own(boot):
    guest = boot(PLAIN, "cma=24M", edit=lambda tree: tree.setprop_str(0, "serial-number", "7"))
    assert "CmaTotal:          24576 kB" in guest.run("cat /proc/meminfo").output
    assert guest.run("cat /proc/device-tree/serial-number").output == "7\\0"


def test_two_at_once_and_the_shared_one(boot, guest):
    others = [boot("default"), boot("two-areas")]
    names = [one.run("ls /sys/kernel/debug/cma").output.split() for one in (guest, *others)]
    assert [len(each) for each in names] == [1, 1, 2]


def test_a_warning_there(boot):
    guest = boot(PLAIN)
    guest.run("insmod /lib/cma/broken_warn.ko >/dev/null 2>&1 &")
    while b"end trace" not in guest.console.text():
        guest.console.read(60)  # which leaves faults to whoever judges


def test_a_warning_that_is_meant(boot):
    guest = boot(PLAIN)
    with guest.console.expect_fault("warning"):
        guest.run("insmod /lib/cma/broken_warn.ko")


def test_a_boot_that_hangs(boot):
    boot(HANGS)


def test_the_shared_one_lives_on(guest):
    assert guest.run("echo alive").output == "alive\\n"
"""


def test_further_guests(run, tmp_path):
    file = tmp_path / "test_further.py"
    file.write_text(CASES)
    line = run("test", str(file))
    assert line.verdicts == {
        "test_a_command_line_of_its_own": Verdict.PASS,
        "test_two_at_once_and_the_shared_one": Verdict.PASS,
        "test_a_warning_there": Verdict.CRASH,
        "test_a_warning_that_is_meant": Verdict.PASS,
        "test_a_boot_that_hangs": Verdict.TIMEOUT,
        "test_the_shared_one_lives_on": Verdict.PASS,
    }, line.output
    assert "broken_warn" in line.cases["test_a_warning_there"].message
    hung = line.cases["test_a_boot_that_hangs"]
    assert "the processors repeat 0xffff00" in hung.message
    assert hung.console.log == "boots/06-hangs/console.log"
    cell = line.directory / line.record.cells[0].name
    log = (cell / hung.console.log).read_bytes()
    assert len(log) == hung.console.end
    assert b"Linux version" in log
    assert (cell / "boots/06-hangs/boot.sh").exists()
    assert len(line.record.cells[0].boots) == 1  # the shared guest was not replaced
