"""Which kernel, board and layout a command is for: the options for it, and what they choose."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from harness import cell
from harness.cell import Cell
from harness.config import CONFIGS, PLAIN
from harness.matrix.plan import wishes
from harness.results.plan import Wish

_SUITES = {"exact": ["tests/exact"], "smp": ["kmod/cma_kunit"]}  # by lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What those options say. A command `for_cell` has one for each field.

    For `test`, names may have commas between them. `patch` and `config` change every kernel.
    """

    kernel: Annotated[
        str, typer.Option(help="A name of kernels.toml, a kernel tree, a tarball, or a .toml file.")
    ] = "6.12"
    variant: Annotated[str, typer.Option(help="plain, or a variant of kernels.toml.")] = PLAIN
    patch: Annotated[
        list[str] | None,
        typer.Option(
            help="Apply FILE (a patch, a mailbox, a series.toml) to a copy of the kernel."
        ),
    ] = None
    config: Annotated[list[str] | None, typer.Option(help="Add the kernel options of FILE.")] = None
    board: Annotated[str, typer.Option(help="A name of configs/boards/, or a .toml file.")] = "virt"
    layout: Annotated[str, typer.Option(help="A name of configs/layouts/, or a .toml file.")] = (
        "default"
    )
    lane: Annotated[str, typer.Option(help="smp, or exact: a clock that counts.")] = "smp"
    append: Annotated[str, typer.Option(help="Added to the kernel's command line.")] = ""

    def cell(self) -> Cell:
        """Return the one cell; raise `UsageError` or `ConfigError`."""
        names = self.kernel, self.board, self.layout, self.variant
        return cell.load(*names, patches=self.patches, fragments=self.fragments, lane=self.lane)

    @property
    def patches(self) -> tuple[str, ...]:
        """Files that are patches or series."""
        return tuple(self.patch or ())

    @property
    def fragments(self) -> tuple[str, ...]:
        """Files with kernel options."""
        return tuple(self.config or ())

    @property
    def several(self) -> bool:
        """Whether one of the names is a list."""
        return any("," in names for names in self._names())

    def wishes(self, arguments: Sequence[str]) -> tuple[Wish, ...]:
        """Return every combination, each with pytest's `arguments`."""
        return wishes(
            *(names.split(",") for names in self._names()),
            append=self.append,
            lane=self.lane,
            patches=self.patches,
            fragments=self.fragments,
            arguments=tuple(arguments),
        )

    def options(self) -> list[str]:
        """Return them as they are typed, for the plugin of pytest."""
        words = []
        for option in fields(self):
            value = getattr(self, option.name)
            values = [value] if isinstance(value, str) else value or []
            words += [f"--{option.name}={each}" for each in values]
        return words

    def _names(self) -> tuple[str, str, str, str]:
        return self.kernel, self.variant, self.board, self.layout


def for_cell(**others: str | None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command with a parameter `choice` the options for a `Choice`.

    `others` are defaults that differ; None leaves an option out.
    """

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        offered = [
            option.replace(default=others.get(option.name, option.default))
            for option in inspect.signature(Choice, eval_str=True).parameters.values()
            if others.get(option.name, "") is not None
        ]

        @functools.wraps(command)
        def chosen(**given: Any) -> None:
            choice = Choice(**{option.name: given.pop(option.name) for option in offered})
            command(choice=choice, **given)

        own = inspect.signature(command, eval_str=True).parameters.values()
        every = (*offered, *(each for each in own if each.name != "choice"))
        taken = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in every]
        chosen.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
        return chosen

    return with_options


def suites(words: Sequence[str], lane: str) -> list[str]:
    """Return what of the lane's own is run with pytest's `words`: nothing when they have a path."""
    if any(Path(word.partition("::")[0]).exists() for word in words):
        return []
    return [str(CONFIGS.parent / path) for path in _SUITES.get(lane, ())]
