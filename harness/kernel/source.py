"""Where a kernel's source comes from: a Debian source package, a tarball, a tree of the user's."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from harness.cache import Cache
from harness.config import Kernel, patches_for
from harness.debian import AptRoot, host_architecture, remembered
from harness.errors import ConfigError
from harness.kernel import tarball
from harness.kernel.patching import patched
from harness.kernel.tree import Source, version_of
from harness.process import run
from harness.progress import Phase, Progress


def obtain(kernel: Kernel, cache: Cache, progress: Progress) -> Source:
    """Return the kernel's source with its patches, fetched and unpacked if it was not there yet.

    Raises `DownloadError` for a package that cannot be had or is damaged, `ConfigError` for a
    tree that cannot be built out of tree and for a patch that does not apply.
    """
    with progress.phase("source", f"linux {kernel.name}") as phase:
        source = _unpatched(kernel, cache, progress, phase)
    patches = patches_for(kernel.patches, source.version)
    if not patches:
        return source
    with progress.phase("patch", f"{len(patches)} on linux {source.version}") as phase:
        source = patched(source, patches, cache)
        files = dict.fromkeys(patch.file.name for patch in patches)
        phase.note(f"{len(patches)} of {', '.join(files)} on linux {source.version}")
    return source


def _unpatched(kernel: Kernel, cache: Cache, progress: Progress, phase: Phase) -> Source:
    if kernel.tree is not None:
        source = _user_tree(kernel.tree)
        phase.note(f"{source.version} at {kernel.tree}")
        return source
    if kernel.package is not None:
        source, made = _debian(kernel.package, kernel.suites, cache, progress)
        named = f"{kernel.package} {source.identity}"
    else:
        source, made = _tarball(kernel, cache, progress)
        named = f"{kernel.name}, linux {source.version}"
    phase.note(f"{named}{'' if made else ' (cached)'}")
    return source


def _tarball(kernel: Kernel, cache: Cache, progress: Progress) -> tuple[Source, bool]:
    entry = tarball.unpacked(kernel, cache, progress)
    tree = entry.path / "linux"
    label = f"{kernel.name}-{entry.key[:8]}"
    source = Source(tree, entry.key, version_of(tree), label, entry.key, settled=True)
    return source, entry.made


def _debian(
    name: str, suites: tuple[str, ...], cache: Cache, progress: Progress
) -> tuple[Source, bool]:
    native = host_architecture()
    # The host's architecture, not armhf: linux-source is `all`, and the native index is the one
    # that mirrors keep in step.
    package = remembered(cache, (name,), native, suites)[0]

    def fetch(directory: Path) -> None:
        progress.say(f"source   fetching {package.name} {package.version} (about 150 MB)")
        deb = AptRoot(cache, native, suites).download(package, directory)
        run(["dpkg-deb", "-x", deb, directory / "deb"])
        archive = next((directory / "deb" / "usr" / "src").glob("linux-source-*.tar.xz"))
        tarball.unpack(archive, directory / "linux")
        deb.unlink()
        archive.unlink()

    inputs = {"package": package.name, "version": package.version, "sha256": package.sha256}
    entry = cache.make("source", inputs, fetch)
    tree = entry.path / "linux"
    identity = package.version
    source = Source(tree, identity, version_of(tree), package.name, identity, settled=True)
    return source, entry.made


def _user_tree(tree: Path) -> Source:
    if re.search(r"[\s:]", str(tree)):
        raise ConfigError(
            "kbuild cannot build a tree with a space or a colon in its path",
            where=str(tree),
            next_step="move it, or link to it from a path without (and give the target's copy)",
        )
    for left in (".config", "include/config", "arch/arm/include/generated"):
        if (tree / left).exists():
            raise ConfigError(
                f"the tree was built in place ({left} exists), so kbuild refuses to build it apart",
                where=str(tree),
                next_step="run 'make mrproper' there, or give a clean checkout (git worktree add)",
            )
    whole = hashlib.sha256(str(tree).encode())
    interface = whole.copy()
    for path, line in _stat_lines(tree):
        whole.update(line.encode(errors="surrogateescape"))
        if _shapes_modules(path, tree):
            interface.update(line.encode(errors="surrogateescape"))
    label = f"{tree.name}-{hashlib.sha256(str(tree).encode()).hexdigest()[:8]}"
    version = version_of(tree)
    return Source(tree, whole.hexdigest()[:16], version, label, interface.hexdigest()[:16])


def _shapes_modules(path: str, tree: Path) -> bool:
    """Whether `make M=` may read it: all but what is compiled into vmlinux.

    What vmlinux's own code gives to modules (exported symbols, offsets) is in the files that its
    build generates, and keyed there. The programs below scripts/ are compiled for the host.
    """
    return not path.endswith((".c", ".S")) or path.startswith(f"{tree}/scripts/")


def _stat_lines(directory: Path | str) -> Iterator[tuple[str, str]]:
    """Yield path, and with it size and change time, of every file, as git's index does.

    No content is read.
    """
    with os.scandir(directory) as listing:
        found = sorted(listing, key=lambda item: item.name)
    for item in found:
        if item.name == ".git":
            continue
        if item.is_dir(follow_symlinks=False):
            yield from _stat_lines(item.path)
        else:
            status = item.stat(follow_symlinks=False)
            facts = f"{status.st_size}\0{status.st_mtime_ns}\0{status.st_mode}"
            yield item.path, f"{item.path}\0{facts}\n"
