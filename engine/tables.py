"""Reads and checks TOML tables that people write; what is wrong becomes one clear line."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from engine.errors import ConfigurationError

T = TypeVar("T")


def read(path: Path) -> dict[str, Any]:
    """The parsed file; raises ConfigurationError when it is missing or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error


def check(kind: "TypeAdapter[T]", table: Any, where: str) -> T:
    """`table` as a value of `kind`; raises ConfigurationError that begins with `where` and names the key."""
    try:
        return kind.validate_python(table)
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {_line(error, kind)}") from error


def _line(error: ValidationError, kind: TypeAdapter[Any]) -> str:
    problems = error.errors(include_url=False)
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key {key!r}{_closest(key, kind)}{more}"
    if first["type"] in ("missing", "missing_argument"):
        return f"key {key!r} is missing{more}"
    if first["type"] == "string_pattern_mismatch":
        return f"{key} is {first['input']!r}: that holds something that is not allowed there{more}"
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
    return f"{key} is {first['input']!r}: {message}{more}" if key else f"{message}{more}"


def problem(error: Mapping[str, Any], skip: int = 0) -> str:
    """One of pydantic's errors as a line that begins with the field; `skip` parts of its place are left out."""
    field = ".".join(map(str, error["loc"][skip:]))
    words = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        words = "there is no such field; /docs lists them"
    return f"{field}: {words}" if field else words


def _closest(key: str, kind: TypeAdapter[Any]) -> str:
    known: set[str] = set()
    _property_names(kind.json_schema(), known)
    last = key.rsplit(".", 1)[-1]  # it may be known, but in another table
    close = difflib.get_close_matches(last, sorted(known - {last}), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _property_names(schema: Any, names: set[str]) -> None:
    if isinstance(schema, dict):
        properties = schema.get("properties")
        names.update(properties if isinstance(properties, dict) else ())
        for value in schema.values():
            _property_names(value, names)
