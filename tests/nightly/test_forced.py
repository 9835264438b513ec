"""A layout that cannot be is refused, and booted all the same with --force: as it was foretold."""

from __future__ import annotations

import pytest

DEFAULT = '[[area]]\nname = "linux,cma"\nsize = "16M"\ndefault = true\n'
ACROSS = '[[area]]\nname = "across"\nsize = "32M"\nat = "0x56000000"\n'
HANGS = '[[area]]\nname = "odd"\nsize = "16M"\nat = "0x50100000"\n'


@pytest.fixture
def layout(tmp_path):
    def file(text):
        path = tmp_path / "bad.toml"
        path.write_text(f'description = "bad"\n{text}')
        return str(path)

    return file


def test_what_the_check_says_is_what_the_kernel_does(run, layout):
    file = layout(f'cmdline = "vmalloc=640M"\n{DEFAULT}{ACROSS}')
    refused = run("layout", "check", file)
    assert refused.status == 2, refused.output
    assert "crosses the end of low memory at 0x57000000" in refused.output
    planned = run("test", "--layout", file, "kmod/cma_kunit")
    assert planned.status == 2, planned.output
    assert "--force" in planned.output
    booted = run("test", "--force", "--layout", file, "kmod/cma_kunit", "-k", "area_matches")
    assert booted.status == 1, booted.output
    layouts = next(case for case in booted.record.cases() if case.id == "layout")
    assert "area 'across@56000000' is 0 MiB, the layout says 32" in layouts.message
    assert set(booted.verdicts.values()) <= {"PASS", "SKIP"}


def test_a_kernel_that_does_not_boot_is_a_verdict(run, layout):
    booted = run("test", "--force", "--layout", layout(DEFAULT + HANGS), "kmod/cma_kunit")
    assert booted.status == 1, booted.output
    layouts = next(case for case in booted.record.cases() if case.id == "layout")
    assert layouts.verdict == "TIMEOUT"
    assert set(booted.verdicts.values()) == {"LOST"}
