"""Verdicts shown to be real: broken modules, a broken guest, a layout that was not honoured."""

from __future__ import annotations

import os
import re
import signal
import time
from xml.etree import ElementTree

import pytest

from harness.verdict import Verdict

from .conftest import children, gone, wait_until

BROKEN = "kmod/broken/Kbuild"


def test_a_case_that_fails(run):
    line = run("test", BROKEN, "-k", "broken_fail")
    assert line.status == 1, line.output
    assert line.verdicts == {
        "passes": Verdict.PASS,
        "fails": Verdict.FAIL,
        "skips": Verdict.SKIP,
        "unload": Verdict.PASS,
    }
    assert "Expected 2 + 2 == 5" in line.cases["fails"].message
    assert line.cases["skips"].message
    junit = ElementTree.parse(line.directory / "junit.xml").getroot()
    counted = {name: int(junit.attrib[name]) for name in ("tests", "failures", "skipped")}
    # With the layout's own case and the module's end.
    assert counted == {"tests": 5, "failures": 1, "skipped": 1}


def test_a_module_that_oopses_is_a_crash_symbolised(run):
    line = run("test", BROKEN, "-k", "broken_oops")
    assert line.status == 1, line.output
    assert line.verdicts == {
        "passes": Verdict.PASS,
        "dereferences_null": Verdict.CRASH,
        "comes_after": Verdict.LOST,
        "unload": Verdict.LOST,
    }
    message = line.cases["dereferences_null"].message
    assert "in inner_read (broken_oops.c:15) of broken_oops.ko" in message
    assert "from dereferences_null" in message
    assert "(lib/kunit/test.c:" in message
    span = line.cases["dereferences_null"].console
    log = (line.directory / line.record.cells[0].name / span.log).read_bytes()
    assert b"Internal error" in log[span.start : span.end]


def test_after_a_crash_the_next_module_has_a_new_guest(run):
    line = run("test", BROKEN, "-k", "dereferences_null or broken_warn")
    assert line.verdicts["dereferences_null"] is Verdict.CRASH
    assert line.verdicts["warns"] is Verdict.CRASH
    assert len(line.record.cells[0].boots) == 2


def test_a_warning_is_a_crash_of_the_case_it_came_in(run):
    line = run("test", BROKEN, "-k", "broken_warn")
    assert line.status == 1, line.output
    assert line.verdicts["warns"] is Verdict.CRASH
    assert set(line.verdicts.values()) == {Verdict.PASS, Verdict.CRASH}
    assert "kmod/broken/broken_warn.c:20" in line.cases["warns"].message


def test_what_belongs_to_no_case_is_the_end_of_its_module(run):
    line = run("test", BROKEN, "-k", "broken_exit")
    assert line.status == 1, line.output
    assert line.verdicts == {"passes": Verdict.PASS, "unload": Verdict.CRASH}
    assert "outside every case: WARNING" in line.cases["unload"].message
    assert "kmod/broken/broken_exit.c:" in line.cases["unload"].message


def test_two_cases_of_one_name_have_a_verdict_each(run):
    line = run("test", BROKEN, "-k", "broken_twins")
    assert line.status == 1, line.output
    assert line.verdicts == {
        "twin": Verdict.PASS,
        "twin#2": Verdict.FAIL,
        "unload": Verdict.PASS,
    }


def test_a_case_that_hangs_times_out_and_the_rest_is_lost(run):
    line = run("test", BROKEN, "-k", "broken_hang", "--case-timeout=4")
    assert line.status == 1, line.output
    assert line.verdicts == {
        "passes": Verdict.PASS,
        "never_ends": Verdict.TIMEOUT,
        "comes_after": Verdict.LOST,
        "unload": Verdict.LOST,
    }
    said = line.cases["never_ends"].message
    assert "did not end within 4 s" in said
    # It is idle, or in a tick of its timer.
    assert re.search(r"processor 0: PC is at \w+\+0x\w+/0x\w+ \([\w/.-]+\.[chS]:\d+\)", said)
    assert re.search(r"from never_ends\+0x\w+/0x\w+ \[broken_hang\] \(broken_hang.c:\d+\)", said)


def test_a_guest_that_reboots_is_told_as_such(run):
    line = run("test", BROKEN, "-k", "broken_reboot", "--case-timeout=100")
    assert line.status == 1, line.output
    assert line.verdicts == {
        "passes": Verdict.PASS,
        "restarts": Verdict.LOST,
        "comes_after": Verdict.LOST,
        "unload": Verdict.LOST,
    }
    assert "the guest rebooted" in line.cases["restarts"].message


