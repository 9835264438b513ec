"""configs/*.toml: what is there reads, and what is wrong is told with file, key and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import config
from harness.errors import ConfigError, UsageError


def layout_file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


AREA = 'description = "x"\n[[area]]\nname = "a"\nsize = "4M"\n'


@pytest.mark.parametrize("name", config.names("layouts"))
def test_every_supplied_layout_reads(name):
    assert config.load_layout(name).name == name


@pytest.mark.parametrize("name", config.names("boards"))
def test_every_supplied_board_reads(name):
    assert config.load_board(name).name == name


def test_default_layout_is_one_dynamic_default_area_of_64_mib():
    (area,) = config.load_layout("default").area
    assert (area.size, area.default, area.device) == (64 << 20, True, None)


def test_two_areas_adds_a_private_one_of_16_mib_for_the_helper():
    shared, private = config.load_layout("two-areas").area
    assert shared.default
    assert (private.size, private.default, private.device) == (16 << 20, False, "cma-test")


def test_a_misspelt_key_is_told_with_file_and_nearest_key(tmp_path):
    path = layout_file(tmp_path, AREA + "defualt = true\n")
    with pytest.raises(ConfigError) as caught:
        config.load_layout(path)
    assert path in str(caught.value)
    assert "unknown key 'area.0.defualt' (nearest: default)" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_key_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"key 'area\.0\.size' is missing"):
        config.load_layout(layout_file(tmp_path, 'description = "x"\n[[area]]\nname = "a"\n'))


def test_toml_that_does_not_parse_is_told_with_its_line(tmp_path):
    with pytest.raises(ConfigError, match="line 4"):
        config.load_layout(layout_file(tmp_path, AREA.replace('"4M"', '"4M')))


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ('device="d"\n[[area]]\nname="b"\nsize="4M"\ndevice="d"\n', "device used twice: d"),
        ('default = true\ndevice = "d"\n', "either the default one or a device's"),
        ('at = "0x50000000"\nalignment = "8M"\n', "'alignment' is for one without"),
        ('at = "0x50000000"\nwithin = ["0x0", "0x60000000"]\n', "either 'at' or 'within'"),
        ('within = ["0x60000000", "0x50000000"]\n', "'within' ends where it begins"),
    ],
)
def test_contradictions_are_refused(tmp_path, extra, complaint):
    with pytest.raises(ConfigError, match=complaint):
        config.load_layout(layout_file(tmp_path, AREA + extra))


@pytest.mark.parametrize("size", ["-4M", "4 bananas", "4T", ""])
def test_sizes_that_are_none_are_refused(tmp_path, size):
    with pytest.raises(ConfigError, match=r"area\.0\.size"):
        config.load_layout(layout_file(tmp_path, AREA.replace("4M", size)))


@pytest.mark.parametrize(
    ("text", "size"), [("4M", 4 << 20), ("0x1000", 4096), ("1 GiB", 1 << 30), (65536, 65536)]
)
def test_sizes(text, size):
    assert config.parse_size(text) == size


@pytest.mark.parametrize(
    ("load", "name", "nearest"),
    [
        (config.load_board, "vird", "virt"),
        (config.load_layout, "two-area", "two-areas"),
        (config.load_kernel, "6.122", "6.12"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_one(load, name, nearest):
    with pytest.raises(UsageError, match=rf"nearest: {nearest}") as caught:
        load(name)
    assert caught.value.exit_code == 2


def test_a_kernel_can_be_the_path_of_a_tree(tmp_path):
    (tmp_path / "mm").mkdir()
    (tmp_path / "Kbuild").touch()
    kernel = config.load_kernel(str(tmp_path))
    assert kernel.tree == tmp_path
    assert kernel.fragments()


def test_a_variant_adds_to_a_kernel():
    plain, debug = config.load_kernel("6.12"), config.load_kernel("6.12", "debug")
    assert (plain.label, debug.label) == ("6.12", "6.12+debug")
    assert debug.config == (*plain.config, "debug")
    assert "debug" in config.variants()
    assert "GCOV_PROFILE_cma.o" in config.load_kernel("6.12", "coverage").make


def test_an_unknown_variant_is_told_with_the_nearest_one():
    with pytest.raises(UsageError, match=r"nearest: debug"):
        config.load_kernel("6.12", "debgu")


def test_a_variant_says_how_its_guests_are_started():
    plain, debug = config.load_kernel("6.12"), config.load_kernel("6.12", "debug")
    assert (plain.cmdline, plain.slow) == ("", 1)
    assert "page_poison=1" in debug.cmdline
    assert debug.slow > 1


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("slow = 0.5", r"variant\.mine\.slow"),
        ('cmdline = "a\\nb"', r"variant\.mine\.cmdline"),
        ("slwo = 2", "nearest: slow"),
    ],
)
def test_a_variant_that_cannot_be_is_refused(tmp_path, monkeypatch, entry, complaint):
    original = (config.CONFIGS / "kernels.toml").read_text()
    (tmp_path / "kernels.toml").write_text(f"{original}\n[variant.mine]\n{entry}\n")
    monkeypatch.setattr("harness.config.kernels.CONFIGS", tmp_path)
    with pytest.raises(ConfigError, match=complaint):
        config.load_kernel("6.12", "mine")
