"""How many requests a replica can work on at once: measured, where a card tells, else by its engine's arguments.

A card is what a sweep found for one set-up: model x engine arguments x GPU. Cards lie in ENGINE_HOME/capacity/, a file
each, and the gateway admits by them.
"""

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from engine.errors import ConfigurationError
from engine.fleet.deployments import Deployment, to_json, write_atomically

log = logging.getLogger("engine.capacity")

# The argument that bounds parallel requests, and what the engine takes without it (their documentations, 2026).
# SGLang reckons its own from the memory; 256 is a guess until a card tells.
SLOTS: dict[str, tuple[str, int]] = {
    "simulator": ("capacity", 4),
    "llamacpp": ("parallel", 4),
    "vllm": ("max_num_seqs", 256),
    "tgi": ("max_concurrent_requests", 128),
    "sglang": ("max_running_requests", 256),
}
OF_AN_UNKNOWN_ENGINE = 64
# What NGINX gives to a replica, in its slots: also what a sweep needs to see past the point.
QUEUED_IN_REPLICA = 4


@dataclass(frozen=True)
class Setup:
    """What a capacity belongs to: change any of it and it has to be measured anew. `gpus` are per node."""

    model: str
    engine: str
    precision: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    gpu_type: str = ""
    gpus: int = 0
    nodes: int = 1
    cpus: int = 0

    @property
    def file_name(self) -> str:
        digest = hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:12]
        return f"{re.sub(r'[^A-Za-z0-9._-]', '_', self.model)}-{self.engine}-{digest}.json"


@dataclass(frozen=True)
class CapacityCard:
    """What a sweep found for one replica of a set-up.

    `slots` is the saturation point: the concurrency beyond which requests queue. The rates are those at that point;
    `experiment` names the sweep. A simulated set-up's card says so.
    """

    setup: Setup
    slots: int
    requests_per_s: float = 0.0
    tokens_per_s: float = 0.0
    latency_p50_s: float = 0.0
    experiment: str = ""
    measured_at: datetime | None = None
    simulated: bool = False

    def save(self, home: Path) -> Path:
        """Writes the card of its set-up, in place of an older one."""
        path = folder(home) / self.setup.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_json(self))
        return path

    @classmethod
    def load(cls, path: Path) -> "CapacityCard":
        """One card from its file; raises ConfigurationError for what is none."""
        try:
            card = msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigurationError(f"{path} is no capacity card: {error}") from error
        if card.slots < 1:
            raise ConfigurationError(f"{path}: slots is {card.slots}; it must be at least 1")
        return card


def folder(home: Path) -> Path:
    return home / "capacity"


def setup(deployment: Deployment) -> Setup:
    """The set-up of a deployment's replicas. CPUs tell only where there is no GPU."""
    model, resources = deployment.model, deployment.resources
    return Setup(
        model=model.id if model else deployment.name,
        engine=deployment.engine,
        precision=model.precision if model else "",
        arguments=arguments(deployment),
        gpu_type=resources.gpu_type if resources.gpus else "",
        gpus=resources.gpus,
        nodes=resources.nodes,
        cpus=0 if resources.gpus else resources.cpus,
    )


def arguments(deployment: Deployment) -> dict[str, str]:
    """The engine's arguments as a replica gets them: the deployment's before its model's, keys with `_`."""
    given = {**(deployment.model.arguments if deployment.model else {}), **deployment.arguments}
    return {key.replace("-", "_"): value for key, value in given.items()}


def slots(deployment: Deployment, card: CapacityCard | None) -> int:
    """Parallel requests of one replica, at least 1: what the card found, else what the engine's arguments say."""
    if card is not None:
        return card.slots
    name, default = SLOTS.get(deployment.engine, ("", OF_AN_UNKNOWN_ENGINE))
    text = arguments(deployment).get(name, "")
    return max(1, int(text)) if text.isdecimal() and len(text) < 10 else default


def _differences(mine: Setup, other: Setup) -> Iterator[str]:
    for name in {*mine.arguments, *other.arguments}:
        if mine.arguments.get(name) != other.arguments.get(name):
            yield name
    for name in ("precision", "gpu_type", "gpus", "nodes", "cpus"):
        if getattr(mine, name) != getattr(other, name):
            yield name


class Cards:
    """The cards of an ENGINE_HOME, in memory; `refresh` reads the folder and blocks, `find` does not."""

    def __init__(self, home: Path) -> None:
        self._folder = folder(home)
        self._cards: dict[str, CapacityCard] = {}
        self._seen: dict[str, int] = {}

    def find(self, deployment: Deployment) -> CapacityCard | None:
        return self._cards.get(setup(deployment).file_name)

    def slots(self, deployment: Deployment) -> int:
        return slots(deployment, self.find(deployment))

    def ignored(self, deployment: Deployment) -> str:
        """In words, that there are cards of this model and engine, but of another set-up only; else empty."""
        mine = setup(deployment)
        others = [c for c in self.all() if (c.setup.model, c.setup.engine) == (mine.model, mine.engine)]
        if not others or self.find(deployment) is not None:
            return ""
        unlike = sorted({difference for card in others for difference in _differences(mine, card.setup)})
        return f"a capacity card of another set-up is ignored ({', '.join(unlike)} differ); `engine bench saturate`"

    def max_conns(self, deployment: Deployment) -> int:
        """How many requests NGINX may give to one replica; 0, which is no bound, without a card.

        NGINX has no queue: who comes above the bound is refused. So some may wait in the replica's own.
        """
        card = self.find(deployment)
        return QUEUED_IN_REPLICA * card.slots if card else 0

    def all(self) -> tuple[CapacityCard, ...]:
        return tuple(self._cards.values())

    def refresh(self) -> None:
        """Reads what is new; a file that is no card is told once and left aside."""
        found = dict(self._files())
        cards = {name: card for name, card in self._cards.items() if name in found}
        for name in (name for name in found if found[name] != self._seen.get(name)):
            cards.pop(name, None)
            try:
                cards[name] = CapacityCard.load(self._folder / name)
            except ConfigurationError as error:
                log.warning("%s", error)
        self._cards, self._seen = cards, found

    def _files(self) -> Iterator[tuple[str, int]]:
        for path in self._folder.glob("[!.]*.json"):
            with suppress(FileNotFoundError):
                yield path.name, path.stat().st_mtime_ns
