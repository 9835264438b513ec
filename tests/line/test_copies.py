"""Guests out of the cache: stored once, restored for each who needs one, never a damaged one."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from harness.cache import default_root
from harness.guest.stored import Stored
from harness.verdict import Verdict

CASES = """
AREA = "/sys/kernel/debug/cma/linux,cma"


def test_leaves_all_sorts_of_things(guest):
    guest.console.run(f"echo 16 >{AREA}/alloc; echo 1 >/tmp/file; insmod /lib/cma/cma_test.ko", 9)


def test_finds_none_of_them(guest):
    said = guest.console.run(f"cat {AREA}/used; cat /tmp/file; lsmod | grep cma_test", 9).output
    assert said == "64\\ncat: can't open '/tmp/file': No such file or directory\\n"


def test_crashes(guest):
    guest.console.run("echo c >/proc/sysrq-trigger", 20)


def test_finds_a_guest(guest):
    assert guest.run("echo over ssh").output == "over ssh\\n"
    assert guest.ssh.run("cat /root/.ssh/authorized_keys", 9).output.count("ssh-ed25519") == 1


def test_is_the_same_guest(guest):
    uptime = guest.console.run("cat /proc/uptime", 9).output.split()[0]
    assert float(uptime) < 60
"""


@pytest.fixture
def own_cache(tmp_path):
    """A cache with all that the other one has, but no stored guest."""
    root = tmp_path / "cache"
    root.mkdir()
    for folder in default_root().iterdir():
        if folder.name != "guest":
            (root / folder.name).symlink_to(folder)
    return root


def test_what_a_case_leaves_is_gone_for_the_next(run, tmp_path):
    file = tmp_path / "test_isolated.py"
    file.write_text(CASES)
    line = run("test", str(file))
    assert line.verdicts == {
        "test_leaves_all_sorts_of_things": Verdict.FAIL,
        "test_finds_none_of_them": Verdict.PASS,
        "test_crashes": Verdict.CRASH,
        "test_finds_a_guest": Verdict.PASS,
        "test_is_the_same_guest": Verdict.PASS,
    }, line.output
    assert "16 pages are still allocated" in line.cases["test_leaves_all_sorts_of_things"].message
    (cell,) = line.record.cells
    assert cell.restored
    assert len(cell.boots) == 5
    log = (line.directory / cell.name / "console.log").read_bytes()
    spans = [case.console for case in line.cases.values()]
    assert b"Linux version" in log[: spans[0].start]
    assert b"sysrq: Trigger a crash" in log[spans[2].start : spans[2].end]
    assert [one.end <= two.start for one, two in itertools.pairwise(spans)] == [True] * 4


SHARING = """
import pytest

pytestmark = pytest.mark.shares_guest


def test_leaves_a_file(guest):
    guest.console.run("echo 1 >/tmp/file", 9)


def test_finds_it(guest):
    assert guest.console.run("cat /tmp/file", 9).output == "1\\n"


@pytest.mark.isolated
def test_alone(guest):
    assert guest.console.run("cat /tmp/file", 9).status == 1
"""


def test_a_file_whose_tests_share_a_guest(run, tmp_path):
    file = tmp_path / "test_sharing.py"
    file.write_text(SHARING)
    line = run("test", str(file))
    assert line.status == 0, line.output
    alone = run("test", "--isolate", str(file))
    assert alone.verdicts["test_finds_it"] is Verdict.FAIL, alone.output


def test_kunit_cases_one_by_one(run):
    """What comes after an oops or a hang is LOST where they share a guest."""
    chosen = "broken_oops or broken_hang or broken_twins"
    line = run("test", "--isolate", "--case-timeout=5", "-n", "2", "kmod/broken", "-k", chosen)
    assert line.status == 1, line.output
    found = {case.id.partition("::")[2]: case.verdict for case in line.record.cases()}
    assert {name: found[name] for name in found if name.startswith("broken_oops")} == {
        "broken_oops::passes": Verdict.PASS,
        "broken_oops::dereferences_null": Verdict.CRASH,
        "broken_oops::comes_after": Verdict.PASS,
        "broken_oops::unload": Verdict.PASS,
    }
    assert found["broken_hang::never_ends"] is Verdict.TIMEOUT
    assert found["broken_hang::comes_after"] is Verdict.PASS
    twins = [verdict for name, verdict in found.items() if "::twin" in name]
    assert twins == [Verdict.PASS, Verdict.FAIL]  # in one guest: a name says nothing here
    # The end comes first where it has a guest to itself, and last in the one that twins share.
    order = list(found)
    assert order.index("broken_oops::unload") < order.index("broken_oops::passes")
    assert order.index("broken_twins::unload") > max(order.index(n) for n in found if "::twin" in n)


def test_a_stored_guest_serves_the_next_run_and_a_damaged_one_does_not(run, own_cache, tmp_path):
    file = tmp_path / "test_alive.py"
    file.write_text("def test_alive(guest):\n    assert guest.run('echo 1').output == '1\\n'\n")
    environment = {"CMA_HARNESS_CACHE": str(own_cache)}
    told = [run("test", str(file), **environment).output for _ in range(2)]
    assert " MB  " in _guest_line(told[0])
    assert "(cached)" not in _guest_line(told[0])
    assert "(cached)" in _guest_line(told[1])
    (entry,) = (memory.parent for memory in own_cache.glob("guest/*/memory"))
    _damage(entry / "memory")
    line = run("test", str(file), **environment)
    assert line.status == 0, line.output
    assert "the stored one is damaged: it is made again" in line.output
    with (entry / "state").open("r+b") as state:
        state.write(b"not QEMU's")
    Stored(entry).seal()
    line = run("test", str(file), **environment)
    assert line.status == 0, line.output
    assert "QEMU does not take the stored guest: QEMU ended with status 1: " in line.output
    assert "made again" not in run("test", str(file), **environment).output


def test_a_boot_is_a_boot(run, tmp_path):
    file = tmp_path / "test_alive.py"
    file.write_text("def test_alive(guest):\n    assert guest.run('echo 1').output == '1\\n'\n")
    line = run("test", "--boot", str(file))
    assert line.status == 0, line.output
    assert not line.record.cells[0].restored
    assert "guest: shared by all cases, for --boot asks for it" in line.output
    assert "booted in" in line.output


def _guest_line(output: str) -> str:
    return next(line for line in output.splitlines() if line.startswith("guest "))


def _damage(path: Path) -> None:
    """Flip a bit in the middle of what the file has of data."""
    with path.open("r+b") as file:
        at = os.lseek(file.fileno(), 64 << 20, os.SEEK_DATA)
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
