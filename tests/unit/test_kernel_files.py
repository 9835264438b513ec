"""Kernels from files: tarballs, patches, series, fragments; what is wrong with one is said."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness import config
from harness.cache import Cache, digest_file
from harness.config.patches import SUPPLIED
from harness.errors import ConfigError, DownloadError, UsageError
from harness.kernel import patching, source, tarball
from harness.progress import Progress

CMA = "".join(f"line {number}\n" for number in range(1, 21))
FIX = """\
From: somebody
Subject: a fix

--- a/mm/cma.c
+++ b/mm/cma.c
@@ -1,4 +1,4 @@
 line 1
-line 2
+line 2, mended
 line 3
 line 4
@@ -17,4 +17,4 @@
 line 17
 line 18
-line 19
+line 19, mended
 line 20
"""
WRONG = FIX.replace("line 17", "line seventeen")
QUIET = Progress(quiet=True)


@pytest.fixture
def tree(tmp_path):
    """A kernel tree, as far as the harness looks before it builds one."""
    top = tmp_path / "linux-6.6"
    (top / "mm").mkdir(parents=True)
    (top / "Kbuild").touch()
    (top / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 6\nSUBLEVEL = 7\nEXTRAVERSION =\n")
    (top / "mm" / "cma.c").write_text(CMA)
    return top


@pytest.fixture
def packed(tree):
    archive = tree.parent / "linux-6.6.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", tree.parent, tree.name], check=True)
    return archive


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def obtained(cache, name, **edits):
    return source.obtain(config.load_kernel(str(name), **edits), cache, QUIET)


def names(paths, version):
    return [patch.name for patch in config.patches_for(paths, version)]


def test_a_tarball_is_a_kernel(cache, packed):
    kernel = config.load_kernel(str(packed))
    found = source.obtain(kernel, cache, QUIET)
    assert (kernel.label, found.version) == ("linux-6.6", "6.6.7")
    assert (found.tree / "mm" / "cma.c").read_text() == CMA


def test_an_address_with_its_hash_is_the_same_kernel(cache, packed, tmp_path):
    text = f'url = "{packed.as_uri()}"\nsha256 = "{digest_file(packed)}"\n'
    mine = written(tmp_path / "mine.toml", text)
    assert config.load_kernel(mine).label == "mine"
    assert obtained(cache, mine).tree == obtained(cache, packed).tree


def test_what_arrives_with_another_hash_is_not_used(cache, packed, tmp_path):
    text = f'url = "{packed.as_uri()}"\nsha256 = "{"0" * 64}"\n'
    with pytest.raises(DownloadError, match="corrupt download"):
        obtained(cache, written(tmp_path / "mine.toml", text))
    assert cache.entries() == ()


def test_a_users_file_with_another_hash_is_refused_and_stays(cache, packed, tmp_path):
    text = f'tarball = "{packed.name}"\nsha256 = "{"0" * 64}"\n'
    with pytest.raises(ConfigError, match="SHA-256 is"):
        obtained(cache, written(tmp_path / "mine.toml", text))
    assert packed.exists()


def test_an_address_that_does_not_answer_is_told(cache, tmp_path):
    with pytest.raises(DownloadError, match="cannot be fetched"):
        tarball.download((tmp_path / "none").as_uri(), tmp_path / "x", "0" * 64)


def test_a_file_that_is_no_tarball_is_told(cache, tmp_path):
    with pytest.raises(ConfigError) as caught:
        obtained(cache, written(tmp_path / "not.tar.xz", "text"))
    assert caught.value.exit_code == 2
    assert cache.entries() == ()


def test_a_tarball_of_something_else_is_told(cache, tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "file").touch()
    archive = tmp_path / "some.tar"
    subprocess.run(["tar", "-cf", archive, "-C", tmp_path, "some"], check=True)
    with pytest.raises(ConfigError, match="not the top of a kernel tree"):
        obtained(cache, archive)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('url = "https://x/y.tar.xz"\n', "give the 'sha256'"),
        ('url = "ftp://x/y"\nsha256 = "0"\n', "key 'url'"),
        ('package = "a"\ntarball = "b"\n', "exactly one of"),
        ('package = "a"\npatchs = ["b"]\n', "nearest: patches"),
    ],
)
def test_a_kernels_file_that_cannot_be_is_refused(tmp_path, text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        config.load_kernel(written(tmp_path / "mine.toml", text))


@pytest.mark.parametrize("form", ["tarball", "tree"])
def test_a_patch_is_applied_to_a_copy(cache, packed, tree, tmp_path, form):
    fix = written(tmp_path / "fix.patch", FIX)
    name = {"tarball": packed, "tree": tree}[form]
    before, after = obtained(cache, name), obtained(cache, name, patches=[fix])
    assert "line 19, mended" in (after.tree / "mm" / "cma.c").read_text()
    assert (before.tree / "mm" / "cma.c").read_text() == CMA
    assert len({before.identity, after.identity}) == 2
    assert len({before.label, after.label}) == 2
    assert len({before.interface, after.interface}) == 2
    assert (before.settled, after.settled) == (form == "tarball", True)
    assert (after.tree / "Makefile").samefile(before.tree / "Makefile") == (form == "tarball")


def test_a_patch_of_another_content_is_another_kernel(cache, packed, tmp_path):
    one = written(tmp_path / "fix.patch", FIX)
    first = obtained(cache, packed, patches=[one]).identity
    written(tmp_path / "fix.patch", FIX.replace("mended", "repaired"))
    assert obtained(cache, packed, patches=[one]).identity != first


def test_a_patch_that_does_not_apply_is_told_with_file_and_hunk(cache, packed, tmp_path):
    wrong = written(tmp_path / "wrong.patch", WRONG)
    with pytest.raises(ConfigError) as caught:
        obtained(cache, packed, patches=[wrong])
    text = str(caught.value)
    assert f"{wrong}: does not apply to linux 6.6.7: mm/cma.c: hunk 2, at line 17" in text
    assert caught.value.exit_code == 2
    assert len(cache.entries()) == 1  # nothing half applied is left


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FIX.replace("mm/cma.c", "mm/none.c"), "mm/none.c: no such file"),
        ("only words\n", "Only garbage was found"),
        ("", "it is empty"),
    ],
)
def test_what_is_no_patch_for_this_kernel_is_told(cache, packed, tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        obtained(cache, packed, patches=[written(tmp_path / "x.patch", text)])


def test_a_patch_that_is_applied_already_is_told(cache, packed, tmp_path):
    fix = written(tmp_path / "fix.patch", FIX)
    with pytest.raises(ConfigError, match=r"mm/cma\.c: it is applied already"):
        obtained(cache, packed, patches=[fix, fix])


SERIES = """\
[[patch]]
file = "fix.patch"
versions = "since 6.1 before 6.12"
why = "it is broken there"

