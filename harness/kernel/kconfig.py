"""Kernel configuration fragments, and whether what they ask for survived olddefconfig."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.config.versions import Versions
from harness.errors import ConfigError

_VALUE = r'"(?:[^"\\]|\\.)*"|[^\s"]+'
_LINE = re.compile(
    rf"(?:(CONFIG_\w+)=({_VALUE})|# (CONFIG_\w+) is not set)(?:\s+# ((?:since|before) .*?))?\s*"
)
UNSET = "n"


@dataclass(frozen=True, slots=True)
class Request:
    """One line of a fragment: a symbol, the value wanted, where it stands, for which kernels."""

    symbol: str
    value: str
    where: str
    versions: Versions | None = None


def read_fragments(paths: Iterable[Path], version: str) -> tuple[Request, ...]:
    """Return what the fragments ask of a kernel of that version; a later one overrides.

    A setting that ends in "# since 5.13" or "# before 6.12" is for those kernels only. Raises
    `ConfigError` for a line that is neither a comment nor a setting.
    """
    wanted: dict[str, Request] = {}
    for path in paths:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            request = _read_line(line, path, number)
            if request and (request.versions is None or version in request.versions):
                wanted[request.symbol] = request
    return tuple(wanted.values())


def _read_line(line: str, path: Path, number: int) -> Request | None:
    """Return what a line asks for, None for a comment."""
    match = _LINE.fullmatch(line)
    if match is None:
        if not line.strip() or line.startswith("#"):
            return None
        raise ConfigError(
            f"{line!r} is not a setting",
            where=f"{path}:{number}",
            next_step="write CONFIG_NAME=value or '# CONFIG_NAME is not set', "
            "and behind it, for some kernels only, '# since 5.13' or '# before 6.12'",
        )
    try:
        versions = Versions.parse(match[4]) if match[4] else None
    except ValueError as problem:
        raise ConfigError(str(problem), where=f"{path}:{number}") from problem
    return Request(match[1] or match[3], match[2] or UNSET, f"{path.name}:{number}", versions)


def render(requests: Iterable[Request]) -> str:
    """Return the requests as one fragment, for merge_config.sh."""
    return "".join(
        f"# {request.symbol} is not set\n"
        if request.value == UNSET
        else f"{request.symbol}={request.value}\n"
        for request in requests
    )


def settings(dotconfig: str) -> dict[str, str]:
    """Return the symbols that a .config sets, with their values."""
    return dict(re.findall(r"^(CONFIG_\w+)=(.*)$", dotconfig, re.M))


def verify(requests: Iterable[Request], dotconfig: str, tree: Path) -> None:
    """Raise `ConfigError` naming each request that did not survive, and what it depends on."""
    actual = settings(dotconfig)
    lost = [request for request in requests if actual.get(request.symbol, UNSET) != request.value]
    if lost:
        raise ConfigError(
            "kernel options did not survive olddefconfig:\n"
            + "\n".join(f"  {_explain(request, actual, tree)}" for request in lost),
            where=str(tree),
            next_step="set what they depend on in a fragment, or drop the request",
        )


def _explain(request: Request, actual: Mapping[str, str], tree: Path) -> str:
    got = actual.get(request.symbol, "not set")
    text = f"{request.symbol}={request.value} ({request.where}) became {got!r}"
    definitions = list(_definitions(request.symbol.removeprefix("CONFIG_"), tree))
    if not definitions:
        return f"{text}; no Kconfig of this kernel defines it"
    for place, conditions in definitions:
        text += f"; {place} depends on {' && '.join(conditions) or 'nothing'}"
        text += _values(conditions, actual)
    return text


def _values(conditions: Iterable[str], actual: Mapping[str, str]) -> str:
    symbols = dict.fromkeys(re.findall(r"\b[A-Z][A-Z0-9_]+\b", " ".join(conditions)))
    values = [f"{symbol}={actual.get(f'CONFIG_{symbol}', UNSET)}" for symbol in symbols]
    return f" (here {', '.join(values)})" if values else ""


def _definitions(symbol: str, tree: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield place and 'depends on' conditions of each definition, enclosing `if`s included."""
    head = re.compile(rf"^(?:menu)?config {symbol}$", re.M)
    for path in sorted(tree.rglob("Kconfig*")):
        if "/arch/" in str(path) and f"{tree}/arch/arm/" not in str(path):
            continue
        text = path.read_text(errors="replace")
        for match in head.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            conditions = [*_enclosing(text[: match.start()]), *_depends(text[match.end() :])]
            yield f"{path.relative_to(tree)}:{line}", conditions


def _depends(body: str) -> list[str]:
    """Return the 'depends on' lines and the prompt's own `if` of the entry that body starts."""
    entry = re.split(r"^(?:\w)", body, maxsplit=1, flags=re.M)[0].replace("\\\n", " ")
    prompt = re.findall(r'^\s+(?:bool|tristate|prompt|int|hex) ".*" if (.+)$', entry, re.M)
    return [*re.findall(r"^\s+depends on (.+)$", entry, re.M), *prompt]


def _enclosing(before: str) -> list[str]:
    """Return the conditions of the `if` blocks, and of the menus, still open at the end."""
    stack: list[str] = []
    for match in re.finditer(r"^(if (.+)|endif)\b.*$", before, re.M):
        if match[1].startswith("if"):
            stack.append(match[2])
        elif stack:
            stack.pop()
    return stack