def test_qemu_killed_from_outside_is_lost_at_once(start):
    line = start("test", BROKEN, "-k", "broken_hang", "--case-timeout=200")
    console = line.directory / "6.12-virt-default" / "console.log"
    wait_until(lambda: console.exists() and b"going to sleep" in console.read_bytes())
    (qemu,) = children(line.process.pid, "qemu-system-arm")
    os.kill(qemu, signal.SIGKILL)
    killed = time.monotonic()
    line.wait()
    # Far below the deadline of 200 s: the end of QEMU ended the wait, and nothing else ran.
    assert time.monotonic() - killed < 20
    assert line.status == 1, line.output
    assert line.verdicts["never_ends"] is Verdict.LOST
    assert "killed by signal 9" in line.cases["never_ends"].message


def test_no_qemu_survives_the_harness(start):
    line = start("test", BROKEN, "-k", "broken_hang", "--case-timeout=200")
    console = line.directory / "6.12-virt-default" / "console.log"
    wait_until(lambda: console.exists() and b"ok 1 passes" in console.read_bytes())
    wait_until(lambda: line.directory.joinpath("run.json").exists())
    (qemu,) = children(line.process.pid, "qemu-system-arm")
    line.process.kill()
    line.wait()
    wait_until(lambda: gone(qemu), 10)
    assert line.record.ended is None
    assert line.verdicts["never_ends"] is Verdict.LOST


def test_ctrl_c_keeps_what_is_finished(start):
    line = start("test", BROKEN, "-k", "broken_hang", "--case-timeout=200")
    wait_until(
        lambda: (line.directory / "run.json").exists() and line.verdicts.get("passes") == "PASS"
    )
    (qemu,) = children(line.process.pid, "qemu-system-arm")
    line.process.send_signal(signal.SIGINT)
    line.wait(60)
    assert line.status == 130, line.output
    assert gone(qemu)
    assert line.verdicts["passes"] is Verdict.PASS
    assert line.verdicts["never_ends"] is Verdict.LOST
    assert (line.directory / "junit.xml").exists()


AREA = '[[area]]\nname = "{}"\nsize = "{}"\n'
NOT_HONOURED = {
    # memblock finds no room, and the kernel makes the area of CONFIG_CMA_SIZE_MBYTES instead.
    "no room": (AREA.format("huge", "256M") + "default = true", "mem=200M", "'huge' is missing"),
}


@pytest.mark.parametrize("why", NOT_HONOURED)
def test_a_layout_that_the_kernel_did_not_honour(run, tmp_path, why):
    areas, append, complaint = NOT_HONOURED[why]
    layout = tmp_path / "mine.toml"
    layout.write_text(f'description = "{why}"\n{areas}')
    line = run("test", "--layout", str(layout), "--append", append, "kmod/cma_kunit")
    assert line.status == 1, line.output
    first = line.record.cells[0].cases[0]
    assert (first.id, first.verdict) == ("layout", Verdict.FAIL)
    assert complaint in first.message
    assert set(line.verdicts.values()) == {Verdict.LOST}
    assert all("did not honour the layout" in case.message for case in line.cases.values())
    (cell,) = line.record.cells
    assert cell.qemu_argv
    left = {file.name for file in (line.directory / cell.name).iterdir()}
    assert {"console.log", "boot.sh"} <= left  # what there is to look at, of a stored guest too
    own = ("--isolate", "kmod/cma_kunit", "-k", "cma_driver", "-n", "2")
    alone = run("test", "--layout", str(layout), "--append", append, *own)
    assert set(alone.verdicts.values()) == {Verdict.LOST}, alone.output


def test_a_layout_that_cannot_be_is_refused_and_may_be_forced(run, tmp_path):
    """rmem_cma_setup() wants a multiple of CMA_MIN_ALIGNMENT_BYTES, 4 MiB here.

    Alone the area would not boot at all: 6.12.45 and later oops before the console is there.
    """
    layout = tmp_path / "mine.toml"
    areas = AREA.format("even", "64M") + "default = true\n" + AREA.format("odd", "6M")
    layout.write_text(f'description = "odd size"\n{areas}')
    refused = run("test", "--layout", str(layout), "kmod/cma_kunit")
    assert refused.status == 2, refused.output
    assert "odd: its size 0x600000" in refused.output
    forced = run("test", "--force", "--layout", str(layout), "kmod/cma_kunit", "-k", "matches")
    assert forced.status == 1, forced.output
    first = forced.record.cells[0].cases[0]
    assert (first.id, first.verdict) == ("layout", Verdict.FAIL)
    assert "area 'odd' is missing" in first.message


