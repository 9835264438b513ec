"""A kernel's source as a tarball: a file, or an address and its SHA-256."""

from __future__ import annotations

import http.client
import shutil
import urllib.request
from pathlib import Path

from harness.cache import Cache, Entry, digest_file
from harness.config import Kernel
from harness.debian import verify
from harness.errors import CommandFailed, ConfigError, DownloadError
from harness.process import run
from harness.progress import Progress

_SECONDS = 60.0  # that a server may be silent


class Unreadable(CommandFailed, ConfigError):
    """tar cannot unpack it."""

    exit_code = ConfigError.exit_code


def unpacked(kernel: Kernel, cache: Cache, progress: Progress) -> Entry:
    """Return the entry whose linux/ is the tarball's tree, made if it is not there.

    Raises `DownloadError` when it cannot be had or is not the one that was asked for, and
    `ConfigError` for a file that is another than its SHA-256 says, or no tarball.
    """
    if kernel.tarball is not None:
        sha256 = digest_file(kernel.tarball)
        if kernel.sha256 not in (None, sha256):
            raise ConfigError(
                f"SHA-256 is {sha256}, expected {kernel.sha256}", where=str(kernel.tarball)
            )
    else:
        assert kernel.sha256 is not None
        sha256 = kernel.sha256

    def fill(directory: Path) -> None:
        archive = kernel.tarball
        if archive is None:
            assert kernel.url is not None
            progress.say(f"source   fetching {kernel.url}")
            archive = directory / "linux.tar"
            download(kernel.url, archive, sha256)
        unpack(archive, directory / "linux")
        if kernel.tarball is None:
            archive.unlink()

    return cache.make("source", {"tarball": sha256}, fill)


def unpack(archive: Path, tree: Path) -> None:
    """Unpack a tarball, whatever it is packed with, without the folder it has all in."""
    tree.mkdir()
    run(["tar", "-xf", archive, "-C", tree, "--strip-components=1"], error=Unreadable)


def download(url: str, path: Path, sha256: str) -> None:
    """Fetch a file; raise `DownloadError` when it does not come, or is another."""
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except (OSError, http.client.HTTPException) as problem:
        raise DownloadError(
            f"cannot be fetched: {problem}",
            where=url,
            next_step="look at the address, and at the network (https_proxy is honoured)",
        ) from problem
    verify(path, sha256)
