"""configs/mutants/: small breakages of a kernel, a file for each file of the kernel."""

from __future__ import annotations

from pydantic import Field

from harness.config.kernels import PLAIN
from harness.config.reading import CONFIGS, read_toml, validate
from harness.config.values import Frozen
from harness.errors import ConfigError


class Mutant(Frozen):
    """A small breakage of a kernel's source file, which a suite must notice.

    `before` stands once in the file, or in `function` of it. `equivalent` says why nothing can
    notice, with the proof by the source.
    """

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    file: str
    function: str = ""
    before: str = Field(min_length=1)
    after: str
    promise: str  # of CMA, which it breaks
    undoes: str  # the commit of CMA's history that it takes back, or "none"
    equivalent: str = ""
    first: tuple[str, ...] = ()  # tests that run before the others: they are to notice
    variant: str = PLAIN  # the variant of the kernel on which it can be noticed


def load_mutants() -> tuple[Mutant, ...]:
    """Return all mutants of configs/mutants/, by file and then in the order of the file."""
    found: list[Mutant] = []
    for path in sorted((CONFIGS / "mutants").glob("*.toml")):
        tables = read_toml(path)
        shared = {key: value for key, value in tables.items() if key != "mutant"}
        for number, table in enumerate(tables.get("mutant", ()), 1):
            found.append(validate(Mutant, shared | table, path, f"mutant {number}: "))
    known = [mutant.id for mutant in found]
    twice = sorted({name for name in known if known.count(name) > 1})
    if twice:
        raise ConfigError(f"two mutants with one id: {', '.join(twice)}", where="configs/mutants")
    return tuple(found)