[[patch]]
file = "wrong.patch"
versions = "since 6.12"
why = "not for this one"
"""


def test_of_a_series_the_patches_for_the_version_are_applied(cache, packed, tmp_path):
    fix = Path(written(tmp_path / "fix.patch", FIX))
    wrong = Path(written(tmp_path / "wrong.patch", WRONG))
    series = written(tmp_path / "series.toml", SERIES)
    assert names([Path(series)], "6.6.7") == [fix.name]
    assert names([Path(series)], "5.10.262") == []
    assert names([Path(series), fix], "7.3") == [wrong.name, fix.name]
    after = obtained(cache, packed, patches=[series])
    assert "mended" in (after.tree / "mm" / "cma.c").read_text()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (SERIES.replace("before 6.12", "before six"), "no versions such as"),
        (SERIES.replace('why = "it is broken there"', ""), r"key 'patch\.0\.why' is missing"),
        (SERIES, "there is no patch 'fix.patch'"),
    ],
)
def test_a_series_that_cannot_be_is_refused(tmp_path, text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        config.patches_for([Path(written(tmp_path / "series.toml", text))], "6.6")


def test_the_supplied_series_reads_and_is_not_for_a_users_tree(tree, packed):
    for version in ("5.10", "6.1", "6.12", "7.3"):
        config.patches_for([SUPPLIED], version)
    assert config.load_kernel(str(packed)).patches == (SUPPLIED,)
    assert config.load_kernel("6.12").patches == (SUPPLIED,)
    assert config.load_kernel(str(tree)).patches == ()


def test_the_label_says_what_was_added(tmp_path):
    fix = written(tmp_path / "fix.patch", FIX)
    lockdep = written(tmp_path / "lockdep.config", "CONFIG_PROVE_LOCKING=y\n")
    edits = {"patches": [fix], "fragments": [lockdep]}
    assert config.load_kernel("6.12", **edits).label == "6.12+fix+lockdep"
    kernel = config.load_kernel("6.12", "debug", **edits)
    assert kernel.label == "6.12+debug+fix+lockdep"
    assert Path(lockdep) in kernel.fragments()


def test_an_entry_names_files_beside_itself(tmp_path):
    written(tmp_path / "fix.patch", FIX)
    written(tmp_path / "my.config", "CONFIG_SLUB=y\n")
    text = 'package = "linux-source-6.12"\npatches = ["fix.patch"]\nconfig = ["cma", "my.config"]\n'
    kernel = config.load_kernel(written(tmp_path / "mine.toml", text))
    assert kernel.label == "mine+fix"
    assert kernel.patches == (SUPPLIED, tmp_path / "fix.patch")
    assert kernel.fragments()[-1] == tmp_path / "my.config"


def test_files_that_are_not_there_are_told(tmp_path):
    with pytest.raises(UsageError, match=r"no patch 'none\.patch'"):
        config.load_kernel("6.12", patches=["none.patch"])
    with pytest.raises(UsageError, match=r"no kconfig '.*none\.config'"):
        config.load_kernel("6.12", fragments=["none.config"]).fragments()
    with pytest.raises(UsageError, match="no kernel"):
        config.load_kernel("linux-9.9.tar.xz")
    with pytest.raises(ConfigError):
        config.load_kernel(str(tmp_path / "none.toml"))


def test_a_refusal_is_the_last_words_where_nothing_is_known():
    assert patching.refusal(["patch: **** strange"]) == "patch: **** strange"
