"""The commands as a person or a script uses them, and their exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from harness import config
from harness.cache import Cache, default_root
from harness.errors import ConfigError
from harness.kernel import build, source
from harness.kernel.modules import KMOD
from harness.progress import Progress

from .conftest import COMMAND, REPOSITORY, children, gone, wait_until

# What is downloaded, and the kernel: a cache that shares them makes the rest anew.
SHARED = ("source", "packages", "kernel", "resolved")


@pytest.fixture
def fresh_cache(tmp_path: Path) -> Path:
    """A cache that has the downloads and the kernel, and nothing else."""
    root = tmp_path / "cache"
    root.mkdir()
    for name in SHARED:
        (root / name).symlink_to(default_root() / name)
    return root


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["test", "--board", "vird"], 2, "nearest: virt"),
        (["test", "--layout", "defualt"], 2, "nearest: default"),
        (["test", "--kernel", "/nonexistent"], 2, "neither in kernels.toml nor"),
        (["test", "-k", "there_is_no_such_case"], 2, "no cases"),
        (["test", "--no-such-option"], 2, "unrecognized arguments"),
        (["report", "/nonexistent"], 2, "no record of a run"),
        (["parse", "/nonexistent"], 2, "No such file"),
        (["console"], 2, "needs a terminal"),
    ],
)
def test_usage_errors_are_one_message_and_exit_2(run, arguments, status, complaint):
    line = run(*arguments)
    assert line.status == status, line.output
    assert line.output.count(complaint) == 1, line.output
    assert "Traceback" not in line.output


def test_a_missing_tool_is_exit_3_with_what_to_type(run):
    line = run("build", PATH="/nonexistent")
    assert line.status == 3, line.output
    assert "apt-get install" in line.output
    assert "Traceback" not in line.output


def test_a_full_cache_disk_is_exit_3_and_says_how_to_make_room(run, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        (small / "resolved").symlink_to(default_root() / "resolved")
        line = run("build", CMA_HARNESS_CACHE=str(small))
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert line.status == 3, line.output
    assert "no space left" in line.output.lower()
    assert "cache prune" in line.output
    assert "Traceback" not in line.output


def test_an_option_that_did_not_survive_is_named_with_what_it_needs(tmp_path, monkeypatch):
    wish = tmp_path / "wish.config"
    wish.write_text("CONFIG_DMABUF_HEAPS_CMA=y\n# CONFIG_DMA_CMA is not set\nCONFIG_CMA_WISH=y\n")
    monkeypatch.setenv("KBUILD_OUTPUT", str(tmp_path / "work"))
    kernel = config.load_kernel("6.12")
    wishing = kernel.model_copy(update={"config": (*kernel.config, str(wish))})
    cache, progress = Cache(), Progress(quiet=True)
    with pytest.raises(ConfigError) as caught:
        build.build(wishing, source.obtain(wishing, cache, progress), cache, progress)
    text = str(caught.value)
    assert "CONFIG_DMABUF_HEAPS_CMA=y (wish.config:1) became 'not set'" in text
    assert "drivers/dma-buf/heaps/Kconfig:" in text
    assert "DMA_CMA=n" in text
    assert re.search("CONFIG_CMA_WISH=y .*no Kconfig of this kernel defines it", text)


def test_build_tells_where_everything_is(run):
    line = run("build", "--json")
    assert line.status == 0, line.output
    facts = json.loads(line.output[line.output.index("{") :])
    assert facts["kernel_version"].startswith("6.12")
    for name in ("zimage", "vmlinux", "config", "device_tree", "initramfs"):
        assert Path(facts[name]).is_file()
    assert {"cma_test", "cma_kunit"} <= facts["modules"].keys()


def test_a_second_run_starts_no_compiler_and_no_apt(run, tmp_path):
    # Programs that must not be started are shadowed by ones that leave a trace.
    shadows = tmp_path / "bin"
    shadows.mkdir()
    # (The cross compiler itself tells by its file whether it is the one of the cached kernel.)
    for name in (
        "gcc",
        "make",
        "ccache",
        "apt-get",
        "apt-cache",
        "dtc",
        "arm-linux-gnueabihf-strip",
    ):
        shadow = shadows / name
        shadow.write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/started\nexit 1\n")
        shadow.chmod(0o755)
    assert run("build").status == 0
    line = run("build", PATH=f"{shadows}:{os.environ['PATH']}")
    assert line.status == 0, line.output
    assert line.output.count("(cached)") == 6  # the board's tree with the areas, and without
    assert not (tmp_path / "started").exists()


def test_two_runs_at_once_share_one_cache(start, fresh_cache):
    arguments = ("test", "kmod/broken/Kbuild", "-k", "broken_fail")
    both = [start(*arguments, CMA_HARNESS_CACHE=str(fresh_cache)) for _ in range(2)]
    for line in both:
        line.wait()
        assert line.status == 1, line.output
        assert set(line.verdicts.values()) == {"PASS", "FAIL", "SKIP"}
    for kind, entries in {"modules": 1, "board": 2, "image": 1}.items():
        # Made once, nothing half made; a board's tree is made with the areas, and without.
        assert len(list((fresh_cache / kind).glob("[!.]*"))) == entries
        assert not list((fresh_cache / kind).glob(".*"))


@pytest.mark.parametrize("program", ["dumpdtb", "make", "images/guest|strip|gen_init_cpio", "-qmp"])
def test_ctrl_c_ends_a_phase_and_leaves_nothing_behind(start, fresh_cache, program):
    line = start("test", "kmod/cma_kunit", CMA_HARNESS_CACHE=str(fresh_cache))
    seen: list[int] = []

    def busy() -> bool:
        assert line.process.poll() is None, line.wait().output
        for name in program.split("|"):
            seen.extend(children(line.process.pid, name))
        return bool(seen)

    wait_until(busy)
    line.process.send_signal(signal.SIGINT)
    line.wait(60)
    assert line.status == 130, line.output
    assert "Traceback" not in line.output
    wait_until(lambda: all(gone(pid) for pid in seen), 10)
    for kind in ("modules", "board", "image"):
        assert not list((fresh_cache / kind).glob(".*"))


def test_ssh_runs_a_command_and_ends_with_its_status(run):
    line = run("ssh", "uname -m; exit 7")
    assert line.output.splitlines()[-1] == "armv7l"
    assert line.status == 7


def test_a_person_drives_songs_device_over_the_console():
    child = person("console")
    child.expect("Ctrl-] leaves")
    for typed, answer in (
        ("insmod /lib/cma/cma_test.ko", "registered"),
        ("echo 1024 > /dev/cma_test; echo =$?", r"alloc: .*dma: 0x[0-9a-f]+ size: 1024K(.|\n)*=0"),
        ("echo 0 > /dev/cma_test", "Invalid argument"),
        ("echo 4194304 > /dev/cma_test", "Value too large"),
        ("echo 131072 > /dev/cma_test", "No space left on device"),
        ("cat /dev/cma_test; echo =$?", r"free: .*size: ?1024K(.|\n)*=0"),
        ("cat /dev/cma_test", "Identifier removed"),
    ):
        child.expect("cma# ")
        child.sendline(typed)
        child.expect(answer)
    child.send("\x1d")
    child.expect(r"transcript: (\S+)")
    transcript = REPOSITORY / child.match[1]
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert "Identifier removed" in transcript.read_text()


def person(*arguments: str) -> pexpect.spawn:
    """Start a command on a terminal of its own."""
    return pexpect.spawn(
        COMMAND[0], [*COMMAND[1:], *arguments], cwd=REPOSITORY, timeout=60, encoding="utf-8"
    )


def test_a_person_has_a_shell_over_ssh():
    child = person("ssh")
    child.expect("Ctrl-] leaves")
    child.expect("# ")
    child.sendline("tty; uname -m")
    child.expect("/dev/pts/(.|\n)*armv7l")
    child.sendline("exit")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


@pytest.mark.skipif(not shutil.which("gdb-multiarch"), reason="gdb-multiarch is not installed")
def test_gdb_knows_the_kernel_and_ctrl_c_is_its_own():
    child = person("gdb")
    child.expect(r"\(gdb\) ")
    child.sendline("print cma_areas[0].name")
    child.expect('"linux,cma"')
    child.expect(r"\(gdb\) ")
    child.sendline("continue")
    child.expect("Continuing")
    child.sendintr()
    child.expect("SIGINT")
    child.expect(r"\(gdb\) ")
    child.sendline("kill")
    child.sendline("y")
    child.sendline("quit")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_saved_console_log_reads_as_the_run_did(run):
    line = run("test", "kmod/broken/Kbuild", "-k", "broken_fail")
    log = line.directory / line.record.cells[0].name / "console.log"
    parsed = run("parse", str(log), "--json", "--junit", str(line.directory / "parsed.xml"))
    assert parsed.status == 1
    facts = json.loads(parsed.output)
    counts = {name: facts["counts"].get(name, 0) for name in ("PASS", "FAIL", "SKIP")}
    assert counts == {"PASS": 1, "FAIL": 1, "SKIP": 1}
    assert 'failures="1"' in (line.directory / "parsed.xml").read_text()
    again = run("report", str(line.directory))
    assert again.status == 1
    assert re.search(r"FAIL .*broken_fail::fails", again.output)


def test_real_ktap_logs_read_as_the_kernel_s_own_parser_reads_them():
    tree = source.obtain(config.load_kernel("6.12"), Cache(), Progress(quiet=True)).tree
    compared = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/unit/test_ktap_kunit_py.py"],
        env={**os.environ, "CMA_HARNESS_KERNEL_TREE": str(tree)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert compared.returncode == 0, compared.stdout
    assert "skipped" not in compared.stdout


def test_collecting_leaves_no_record(run):
    line = run("test", "--collect-only", "-q")
    assert line.status == 0
    assert "kmod/cma_kunit/Kbuild::cma_driver::zeroed_after_dirty" in line.output
    assert not line.directory.exists()


@pytest.mark.parametrize("file", sorted(KMOD.rglob("*.[ch]")), ids=lambda path: path.name)
def test_kernel_coding_style(file):
    tree = source.obtain(config.load_kernel("6.12"), Cache(), Progress(quiet=True)).tree
    options = ["--no-tree", "--strict", "--terse", "--show-types", "--max-line-length=100"]
    if file.parent.name == "include":  # the one place for what differs between versions
        ignored = "LINUX_VERSION_CODE,CONSTANT_COMPARISON,DEPRECATED_API,MACRO_ARG_REUSE"
        options.append(f"--ignore={ignored}")
    checked = subprocess.run(
        ["perl", tree / "scripts" / "checkpatch.pl", *options, "-f", file],
        capture_output=True,
        text=True,
        check=False,
        cwd=tree,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
