"""The record of a campaign as a table: what killed which mutant, and which ones nothing did."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table

from harness.results.mutants import CampaignRecord, Fate, MutantRecord

_STYLE = {Fate.KILLED: "green", Fate.EQUIVALENT: "green", Fate.LEFT: "yellow"}


def show(record: CampaignRecord, console: Console) -> None:
    """Print a line for each mutant, and the counts."""
    table = Table(box=None, pad_edge=False)
    for name in ("mutant", "file", "fate", "by", "build", "test"):
        table.add_column(name, overflow="fold", justify="right" if name in _NUMBERS else "left")
    for mutant in record.mutants:
        table.add_row(
            mutant.id,
            mutant.file,
            f"[{_STYLE.get(mutant.fate, 'red')}]{mutant.fate}[/]",
            _by(mutant),
            f"{mutant.build_seconds:.0f} s",
            f"{mutant.suites_seconds:.0f} s",
        )
    console.print(table)
    console.print(f"linux {record.kernel_version}: {counts(record)}", highlight=False)


_NUMBERS = ("build", "test")


def _by(mutant: MutantRecord) -> str:
    if not mutant.killers:
        return ""
    name = mutant.killers[0].removeprefix("kmod/").removeprefix("tests/target/")
    more = len(mutant.killers) - 1
    return f"{name} (+{more})" if more else name


def counts(record: CampaignRecord) -> str:
    """Return "40 killed, 1 SURVIVED"."""
    found = Counter(mutant.fate for mutant in record.mutants)
    return ", ".join(f"{found[fate]} {fate}" for fate in Fate if found[fate]) or "no mutants"
