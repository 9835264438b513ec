"""Ranges of kernel versions, as fragments, patches and defects have them."""

from __future__ import annotations

import pytest

from harness.config.versions import Versions, numbers


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("since 5.13", ("5.13", "5.13.0", "6.1.192", "7.3.4"), ("5.12.99", "5.10.262")),
        ("before 6.12", ("5.10.262", "6.11.11"), ("6.12", "6.12.0-rc1", "7.0")),
        ("since 6.2 before 6.12.50", ("6.2", "6.12.49"), ("6.1.192", "6.12.50", "6.12.117")),
        ("before 5.10.200, since 6.1 before 6.2", ("5.10.199", "6.1.3"), ("5.10.200", "6.2")),
    ],
)
def test_a_version_is_in_a_range_or_not(text, inside, outside):
    versions = Versions.parse(text)
    assert [each for each in inside if each not in versions] == []
    assert [each for each in outside if each in versions] == []


@pytest.mark.parametrize(
    "text",
    ["", "5.13", "since", "since 5", "before 6.1,since 7.0", "since 6.1 since 6.2", "after 6"],
)
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ValueError, match="are no versions such as"):
        Versions.parse(text)


def test_a_range_without_a_version_in_it_is_refused():
    with pytest.raises(ValueError, match=r"'since 6\.12 before 6\.1' has no version in it"):
        Versions.parse("since 6.12 before 6.1")


def test_a_version_has_three_numbers_and_maybe_more():
    assert numbers("6.12.117") == (6, 12, 117)
    assert numbers("7.3.0-rc2+") == (7, 3, 0)
    assert numbers("6.12") == (6, 12, 0)
    with pytest.raises(ValueError, match="not a kernel's version"):
        numbers("next")
