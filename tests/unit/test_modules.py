"""Which sources of kmod/ reach the directory that they are built in, and what is built again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.kernel.modules import _copy_sources


@pytest.fixture
def kmod(tmp_path: Path) -> Path:
    """Two modules, one of which has a header."""
    root = tmp_path / "kmod"
    for name, text in {
        "one/Kbuild": "obj-m := one.o",
        "one/one.c": "int one;",
        "two/Kbuild": "obj-m := two.o",
        "two/two.c": "int two;",
        "two/two.h": "",
        "two/notes.txt": "not a source",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def work(kmod: Path, tmp_path: Path) -> Path:
    """A directory where they were built once, long ago."""
    work = tmp_path / "work"
    work.mkdir()
    assert _copy_sources(kmod, work) == ["one", "two"]
    (work / "one" / "one.ko").write_text("built")
    for path in work.rglob("*.*"):
        os.utime(path, (1, 1))
    return work


def test_only_what_has_changed_is_written(kmod: Path, work: Path) -> None:
    (kmod / "two" / "two.c").write_text("int changed;")
    _copy_sources(kmod, work)
    assert (work / "two" / "two.c").read_text() == "int changed;"
    new = {path.name for path in work.rglob("*.[chk]*") if path.stat().st_mtime != 1}
    assert new == {"two.c"}
    assert not (work / "two" / "notes.txt").exists()


@pytest.mark.parametrize("change", ["file gone", "file new", "other objects", "folder gone"])
def test_what_else_changes_begins_with_nothing(kmod: Path, work: Path, change: str) -> None:
    if change == "file gone":
        (kmod / "two" / "two.h").unlink()
    elif change == "file new":
        (kmod / "one" / "more.c").touch()
    elif change == "other objects":
        (kmod / "two" / "Kbuild").write_text("obj-m := two.o\ntwo-y := two.o")
    else:
        (kmod / "two" / "Kbuild").unlink()
    folders = _copy_sources(kmod, work)
    assert not (work / "one" / "one.ko").exists()
    assert (work / "Kbuild").read_text() == "".join(f"obj-m += {name}/\n" for name in folders)
