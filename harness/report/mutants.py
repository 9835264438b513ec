"""The record of a campaign as a table: what killed which mutant, and which ones nothing did.

A line has the fate, the mutant, the seconds of its build and of its suites, and the first killer.
"""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.markup import escape

from harness.results.mutants import CampaignRecord, Fate, MutantRecord

_STYLE = {Fate.KILLED: "green", Fate.EQUIVALENT: "green", Fate.LEFT: "yellow"}


def show(record: CampaignRecord, console: Console) -> None:
    """Print a line for each mutant, and the counts."""
    width = max((len(mutant.id) for mutant in record.mutants), default=0)
    for mutant in record.mutants:
        fate = f"[{_STYLE.get(mutant.fate, 'red')}]{mutant.fate:<16}[/]"
        took = f"{mutant.build_seconds:4.0f} + {mutant.suites_seconds:.0f} s"
        line = f"{fate}{mutant.id:<{width}}  {took:<14}{escape(_by(mutant))}"
        console.print(line.rstrip(), soft_wrap=True)
    console.print(f"linux {record.kernel_version}: {counts(record)}", soft_wrap=True)


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
