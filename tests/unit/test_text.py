"""What a guest says reaches a terminal as text, and a caller's variables reach no build."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cache import Cache
from harness.errors import HarnessError
from harness.kernel.make import environment
from harness.process import run
from harness.text import printable


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]0;title\x1b\\text", "text"),
        ("a\rb\x08c\x9b2Jd", "abc2Jd"),
        ("lines\n\tand tabs stay: µ", "lines\n\tand tabs stay: µ"),
    ],
)
def test_escape_sequences_go_and_text_stays(said, shown):
    assert printable(said) == shown


@given(st.text())
def test_no_control_character_is_left(text):
    left = set(printable(text))
    assert not {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))} & left


def test_an_error_that_quotes_the_guest_is_harmless():
    assert "\x1b" not in str(HarnessError("said \x1b]0;pwned\x07", where="\x1b[2J"))


def test_a_build_inherits_neither_make_s_nor_kbuild_s_variables(tmp_path, monkeypatch):
    for name in ("KBUILD_OUTPUT", "KCFLAGS", "MAKEFLAGS", "O", "M"):
        monkeypatch.setenv(name, "poison")
    shown = run(["env"], env=environment(Cache(tmp_path))).output
    assert "poison" not in shown
    assert "CCACHE_DIR=" in shown
