"""Reading of TOML files, and what is said about mistakes in them."""

from __future__ import annotations

import difflib
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.config.values import Frozen
from harness.errors import ConfigError, UsageError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
_Model = TypeVar("_Model", bound=Frozen)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the file's tables; raise `ConfigError` with the line when it does not parse."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(error.strerror or str(error), where=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"not TOML: {error}", where=str(path), next_step="mend that line and run again"
        ) from error


def names(kind: str) -> tuple[str, ...]:
    """Return the names that configs/KIND/ offers (kind: boards, layouts)."""
    return tuple(sorted(path.stem for path in (CONFIGS / kind).glob("*.toml")))


def named_file(kind: str, name: str, suffix: str) -> Path:
    """Return configs/KIND/NAME with that suffix, or the file NAME when it has the suffix already.

    Raises `UsageError` with the names there are.
    """
    path = Path(name) if name.endswith(suffix) else CONFIGS / kind / f"{name}{suffix}"
    if path.is_file():
        return path
    offered = sorted(found.stem for found in (CONFIGS / kind).glob(f"*{suffix}"))
    raise UsageError(
        f"no {kind.removesuffix('s')} {name!r}",
        where=str(path.parent),
        next_step=f"choose one of: {', '.join(offered)}{nearest(name, offered)}",
    )


def require_known(what: str, wanted: Iterable[str], known: Iterable[str]) -> None:
    """Raise `UsageError` for the first name that is not known."""
    offered = sorted(set(known))
    for name in wanted:
        if name not in offered:
            near = nearest(name, offered) or f"; choose one of: {', '.join(offered)}"
            raise UsageError(f"no {what} {name!r}{near}")


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return " (nearest: X)" when one of the valid names is close; else nothing."""
    close = difflib.get_close_matches(name, list(valid), n=1)
    return f" (nearest: {close[0]})" if close else ""


def validate(model: type[_Model], data: dict[str, Any], path: Path, prefix: str = "") -> _Model:
    """Return the table as a value; raise `ConfigError` about all that is wrong with it."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(
            "; ".join(_explain(model, problem, prefix) for problem in error.errors()),
            where=str(path),
            next_step="mend the file; configs/ has working examples",
        ) from error


def _explain(model: type[BaseModel], problem: Mapping[str, Any], prefix: str) -> str:
    where = problem["loc"]
    key = prefix + ".".join(str(part) for part in where)
    if problem["type"] == "extra_forbidden":
        valid = _keys(_model_at(model, where[:-1]))
        near = nearest(str(where[-1]), valid) or f" (valid: {', '.join(valid)})"
        return f"unknown key '{key}'{near}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"key '{key}': {message}" if where else message


def _keys(model: type[BaseModel]) -> tuple[str, ...]:
    fields = model.model_fields
    return tuple(field.alias or name for name, field in fields.items() if name != "name")


def _model_at(model: type[BaseModel], where: Sequence[str | int]) -> type[BaseModel]:
    """Return the model of the table at `where`, below a file's `model`."""
    for key in where:
        field = model.model_fields.get(str(key))
        if field is not None:
            model = next(_models_in(field.annotation), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models_in(part)
