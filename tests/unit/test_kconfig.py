"""What a fragment asks for is checked, and what did not survive is explained."""

from __future__ import annotations

import pytest

from harness.config import load_kernel
from harness.errors import ConfigError
from harness.kernel import kconfig

KCONFIG = """\
menuconfig SOUND
	bool "Sound"

if SOUND

config CMA
	bool "Contiguous Memory Allocator"
	depends on MMU
	depends on !NOMMU || \\
		COLDFIRE
	select MIGRATION

endif

config AFTER
	bool "Something else"
"""


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "mm").mkdir()
    (tmp_path / "mm" / "Kconfig").write_text(KCONFIG)
    return tmp_path


def fragment(tmp_path, text, version="6.12.117"):
    path = tmp_path / "my.config"
    path.write_text(text)
    return kconfig.read_fragments([path], version)


def test_a_later_fragment_overrides(tmp_path):
    requests = fragment(tmp_path, "CONFIG_A=y\nCONFIG_B=7\n# CONFIG_A is not set\n")
    assert [(each.symbol, each.value) for each in requests] == [
        ("CONFIG_A", "n"),
        ("CONFIG_B", "7"),
    ]
    assert kconfig.render(requests) == "# CONFIG_A is not set\nCONFIG_B=7\n"


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("5.10.262", 'CONFIG_ALWAYS=y\nCONFIG_OLD="a # b"\n'),
        ("6.12.117", "CONFIG_ALWAYS=y\n# CONFIG_NEW is not set\n"),
    ],
)
def test_a_setting_can_be_for_some_kernels_only(tmp_path, version, wanted):
    text = (
        "CONFIG_ALWAYS=y\n"
        'CONFIG_OLD="a # b" # before 6.1\n'
        "# CONFIG_NEW is not set # since 6.1\n"
        "# since 6.1 this is a comment\n"
    )
    assert kconfig.render(fragment(tmp_path, text, version)) == wanted


@pytest.mark.parametrize("condition", ["since six", "before 6.1 since 6.12"])
def test_a_condition_that_cannot_be_read_is_refused_with_its_place(tmp_path, condition):
    with pytest.raises(ConfigError, match=r"my\.config:1: .*no versions such as"):
        fragment(tmp_path, f"CONFIG_A=y # {condition}\n")


def test_a_line_that_is_no_setting_is_refused_with_its_place(tmp_path):
    with pytest.raises(ConfigError, match=r"my\.config:2"):
        fragment(tmp_path, "CONFIG_A=y\nCONFIG_B y\n")


def test_what_survived_is_accepted(tree):
    requests = fragment(tree, "CONFIG_CMA=y\n# CONFIG_SOUND is not set\n")
    kconfig.verify(requests, "CONFIG_CMA=y\n# CONFIG_SOUND is not set\n", tree)


def test_what_did_not_survive_is_named_with_what_it_depends_on(tree):
    with pytest.raises(ConfigError) as caught:
        kconfig.verify(fragment(tree, "CONFIG_CMA=y\n"), "CONFIG_MMU=y\n", tree)
    text = str(caught.value)
    assert "CONFIG_CMA=y (my.config:1) became 'not set'" in text
    assert "mm/Kconfig:6 depends on SOUND && MMU && !NOMMU ||" in text
    assert "SOUND=n, MMU=y, NOMMU=n, COLDFIRE=n" in text
    assert caught.value.exit_code == 2


def test_conditions_of_a_closed_block_do_not_count(tree):
    with pytest.raises(ConfigError, match=r"mm/Kconfig:15 depends on nothing"):
        kconfig.verify(fragment(tree, "CONFIG_AFTER=y\n"), "", tree)


def test_an_unknown_option_is_said_to_be_unknown(tree):
    with pytest.raises(ConfigError, match="no Kconfig of this kernel defines it"):
        kconfig.verify(fragment(tree, "CONFIG_CMAA=y\n"), "", tree)


def test_a_wrong_value_is_lost_too(tree):
    with pytest.raises(ConfigError, match="became '7'"):
        kconfig.verify(fragment(tree, "CONFIG_CMA_AREAS=8\n"), "CONFIG_CMA_AREAS=7\n", tree)


def test_the_supplied_fragments_ask_for_cma():
    requests = kconfig.read_fragments(load_kernel("6.12").fragments(), "6.12.117")
    assert ("CONFIG_CMA", "y") in [(each.symbol, each.value) for each in requests]
