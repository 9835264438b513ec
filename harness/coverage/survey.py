"""From the counters that a run's guests left to the record of what they executed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.config import Coverage
from harness.coverage import counters, gcov
from harness.coverage.judge import judge
from harness.errors import ConfigError, UsageError
from harness.results.coverage import CoverageRecord
from harness.results.record import CellRecord


def survey(
    plan: Coverage, cell: CellRecord, directory: Path, kdir: Path, program: str
) -> CoverageRecord:
    """Return the coverage of a cell's guests, whose logs and counters are below `directory`.

    `kdir` is the directory of the kernel that they ran, `program` the gcov of its compiler. Raises
    `UsageError` when there are no counters, `ConfigError` when the plan does not fit the kernel.
    """
    folders = sorted(path for path in directory.rglob(counters.FOLDER) if path.is_dir())
    whole = [folder for folder in folders if not (folder / counters.LOST).exists()]
    if not whole:
        raise UsageError(
            "no guest of this run left counters",
            where=str(directory),
            next_step="run 'make coverage', or cma-harness test --variant coverage",
        )
    sources = dict(_sources(kdir, whole, program))
    files, notes = judge(plan, *_split(plan, sources))
    return CoverageRecord(
        kernel_version=cell.kernel_version,
        kernel_key=cell.kernel_key,
        guests=len(whole),
        files=files,
        notes=(*notes, *(_lost(folder, directory) for folder in folders if folder not in whole)),
    )


def _sources(
    kdir: Path, folders: Sequence[Path], program: str
) -> Iterator[tuple[str, gcov.Source]]:
    """Yield each counted source file by its path in the kernel's tree."""
    for notes in counters.notes(kdir):
        counted = [folder / notes.with_suffix(counters.COUNTS) for folder in folders]
        if any(each.exists() for each in counted):
            read = (gcov.read(program, kdir / notes, each) for each in counted)
            yield str(notes.with_suffix(".c")), gcov.add(read)


def _split(
    plan: Coverage, sources: Mapping[str, gcov.Source]
) -> tuple[dict[str, str], dict[str, Mapping[int, gcov.Count]]]:
    """Return the texts and the counts of the plan's files."""
    lacking = [file.path for file in plan.file if file.path not in sources]
    if lacking:
        raise ConfigError(
            f"nothing counts {', '.join(lacking)}",
            where="configs/coverage.toml",
            next_step="name its object in configs/kernels.toml, under variant.coverage.make",
        )
    wanted = {file.path: sources[file.path] for file in plan.file}
    return (
        {path: source.path.read_text() for path, source in wanted.items()},
        {path: source.lines for path, source in wanted.items()},
    )


def _lost(folder: Path, directory: Path) -> str:
    why = (folder / counters.LOST).read_text().partition("\n")[0]
    return f"the counters of {folder.parent.relative_to(directory.parent)} are lost: {why}"