def test_a_guest_that_does_not_boot_is_asked_once(run):
    line = run("test", "--append", "init=/nonexistent rdinit=/nonexistent", "kmod/cma_kunit")
    assert line.status == 1, line.output
    assert line.record.cells[0].cases[0].verdict is Verdict.CRASH
    message = line.record.cells[0].cases[0].message
    assert "Unable to mount root fs" in message
    assert "(init/do_mounts.c:" in message
    assert set(line.verdicts.values()) == {Verdict.LOST}
    assert line.record.cells[0].boots == ()


def test_a_failing_python_test_is_told_with_its_assertion(run, tmp_path):
    mine = tmp_path / "test_mine.py"
    mine.write_text(
        "import pytest\n"
        "pytestmark = pytest.mark.shares_guest\n"
        "CRASH = 'echo c > /proc/sysrq-trigger'\n"
        "WARN = 'insmod /lib/cma/broken_warn.ko'\n"
        "def test_lies(guest):\n"
        "    guest.run('echo the kernel was here >/dev/kmsg')\n"
        "    assert guest.run('uname -m').output == 'x86_64\\n'\n"
        "def test_oops(guest):\n    guest.run(CRASH, 20)\n"
        "def test_after(guest):\n    assert guest.run('true').status == 0\n"
        "@pytest.mark.xfail(reason='known')\n"
        "def test_known(guest):\n    assert guest.run('false').status == 0\n"
        "@pytest.mark.xfail(reason='known')\n"
        "def test_known_but_oopses(guest):\n    guest.run(CRASH, 20)\n"
        "def test_skips_over_a_warning(guest):\n"
        "    guest.console.send(f'\\n{WARN} &\\n'.encode())\n"
        "    text = b''\n"
        "    while b'end trace' not in text:\n"
        "        text += guest.console.read(5) or b'end trace, or nothing for 5 s'\n"
        "    pytest.skip('nothing to see')\n"
        "def test_last(guest):\n    assert guest.run('true').status == 0\n"
    )
    line = run("test", str(mine))
    assert line.status == 1, line.output
    assert line.verdicts == {
        "test_lies": Verdict.FAIL,
        "test_oops": Verdict.CRASH,
        "test_after": Verdict.PASS,
        "test_known": Verdict.XFAIL,
        "test_known_but_oopses": Verdict.CRASH,
        "test_skips_over_a_warning": Verdict.CRASH,
        "test_last": Verdict.PASS,
    }
    assert "armv7l" in line.cases["test_lies"].message
    said = line.output.partition(" Captured kernel log call ")[2].splitlines()[1:3]
    assert said[0].endswith("] the kernel was here"), said
    assert not said[1].startswith("["), said  # not what it said as it booted
    assert "sysrq triggered crash" in line.cases["test_oops"].message.lower()


def test_the_last_failed_can_become_green(run, tmp_path):
    mine = tmp_path / "test_mine.py"
    for expected, arguments, status in (("no", (), 1), ("armv7l", ("--lf",), 0)):
        mine.write_text(
            f"def test_a(guest):\n    assert guest.run('uname -m').output.strip() == '{expected}'\n"
            "def test_b(guest):\n    assert guest.run('true').status == 0\n"
        )
        line = run("test", *arguments, "-o", f"cache_dir={tmp_path}/pytest", str(mine))
        assert line.status == status, line.output
    assert line.verdicts == {"test_a": Verdict.PASS}


def test_a_file_that_does_not_import_is_a_usage_error(run, tmp_path):
    mine = tmp_path / "test_mine.py"
    mine.write_text("def test_a(:\n")
    line = run("test", str(mine))
    assert line.status == 2, line.output
    assert "SyntaxError" in line.output
    assert "INTERNALERROR" not in line.output


def test_sigterm_keeps_what_is_finished(start):
    line = start("test", BROKEN, "-k", "broken_hang", "--case-timeout=200")
    wait_until(
        lambda: (line.directory / "run.json").exists() and line.verdicts.get("passes") == "PASS"
    )
    line.process.terminate()
    line.wait(60)
    assert line.status == 130, line.output
    assert line.record.ended is not None
    assert (line.directory / "junit.xml").exists()


def test_workers_have_a_guest_each_and_one_record(run):
    modules = (BROKEN, "kmod/cma_kunit", "-k", "broken_fail or largest")
    line = run("test", "--boot", *modules, "-n", "2")
    assert line.status == 1, line.output
    assert line.verdicts["fails"] is Verdict.FAIL
    assert line.verdicts["largest_buffer"] in (Verdict.PASS, Verdict.SKIP)
    assert len(line.record.cells[0].boots) == 2
