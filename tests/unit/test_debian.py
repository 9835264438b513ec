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
