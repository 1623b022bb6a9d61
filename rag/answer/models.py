"""The models that can be asked, from the rows of `GET /v1/models`, and which one to take. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rag.answer.states import Language

# Below so many billion parameters a model makes a follow-up worse, not better.
CAPABLE = 3.0
SMALL = 0.5
PASSAGES, FEW_PASSAGES = 5, 3


@dataclass(frozen=True)
class Model:
    """`load`, `queued`: requests; `capacity`: how many are worked on at once; `parameters`: billions, 0 unknown."""

    name: str
    ready: bool = True
    load: int = 0
    queued: int = 0
    capacity: int = 0
    context: int = 0
    vision: bool = False
    toy: bool = False
    simulated: bool = False
    parameters: float = 0.0
    languages: tuple[str, ...] = ()
    stage: str = "ready"
    reason: str = ""

    @property
    def busy(self) -> float:
        """0 idle, 1 as much as it can work on at once, above that requests wait."""
        return (self.load + self.queued) / self.capacity if self.capacity else 0.0

    @property
    def passages(self) -> int:
        """How many passages it is given: a very small model loses its way in many, and is long in reading them."""
        return FEW_PASSAGES if 0 < self.parameters < SMALL or self.toy else PASSAGES

    def speaks(self, language: Language) -> bool:
        return not self.languages or language in self.languages

    def rewrites(self, language: Language) -> bool:
        return self.parameters >= CAPABLE and self.speaks(language) and not (self.toy or self.simulated)


def read(rows: Iterable[dict[str, Any]]) -> tuple[Model, ...]:
    """Models that chat, ready ones first, then by name."""
    found = [_model(row) for row in rows if not row.get("embeddings")]
    return tuple(sorted(found, key=lambda model: (not model.ready, model.name)))


def _model(row: dict[str, Any]) -> Model:
    return Model(
        name=str(row["id"]),
        ready=bool(row.get("ready", 1)),
        load=int(row.get("load") or 0),
        queued=int(row.get("queued") or 0),
        capacity=int(row.get("capacity") or 0),
        context=int(row.get("context") or 0),
        vision=bool(row.get("vision")),
        toy=bool(row.get("toy")),
        simulated=bool(row.get("simulated")),
        parameters=float(row.get("parameters") or 0.0),
        languages=tuple(row.get("languages") or ()),
        stage=str(row.get("stage") or "ready"),
        reason=str(row.get("reason") or ""),
    )


def default(models: Sequence[Model], language: Language, sees: bool = False) -> Model | None:
    """A ready one that speaks the language and is real before the others, of those the largest, then the least busy."""
    able = [model for model in models if model.vision or not sees]
    return min(able, key=lambda one: _rank(one, language), default=None)


def _rank(model: Model, language: Language) -> tuple[Any, ...]:
    return (
        not model.ready,
        model.simulated,
        not model.speaks(language),
        model.toy,
        -model.parameters,
        model.busy,
        model.name,
    )


def chosen(models: Sequence[Model], name: str, language: Language, sees: bool = False) -> Model | None:
    """The model of that name; without a name the default."""
    if name:
        return next((model for model in models if model.name == name), None)
    return default(models, language, sees) or default(models, language)
