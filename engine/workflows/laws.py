"""Sets of laws: what the tribunal judges an answer by. TOML files that operators edit, versioned by their hash."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from engine import tables
from engine.errors import ConfigurationError, UnknownName

MOST_LAWS = 32
Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]


@dataclass(frozen=True)
class Law:
    name: str
    text: str


@dataclass(frozen=True)
class LawSet:
    """`hash` tells one version from another: it changes with the name or text of any law, not with the title."""

    name: str
    title: str
    laws: tuple[Law, ...]
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        canonical = json.dumps([[law.name, law.text] for law in self.laws], ensure_ascii=False)
        object.__setattr__(self, "hash", hashlib.sha256(canonical.encode()).hexdigest()[:12])

    def as_json(self) -> dict[str, Any]:
        laws = [{"name": law.name, "text": law.text} for law in self.laws]
        return {"name": self.name, "title": self.title, "hash": self.hash, "laws": laws}


class _Law(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Name
    text: Text


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: Text
    laws: list[_Law] = Field(min_length=1, max_length=MOST_LAWS)


_FILE = TypeAdapter(_File)
_LAWS: TypeAdapter[list[_Law]] = TypeAdapter(Annotated[list[_Law], Field(min_length=1, max_length=MOST_LAWS)])


def load_laws(folder: Path) -> dict[str, LawSet]:
    """Every set of laws in the folder, by the name of its file; raises ConfigurationError that names a broken one."""
    return {path.stem: _load(path) for path in sorted(folder.glob("*.toml"))}


def _load(path: Path) -> LawSet:
    found = tables.check(_FILE, tables.read(path), str(path))
    return LawSet(path.stem, found.title, _laws(found.laws, str(path)))


def _laws(found: Iterable[_Law], where: str) -> tuple[Law, ...]:
    laws = tuple(Law(one.name, one.text) for one in found)
    names = [law.name for law in laws]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"{where}: two laws have the name {twice[0]!r}")
    return laws


def choose(wanted: Any, known: Mapping[str, LawSet]) -> LawSet:
    """The set of that name, or one made of `[{name, text}, …]`; raises UnknownName or ConfigurationError."""
    if isinstance(wanted, str):
        if wanted not in known:
            raise UnknownName("set of laws", wanted, known)
        return known[wanted]
    if not isinstance(wanted, list):
        raise ConfigurationError("laws must be the name of a set, or a list of objects with name and text")
    found = tables.check(_LAWS, wanted, "laws")
    return LawSet("inline", "Laws of this request", _laws(found, "laws"))
