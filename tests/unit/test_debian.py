"""Downloads are verified before use, and names resolve once."""

from __future__ import annotations

import hashlib

import pytest

from harness import debian
from harness.cache import Cache
from harness.debian import Package
from harness.errors import DownloadError


def test_a_corrupt_download_is_refused_and_removed(tmp_path):
    deb = tmp_path / "x.deb"
    deb.write_bytes(b"tampered")
    with pytest.raises(DownloadError, match="corrupt download") as caught:
        debian.verify(deb, hashlib.sha256(b"genuine").hexdigest())
    assert caught.value.exit_code == 3
    assert not deb.exists()


def test_a_good_download_stays(tmp_path):
    deb = tmp_path / "x.deb"
    deb.write_bytes(b"genuine")
    debian.verify(deb, hashlib.sha256(b"genuine").hexdigest())
    assert deb.exists()


def test_names_are_resolved_once_until_forgotten(tmp_path, monkeypatch):
    asked = []

    def resolve(self, names):
        asked.append(names)
        return tuple(Package(name, "1", self.architecture, "00") for name in names)

    monkeypatch.setattr(debian.AptRoot, "resolve", resolve)
    cache = Cache(tmp_path)
    first = debian.remembered(cache, ("a", "b"), "armhf")
    assert debian.remembered(cache, ("a", "b"), "armhf") == first
    assert len(asked) == 1
    debian.forget(cache)
    debian.remembered(cache, ("a", "b"), "armhf")
    assert len(asked) == 2


HOST = (
    debian.Target("http://one/debian/", "bookworm", "main"),
    debian.Target("http://one/debian/", "bookworm-updates", "main"),
    debian.Target("http://two/security/", "bookworm-security", "main"),
)


def lines(suites):
    return [line.split("] ")[-1].removeprefix("deb ") for line in debian.sources(HOST, suites)]


def test_without_suites_of_its_own_a_package_is_looked_for_in_the_hosts():
    assert lines(()) == [
        "http://one/debian/ bookworm main",
        "http://one/debian/ bookworm-updates main",
        "http://two/security/ bookworm-security main",
    ]


def test_another_suite_is_looked_for_where_the_host_has_its_own_of_that_kind():
    assert lines(("bullseye", "bullseye-security")) == [
        "http://one/debian/ bullseye main",
        "http://two/security/ bullseye-security main",
    ]


def test_a_suite_is_held_to_signature_and_date_as_the_hosts_are(tmp_path):
    root = debian.AptRoot(Cache(tmp_path), "amd64", ("bullseye",))
    for word in (*root._apt("apt-get"), *debian.sources(HOST, ("bullseye",))):
        assert not any(loose in word.lower() for loose in ("trusted=", "valid-until", "insecure"))


def test_indexes_of_other_suites_lie_apart(tmp_path):
    host = debian.AptRoot(Cache(tmp_path), "amd64")
    other = debian.AptRoot(Cache(tmp_path), "amd64", ("bullseye",))
    assert (
        set(host._apt("apt"))
        & set(other._apt("apt"))
        & {word for word in host._apt("apt") if str(tmp_path) in word}
        == set()
    )


def test_what_a_name_is_in_other_suites_is_remembered_apart(tmp_path, monkeypatch):
    def resolve(self, names):
        return tuple(Package(name, self.suites[0], self.architecture, "00") for name in names)

    monkeypatch.setattr(debian.AptRoot, "resolve", resolve)
    for suite in ("bullseye", "bookworm", "bullseye"):
        (found,) = debian.remembered(Cache(tmp_path), ("a",), "amd64", (suite,))
        assert found.version == suite
