"""A build directory that begins with what was built of another tree."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.kernel import seeding
from harness.progress import Progress

HOUR = 3600 * 10**9


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """A build of the tree `original`."""
    place = tmp_path / "known"
    (place / "mm").mkdir(parents=True)
    (place / ".config").write_text("CONFIG_CMA=y\n")
    (place / "mm" / ".cma.o.cmd").write_text(f"gcc -I{tmp_path}/original/include -o {place}/mm/x")
    (place / "mm" / "cma.o").write_bytes(b"\0" + os.fsencode(tmp_path / "original"))
    (place / "source").symlink_to(tmp_path / "original")
    for file in (place / "mm").iterdir():
        os.utime(file, ns=(HOUR, HOUR))
    return place


def begin(known: Path, tmp_path: Path) -> bool:
    quiet = Progress(quiet=True)
    return seeding.seed(tmp_path / "work", tmp_path / "tree", known, tmp_path / "original", quiet)


def test_paths_become_the_new_trees_and_times_stay(known, tmp_path):
    assert begin(known, tmp_path)
    work = tmp_path / "work"
    command = work / "mm" / ".cma.o.cmd"
    assert command.read_text() == f"gcc -I{tmp_path}/tree/include -o {work}/mm/x"
    assert command.stat().st_mtime_ns == HOUR
    assert (work / "mm" / "cma.o").read_bytes() == (known / "mm" / "cma.o").read_bytes()
    assert (work / "mm" / "cma.o").stat().st_mtime_ns == HOUR
    assert (work / "source").readlink() == tmp_path / "tree"


def test_what_was_built_there_stays(known, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / ".config").write_text("mine")
    assert not begin(known, tmp_path)
    assert (tmp_path / "work" / ".config").read_text() == "mine"


def test_nothing_was_built_of_the_original(tmp_path):
    (tmp_path / "known").mkdir()
    assert not begin(tmp_path / "known", tmp_path)


def test_what_a_patch_changed_is_newer_than_any_object(tmp_path):
    """A patch that was applied before its original was built."""
    original, tree = tmp_path / "original", tmp_path / "tree"
    for place in (original, tree):
        place.mkdir()
    (original / "same.c").write_text("same")
    (tree / "same.c").hardlink_to(original / "same.c")
    for name, was in {"changed.c": "old", "added.c": None}.items():
        if was is not None:
            (original / name).write_text(was)
        (tree / name).write_text("new")
    for file in tree.iterdir():
        os.utime(file, ns=(HOUR, HOUR))
    seeding.touch_changed(tree, original)
    new = {file.name for file in tree.iterdir() if time.time_ns() - file.stat().st_mtime_ns < HOUR}
    assert new == {"changed.c", "added.c"}
