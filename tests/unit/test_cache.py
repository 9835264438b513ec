"""The cache: whole entries or none, two runs at once, a full disk."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from harness.cache import Cache
from harness.errors import DiskFull, HostError


def test_an_entry_is_made_once_and_then_found(tmp_path):
    cache = Cache(tmp_path)
    made = cache.make("thing", {"a": 1}, lambda path: (path / "f").write_text("x"))
    found = cache.make("thing", {"a": 1}, lambda path: pytest.fail("built twice"))
    assert (made.made, found.made) == (True, False)
    assert (found.path / "f").read_text() == "x"


def test_other_inputs_are_another_entry(tmp_path):
    cache = Cache(tmp_path)
    one = cache.make("thing", {"a": 1}, lambda path: None)
    two = cache.make("thing", {"a": 2}, lambda path: None)
    assert one.path != two.path


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_build_that_fails_leaves_nothing(tmp_path, error):
    def build(path):
        (path / "half").write_text("x")
        raise error

    with pytest.raises(error):
        Cache(tmp_path).make("thing", {}, build)
    assert list((tmp_path / "thing").iterdir()) == []
    assert Cache(tmp_path).entries() == ()


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    def build(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with pytest.raises(DiskFull) as caught:
        Cache(tmp_path).make("thing", {}, build)
    assert str(tmp_path) in str(caught.value)
    assert "cache prune" in str(caught.value)
    assert caught.value.exit_code == 3
    assert list((tmp_path / "thing").iterdir()) == []


def test_what_else_the_host_refuses_is_told(tmp_path):
    def build(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(HostError, match="Permission denied") as caught:
        Cache(tmp_path).make("thing", {}, build)
    assert caught.value.exit_code == 3


def test_a_key_is_the_same_in_every_process():
    script = (
        "from harness import config; from harness.cache import Cache;"
        "print(Cache().key(config.load_board('virt').model_dump(mode='json')))"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(keys) == 1


def _race(root, started, results):
    def build(path):
        started.wait()
        time.sleep(0.2)  # the other process must meet a lock that is held, not a finished entry
        (path / "f").write_text("whole")

    told = []
    started.set()
    entry = Cache(root, on_wait=told.append).make("thing", {}, build)
    results.put((entry.made, (entry.path / "f").read_text(), len(told)))


def test_two_runs_at_once_make_it_once_and_the_second_says_that_it_waits(tmp_path):
    context = multiprocessing.get_context("spawn")
    started, results = context.Event(), context.Queue()
    runs = [context.Process(target=_race, args=(tmp_path, started, results)) for _ in range(2)]
    for run in runs:
        run.start()
    got = sorted(results.get(timeout=30) for _ in runs)
    for run in runs:
        run.join()
    assert [(made, text) for made, text, _ in got] == [(False, "whole"), (True, "whole")]


def test_the_longest_unused_of_a_kind_go_first(tmp_path):
    cache = Cache(tmp_path)
    other = cache.make("other", {}, lambda path: None)
    things = [cache.make("thing", {"number": number}, lambda path: None) for number in range(4)]
    for age, entry in enumerate(things):
        os.utime(entry.path, (1e9 - age, 1e9 - age))
    cache.keep("thing", 2)
    assert [entry.path.exists() for entry in (other, *things)] == [True, True, True, False, False]


def test_prune_removes_what_was_not_used(tmp_path):
    cache = Cache(tmp_path)
    entry = cache.make("thing", {}, lambda path: None)
    assert cache.prune(unused_days=1) == ()
    assert cache.prune(unused_days=-1) == (entry.path,)
    assert not entry.path.exists()


def test_a_work_directory_is_kept_behind_an_error_of_the_compiler(tmp_path):
    cache = Cache(tmp_path)
    with cache.building("kmod") as work:
        (work / "object").write_text("whole")
    with pytest.raises(HostError), cache.building("kmod"):
        raise HostError("error: expected ';'")
    with cache.building("kmod"):
        assert (work / "object").exists()


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), DiskFull("no space left")])
def test_a_work_directory_is_empty_when_what_wrote_there_was_cut_short(tmp_path, ending):
    cache = Cache(tmp_path)
    (cache.workdir("kmod") / "object").write_text("cut sho")
    with pytest.raises(type(ending)), cache.building("kmod"):
        raise ending
    with cache.building("kmod") as work:
        assert list(work.iterdir()) == []
    assert list(work.parent.iterdir()) == [work]


def test_a_work_directory_is_empty_when_who_wrote_there_was_killed(tmp_path):
    cache = Cache(tmp_path)
    script = (
        "import os, signal; from pathlib import Path; from harness.cache import Cache\n"
        f"with Cache(Path({str(tmp_path)!r})).building('kmod') as work:\n"
        "    (work / 'object').write_text('cut sho'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    with cache.building("kmod") as work:
        assert list(work.iterdir()) == []
