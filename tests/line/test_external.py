"""A user's own modules on a guest: what each way to misbehave ends as, and tests that use one."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from harness.verdict import Verdict

from .conftest import REPOSITORY

EXTERNAL = Path("tests/data/external")


def test_it_is_loaded_heard_and_unloaded(run):
    line = run("test", f"--module={EXTERNAL}/misbehaves.c")
    assert line.status == 0, line.output
    assert line.verdicts == {"load": Verdict.PASS, "unload": Verdict.PASS}
    assert "misbehaves: registered, how=''" in line.cases["load"].message
    assert "misbehaves: gone" in line.cases["unload"].message
    assert "misbehaves: registered, how=''" in line.output
    assert line.output.count("loading out-of-tree") == 1


MISBEHAVES = {
    "init-fails": (Verdict.FAIL, Verdict.SKIP, ("No such device", "are still allocated")),
    "init-warns": (Verdict.CRASH, Verdict.PASS, ("WARNING", "(misbehaves.c:")),
    "init-oopses": (Verdict.CRASH, Verdict.LOST, ("in fault (misbehaves.c:",)),
    "init-hangs": (Verdict.TIMEOUT, Verdict.LOST, ("did not end within 5 s",)),
    "leaks": (Verdict.PASS, Verdict.FAIL, ("16 pages are still allocated",)),
    "exit-oopses": (Verdict.PASS, Verdict.CRASH, ("in fault (misbehaves.c:",)),
    "exit-hangs": (Verdict.PASS, Verdict.TIMEOUT, ("rmmod misbehaves",)),
}


@pytest.mark.parametrize("how", MISBEHAVES)
def test_one_that_misbehaves_and_the_next_has_a_sound_guest(run, how):
    load, unload, told = MISBEHAVES[how]
    line = run(
        "test",
        f"--module={EXTERNAL}/misbehaves.c:how={how}",
        f"--module={EXTERNAL}/prints_ktap.c",
        "--case-timeout=5",
    )
    assert line.status == 1, line.output
    cases = {case.id.partition("::")[2]: case for case in line.record.cases()}
    found = {name: cases[f"misbehaves::{name}"] for name in ("load", "unload")}
    assert {name: case.verdict for name, case in found.items()} == {"load": load, "unload": unload}
    said = "".join(case.message for case in found.values())
    assert all(text in said for text in told), said
    assert cases["prints_ktap::load"].verdict is Verdict.PASS
    assert cases["prints_ktap::unload"].verdict is Verdict.PASS
    assert len(line.record.cells[0].boots) == 2


def test_one_that_the_kernel_keeps(run):
    line = run("test", f"--module={EXTERNAL}/stays.c")
    assert line.status == 0, line.output
    assert line.verdicts == {"load": Verdict.PASS, "unload": Verdict.SKIP}
    assert "no exit function" in line.cases["unload"].message


def test_ktap_that_nobody_planned_decides(run):
    line = run("test", f"--module={EXTERNAL}/prints_ktap.c:fails=1")
    assert line.status == 1, line.output
    assert line.verdicts == {"load": Verdict.FAIL, "unload": Verdict.PASS}
    assert "1 PASS, 1 FAIL" in line.cases["load"].message


def test_one_for_older_kernels(run):
    assert run("test", f"--module={EXTERNAL}/of_2012.c").status == 2
    line = run("test", "--module-compat", f"--module={EXTERNAL}/of_2012.c")
    assert line.status == 0, line.output
    assert line.verdicts == {"load": Verdict.PASS, "unload": Verdict.PASS}
    said = re.search(r"of_2012: (0x\w+) (0x\w+) 1 ", line.cases["load"].message)
    assert int(said[1], 16) % 0x10000 == int(said[2], 16) % 0x10000 == 0
    assert said[1] != said[2]


def test_a_directory_with_an_old_makefile_is_only_read(run, tmp_path):
    pair = tmp_path / "pair"
    shutil.copytree(EXTERNAL / "pair", pair)
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in pair.iterdir()}
    line = run("test", f"--module={pair}")
    assert line.status == 0, line.output
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in pair.iterdir()} == before
    (borrowed,) = (case for case in line.record.cases() if case.id.endswith("borrows::load"))
    assert "borrows: 42" in borrowed.message


USES = """
def test_a_buffer_comes_and_goes(guest):
    guest.run("echo 1 >/dev/old_style && cat /dev/old_style").checked("a buffer")


