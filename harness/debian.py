"""Debian packages through a private apt root: no root rights, nothing changes on the host.

The mirrors are those that the host's own apt uses; apt checks the signatures of the indexes and
the hashes of the packages. What a name resolved to is remembered in the cache, so that a second
run asks no mirror.

Suites other than the host's are looked for on the same mirrors, and held to the same: signed by a
key of Debian's that has not expired, and not older than the index says it may get. An index that
Debian no longer renews (bullseye's) has no such date, so nothing must be excused for it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.cache import Cache, digest_file
from harness.errors import CommandFailed, DiskFull, DownloadError
from harness.process import FREE_SPACE, run

_FIELDS = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
# Where the package debian-archive-keyring keeps Debian's keys, in Debian 12 and later.
_INDEXES = (
    128 << 20
)  # bytes, more than apt's lists of one architecture's suites and what it unpacks
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True, slots=True)
class Package:
    """A binary package as the mirror's signed index has it."""

    name: str
    version: str
    architecture: str
    sha256: str


class AptRoot:
    """apt for one architecture and some suites, with state of its own below the cache.

    Without `suites` it has those of the host.
    """

    def __init__(self, cache: Cache, architecture: str, suites: tuple[str, ...] = ()) -> None:
        self._cache = cache
        self.architecture = architecture
        self.suites = suites
        self._name = "-".join((architecture, *suites))
        self._fresh = False

    def resolve(self, names: tuple[str, ...]) -> tuple[Package, ...]:
        """Return the newest version of each package that the suites offer.

        Raises `DownloadError` when no index can be had or a package is in none.
        """
        with self._cache.lock(f"apt-{self._name}"):
            self._update()
            return tuple(self._show(name) for name in names)

    def download(self, package: Package, directory: Path) -> Path:
        """Fetch one package into `directory` and return the .deb, its hash checked."""
        with self._cache.lock(f"apt-{self._name}"):
            self._update()
            run(
                [*self._apt("apt-get"), "download", f"{package.name}={package.version}"],
                cwd=directory,
                error=DownloadFailed,
            )
        found = sorted(directory.glob(f"{package.name}_*.deb"))
        if len(found) != 1:
            raise DownloadError(
                f"expected one .deb, found {len(found)}", where=f"{directory}/{package.name}_*"
            )
        verify(found[0], package.sha256)
        return found[0]

    def _apt(self, program: str) -> list[str]:
        state = self._cache.root / "apt" / self._name
        options = {
            "Dir::State": state / "state",
            "Dir::State::Lists": state / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": state / "cache",
            "Dir::Etc::sourcelist": state / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "",  # else root's apt wants _apt to read the cache
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        return [program, *(f"-o{name}={value}" for name, value in options.items())]

    def _update(self) -> None:
        """Fetch the indexes once a process.

        One suite that is out of sync is no reason to stop: a package that then cannot be found
        is. apt-get itself says which index failed, and keeps the good ones.
        """
        if self._fresh:
            return
        state = self._cache.root / "apt" / self._name
        _require_room(self._cache.root)
        for part in ("state", "lists/partial", "cache/archives/partial"):
            (state / part).mkdir(parents=True, exist_ok=True)
        lines = sources(_host_targets(), self.suites)
        (state / "sources.list").write_text("".join(f"{line}\n" for line in lines))
        try:
            run([*self._apt("apt-get"), "update"])
        except CommandFailed as problem:
            self._complaint = str(problem)
        else:
            self._complaint = ""
        self._fresh = True

    def _show(self, name: str) -> Package:
        try:
            shown = run([*self._apt("apt-cache"), "show", "--no-all-versions", name]).output
        except CommandFailed as problem:
            raise DownloadError(
                f"{self._where()} has {name}:{self.architecture}"
                + (
                    f"; the indexes did not all arrive: {self._complaint}"
                    if self._complaint
                    else ""
                ),
                where="apt",
                next_step="add the suite that has it to the host's apt sources, or try again later"
                if not self.suites
                else "try again later, or use a mirror that has these suites",
            ) from problem
        fields = dict(line.split(": ", 1) for line in shown.splitlines() if ": " in line)
        return Package(name, fields["Version"], fields["Architecture"], fields["SHA256"])

    def _where(self) -> str:
        if self.suites:
            return f"none of the suites {', '.join(self.suites)} on the host's mirrors"
        return "no suite of the host's apt sources"


def _require_room(root: Path) -> None:
    """Raise `DiskFull` when the indexes have no room: apt-get 2.6 waits for ever on a full disk."""
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if free < _INDEXES:
        raise DiskFull(
            f"no space left on the disk: {free >> 20} MiB are free, the indexes of packages take "
            f"{_INDEXES >> 20}",
            where=str(root),
            next_step=FREE_SPACE,
        )


class DownloadFailed(CommandFailed, DownloadError):
    """apt-get could not fetch a package."""


@dataclass(frozen=True, slots=True)
class Target:
    """A component of a suite on one of the host's mirrors."""

    uri: str
    suite: str
    component: str


def _host_targets() -> tuple[Target, ...]:
    """Return every component of Debian's that the host's apt has an index of."""
    listed = run(
        ["apt-get", "indextargets", "--format", _FIELDS, "Created-By: Packages", "Origin: Debian"]
    )
    rows = [line.split("|") for line in dict.fromkeys(listed.output.splitlines())]
    targets = tuple(Target(*row) for row in rows if len(row) == 3)
    if not targets:
        raise DownloadError(
            "the host's apt has no index of a Debian suite",
            where="apt-get indextargets",
            next_step="run 'apt-get update' (on a Debian host), then try again",
        )
    return targets


def sources(targets: tuple[Target, ...], suites: tuple[str, ...]) -> tuple[str, ...]:
    """Return the lines of a sources.list: of the host's own suites, or of those named instead.

    A mirror has the security suites in an archive of their own. So a suite of either kind is
    looked for where the host has its own of that kind.
    """
    wanted = targets
    if suites:
        places = dict.fromkeys((target.uri, _is_security(target.suite)) for target in targets)
        wanted = tuple(
            Target(uri, suite, "main")
            for suite in suites
            for uri, security in places
            if security == _is_security(suite)
        )
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.is_file() else ""
    return tuple(f"deb {signed}{each.uri} {each.suite} {each.component}" for each in wanted)


def _is_security(suite: str) -> bool:
    return suite.endswith("-security")


def verify(path: Path, sha256: str) -> None:
    """Raise `DownloadError`, and remove the file, unless its SHA-256 is the one expected."""
    actual = digest_file(path)
    if actual != sha256:
        path.unlink()
        raise DownloadError(
            f"corrupt download: SHA-256 is {actual}, expected {sha256}",
            where=str(path),
            next_step="run again; if it persists, the mirror or a proxy before it is damaged",
        )


def remembered(
    cache: Cache, names: tuple[str, ...], architecture: str, suites: tuple[str, ...] = ()
) -> tuple[Package, ...]:
    """Return what `names` resolved to the last time, or resolve and remember it now."""
    inputs = {"names": names, "architecture": architecture}
    key = cache.key(inputs | ({"suites": suites} if suites else {}))
    note = cache.root / "resolved" / f"{key}.json"
    # A note that does not read is one that is not there.
    with suppress(OSError, ValueError, TypeError):
        return tuple(Package(**fields) for fields in json.loads(note.read_text()))
    packages = AptRoot(cache, architecture, suites).resolve(names)
    note.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=note.parent, delete=False) as aside:
        json.dump([asdict(package) for package in packages], aside, indent=1)
    Path(aside.name).replace(note)
    return packages


def forget(cache: Cache) -> None:
    """Drop what names resolved to, so that the next run takes the newest versions."""
    shutil.rmtree(cache.root / "resolved", ignore_errors=True)


def unpack(deb: Path, directory: Path) -> None:
    """Unpack a .deb's files below `directory`."""
    run(["dpkg-deb", "-x", deb, directory])


def host_architecture() -> str:
    """Return Debian's name of the host's architecture, such as amd64."""
    return run(["dpkg", "--print-architecture"]).output.strip()
