"""The guest's initramfs: Debian's busybox and dropbear, our programs and modules, an init.

gen_init_cpio, built with the kernel, writes the archive, so that device nodes and root's files
need no root rights. Archives can be concatenated: what is made for one run alone (its ssh keys)
is an archive of its own behind the cached one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import jinja2
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from harness.cache import Cache, Entry, digest_tree
from harness.config import Board, Recipe, Userland, load_recipe
from harness.debian import AptRoot, Package, remembered, unpack
from harness.errors import BuildFailed, ConfigError
from harness.kernel.build import BuiltKernel
from harness.kernel.elf import reading
from harness.kernel.modules import Modules
from harness.process import run
from harness.progress import Progress

IMAGES = Path(__file__).resolve().parent.parent.parent / "images"
MODULES = PurePosixPath("/lib/cma")
_RECIPE = 3  # raise it when the steps below change what an entry holds
_TRIPLETS = ("arm-linux-gnueabihf", "arm-linux-gnueabi")  # armhf's, armel's
_LIBRARIES = (*(f"{place}/{name}" for name in _TRIPLETS for place in ("lib", "usr/lib")), "lib")
_UAPI = Path(__file__).resolve().parent.parent.parent / "kmod" / "cma_test"
_SHARED = "lib"  # the folder of images/guest/ whose sources every program has
_SOURCES = ("**/*.c", "**/*.h", "**/*.sh", "**/*.toml", "**/*.jinja2")


@dataclass(frozen=True, slots=True)
class File:
    """A file of the archive: where it comes from on the host, and its mode."""

    source: Path
    mode: int


@dataclass(frozen=True, slots=True)
class Image:
    """An initramfs in the cache, and the program that can add archives to it."""

    key: str
    path: Path
    gen_init_cpio: Path

    @property
    def archive(self) -> Path:
        """The uncompressed cpio archive (newc)."""
        return self.path / "initramfs.cpio"

    def with_files(self, files: Mapping[str, File], work: Path, output: Path) -> Path:
        """Write the archive with further files behind it to `output`, and return that."""
        listing = "".join(_file_line(path, file) for path, file in sorted(files.items()))
        parents = {str(parent) for path in files for parent in PurePosixPath(path).parents}
        known = {"/", "/etc", "/lib", "/root"}
        folders = "".join(f"dir {path} 0700 0 0\n" for path in sorted(parents - known))
        _archive(self.gen_init_cpio, folders + listing, work / "run.cpio")
        with output.open("wb") as whole:
            for part in (self.archive, work / "run.cpio"):
                with part.open("rb") as file:
                    shutil.copyfileobj(file, whole)
        return output


def build(
    kernel: BuiltKernel, modules: Modules, board: Board, cache: Cache, progress: Progress
) -> Image:
    """Return the board's initramfs with those modules in it.

    Raises `DownloadError` for packages, `BuildFailed` for a program of images/guest/ that does
    not compile, `ConfigError` for a program or library that no package has.
    """
    recipe = load_recipe()
    with progress.phase("image", "initramfs") as phase:
        userland = kernel.toolchain.userland
        packages = remembered(cache, recipe.packages[userland], userland)
        root = _packages(packages, userland, cache)
        programs = _programs(kernel, cache)
        inputs = {
            "recipe": _RECIPE,
            "toolchain": kernel.toolchain.identity,
            "packages": [package.sha256 for package in packages],
            "images": digest_tree(IMAGES, _SOURCES),
            "programs": programs.key,
            "modules": modules.key,
            "network": board.has("net"),
            "console": board.console,
            "hostname": board.name,
        }

        def assemble(directory: Path) -> None:
            _init(board, directory / "init")
            _stripped(kernel, modules, directory / "ko")
            listing = _listing(recipe, root, programs.path / "bin", directory)
            (directory / "initramfs.list").write_text(listing)
            _archive(kernel.gen_init_cpio, listing, directory / "initramfs.cpio")

        entry = cache.make("image", inputs, assemble)
        image = Image(entry.key, entry.path, kernel.gen_init_cpio)
        size = image.archive.stat().st_size / 1e6
        phase.note(f"initramfs of {size:.1f} MB{'' if entry.made else ' (cached)'}")
    return image


def _packages(packages: tuple[Package, ...], userland: Userland, cache: Cache) -> Path:
    def fetch(directory: Path) -> None:
        apt = AptRoot(cache, userland)
        for package in packages:
            deb = apt.download(package, directory)
            unpack(deb, directory / "root")
            deb.unlink()

    inputs = {package.name: package.sha256 for package in packages}
    return cache.make("packages", inputs, fetch).path / "root"


def _init(board: Board, output: Path) -> None:
    template = (IMAGES / "init.sh.jinja2").read_text()
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = environment.from_string(template).render(
        network=board.has("net"), console=board.console, hostname=board.name
    )
    output.write_text(text + "\n")


def _programs(kernel: BuiltKernel, cache: Cache) -> Entry:
    """Return the programs of images/guest/ (see `program_sources`) and its scripts, in bin/."""
    guest = IMAGES / "guest"
    flags = ("-O2", "-static", "-s", "-Wall", "-Wextra", "-Werror")
    inputs = {
        "toolchain": kernel.toolchain.identity,
        "sources": digest_tree(guest, _SOURCES),
        "uapi": digest_tree(_UAPI, ("*.h",)),
        "flags": flags,
    }

    def compile_into(directory: Path) -> None:
        command = [f"{kernel.toolchain.prefix}gcc", *flags, f"-I{_UAPI}", f"-I{guest / _SHARED}"]
        binaries = directory / "bin"
        binaries.mkdir()
        for name, sources in program_sources(guest).items():
            run([*command, "-o", binaries / name, *sources], error=BuildFailed)
        for script in guest.glob("*.sh"):
            shutil.copyfile(script, binaries / script.stem)

    return cache.make("programs", inputs, compile_into)


def program_sources(guest: Path) -> dict[str, tuple[Path, ...]]:
    """Return the sources of each program: NAME.c or all of NAME/, and of all what lib/ has."""
    shared = tuple(sorted((guest / _SHARED).glob("*.c")))
    files = {path.stem: (path,) for path in guest.glob("*.c")}
    folders = {path.parent.name for path in guest.glob("*/*.c")} - {_SHARED}
    own = files | {name: tuple(sorted((guest / name).glob("*.c"))) for name in folders}
    return {name: (*own[name], *shared) for name in sorted(own)}


def _stripped(kernel: BuiltKernel, modules: Modules, directory: Path) -> None:
    """Copy the modules without their debug information, which is read on the host only."""
    directory.mkdir()
    for name, path in modules.items():
        stripped = directory / f"{name}.ko"
        run([f"{kernel.toolchain.prefix}strip", "-g", "-o", stripped, path], error=BuildFailed)


def _listing(recipe: Recipe, root: Path, programs: Path, directory: Path) -> str:
    """Return gen_init_cpio's list; every parent folder is listed before what is in it."""
    files = {
        "/init": File(directory / "init", 0o755),
        **{f"/usr/bin/{path.name}": File(path, 0o755) for path in programs.iterdir()},
        **{str(MODULES / path.name): File(path, 0o644) for path in (directory / "ko").iterdir()},
        **dict(_from_packages(recipe, root)),
        **dict(_from_recipe(recipe, directory / "etc")),
    }
    links = [f"slink {path} {target} 0777 0 0\n" for path, target in recipe.links.items()]
    paths = [PurePosixPath(path) for path in (*files, *recipe.links)]
    parents = {str(parent) for path in paths for parent in path.parents} - {"/"}
    modes = dict.fromkeys(parents, "0755") | dict(recipe.directories)
    return "".join(
        [f"dir {path} {mode} 0 0\n" for path, mode in sorted(modes.items())]
        + ["nod /dev/console 0600 0 0 c 5 1\n"]
        + [_file_line(path, file) for path, file in sorted(files.items())]
        + links
    )