def test_keeps_a_buffer(guest):
    guest.run("echo 1 >/dev/old_style").checked("allocating")


def test_crashes(guest):
    guest.run("echo c >/proc/sysrq-trigger", 20)


def test_has_it_again_behind_a_crash(guest):
    assert guest.run("cat /dev/old_style").status == 1
"""


def test_tests_of_the_user_find_it_loaded(run, tmp_path):
    mine = tmp_path / "my_test.py"
    mine.write_text(USES)
    line = run("test", f"--module={EXTERNAL}/misbehaves.c", str(mine))
    assert line.status == 1, line.output
    assert line.verdicts == {
        "load": Verdict.PASS,
        "test_a_buffer_comes_and_goes": Verdict.PASS,
        "test_keeps_a_buffer": Verdict.FAIL,
        "test_crashes": Verdict.CRASH,
        "test_has_it_again_behind_a_crash": Verdict.PASS,
        "unload": Verdict.PASS,
    }
    assert "16 pages are still allocated" in line.cases["test_keeps_a_buffer"].message


def test_readme_s_test_runs(run, tmp_path):
    text = (REPOSITORY / "README.md").read_text()
    example = re.search(r"^`my_test.py`:\n\n```python\n(.*?)^```$", text, re.M | re.S)[1]
    mine = tmp_path / "my_test.py"
    mine.write_text(example.replace("/dev/cma_test", "/dev/old_style"))
    line = run("test", f"--module={EXTERNAL}/misbehaves.c", str(mine))
    assert line.status == 0, line.output
    assert set(line.verdicts.values()) == {Verdict.PASS}
    assert len(line.verdicts) == 4


def test_tests_whose_module_does_not_load_are_lost(run, tmp_path):
    mine = tmp_path / "my_test.py"
    mine.write_text(USES)
    line = run("test", f"--module={EXTERNAL}/misbehaves.c:how=init-fails", str(mine))
    assert line.status == 1, line.output
    assert line.verdicts["load"] is Verdict.FAIL
    assert line.verdicts["test_has_it_again_behind_a_crash"] is Verdict.LOST
    assert "misbehaves did not load" in line.cases["test_crashes"].message


@pytest.mark.parametrize(
    ("module", "complaints"),
    [
        (
            "does_not_compile.c",
            ("does_not_compile.c:8:16: error: implicit", "gone since 5.6 (4bdc0d676a64)"),
        ),
        (
            "asks_too_much.c",
            (
                "cma_alloc, which the kernel has but does not export",
                "kallsyms_lookup_name, which the kernel has but does not export to modules: not",
                "hid_add_device, which drivers/hid/hid-core.c exports, which",
                "no_kernel_has_this, which no file of this kernel's source exports",
            ),
        ),
        ("misbehaves.c:hwo=leaks", ("nearest: how",)),
        ("nosuch.c", ("no such file",)),
    ],
)
def test_what_the_kernel_would_refuse_ends_before_a_boot(run, module, complaints):
    line = run("test", f"--module={EXTERNAL}/{module}")
    assert line.status == 2, line.output
    assert all(complaint in line.output for complaint in complaints), line.output
    assert "Traceback" not in line.output
    assert not list(line.directory.glob("*/console.log"))


def test_a_built_module_is_taken_as_it_is_and_one_for_another_machine_is_not(run, tmp_path):
    facts = run("build", "--json")
    ko = Path(facts.output[facts.output.index('"broken_fail": "') :].split('"')[3])
    line = run("test", f"--module={ko}")
    assert line.status == 1, line.output
    assert line.verdicts["fails"] is Verdict.FAIL
    assert line.verdicts["passes"] is Verdict.PASS
    other = tmp_path / "other.ko"
    data = bytearray(ko.read_bytes())
    data[18] = 62  # e_machine: EM_X86_64
    other.write_bytes(data)
    refused = run("test", f"--module={other}")
    assert refused.status == 2, refused.output
    assert "another machine" in refused.output