def _file_line(path: str, file: File) -> str:
    return f"file {path} {file.source} {file.mode:04o} 0 0\n"


def _from_recipe(recipe: Recipe, directory: Path) -> Iterator[tuple[str, File]]:
    directory.mkdir()
    for path, content in recipe.files.items():
        source = directory / PurePosixPath(path).name
        source.write_text(content)
        yield path, File(source, 0o644)


def _from_packages(recipe: Recipe, root: Path) -> Iterator[tuple[str, File]]:
    libraries: dict[str, Path] = {}
    for path, origin in recipe.programs.items():
        program = root / origin
        if not program.is_file():
            raise ConfigError(
                f"no package has {origin}",
                where="images/initramfs.toml",
                next_step="add the Debian package that brings it to [packages]",
            )
        yield path, File(program, 0o755)
        _add_libraries(program, root, libraries)
    yield from ((f"/lib/{name}", File(path, 0o755)) for name, path in libraries.items())


def _add_libraries(program: Path, root: Path, found: dict[str, Path]) -> None:
    """Add to `found` the loader and all shared libraries that the program needs."""
    for name in _needed(program):
        if name in found:
            continue
        places = [root / folder / name for folder in _LIBRARIES]
        library = next((place for place in places if place.is_file()), None)
        if library is None:
            raise ConfigError(
                f"no package has {name}, which {program.name} needs",
                where="images/initramfs.toml",
                next_step="add the Debian package that brings it to [packages]",
            )
        found[name] = library.resolve()
        _add_libraries(library, root, found)


def _needed(program: Path) -> list[str]:
    with reading(program), program.open("rb") as file:
        elf = ELFFile(file)
        names = [
            PurePosixPath(segment.get_interp_name()).name
            for segment in elf.iter_segments()
            if isinstance(segment, InterpSegment)
        ]
        dynamic = elf.get_section_by_name(".dynamic")
        if isinstance(dynamic, DynamicSection):
            # elftools sets the attribute at run time, by the tag's name.
            names += [str(vars(tag)["needed"]) for tag in dynamic.iter_tags("DT_NEEDED")]
    return names


def _archive(gen_init_cpio: Path, listing: str, output: Path) -> None:
    """Write the archive that the list describes; its times are fixed, so that it is the same."""
    source = output.with_suffix(".list")
    source.write_text(listing)
    run([gen_init_cpio, "-t", "0", source], stdout=output, error=BuildFailed)
