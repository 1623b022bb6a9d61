"""What is before the tribunal, the steps that it takes, and its verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from engine.errors import ConfigurationError
from engine.workflows.complete import Usage, plain
from engine.workflows.findings import Finding
from engine.workflows.laws import LawSet

MOST_ROUNDS = 20
MOST_JUDGES = 16
Message = dict[str, Any]
Ended = Literal["kept", "max_rounds", "no_room", "no_judgement", "revision_failed", "bypassed"]


@dataclass(frozen=True)
class Case:
    """What is before the tribunal.

    `judges` are names of models; none: the model judges itself. With `jury` "turns" each law has one judge, and the
    judges take turns over laws and rounds; with "all" each judges each law, and one who finds it violated is enough.
    `parameters` (temperature, max_tokens, …) are for the answers, not for the judges. A `draft` is judged in place of
    a first answer of the model.
    """

    model: str
    messages: Sequence[Message]
    laws: LawSet
    max_rounds: int = 3
    judges: Sequence[str] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    jury: Literal["turns", "all"] = "turns"
    judge_tokens: int = 512
    draft: str | None = None

    def __post_init__(self) -> None:
        if not self.messages or not any(plain(message.get("content")).strip() for message in self.messages):
            raise ConfigurationError("messages hold no text; there is nothing to answer")
        if not self.laws.laws:
            raise ConfigurationError(f"the set of laws {self.laws.name!r} holds no law")
        if not 1 <= self.max_rounds <= MOST_ROUNDS:
            raise ConfigurationError(f"max_rounds is {self.max_rounds}; it must be 1 to {MOST_ROUNDS}")
        if len(self.judges) > MOST_JUDGES:
            raise ConfigurationError(f"there are {len(self.judges)} judges; at most {MOST_JUDGES} may sit")
        if self.parameters.get("tools") or self.parameters.get("functions"):
            raise ConfigurationError("the tribunal judges texts; it takes no tools")


@dataclass(frozen=True)
class Draft:
    """The first answer. Rounds count from 1."""

    text: str
    round: int = 1

    def as_json(self) -> dict[str, Any]:
        return {"step": "draft", **asdict(self)}


@dataclass(frozen=True)
class Judged:
    finding: Finding
    round: int

    def as_json(self) -> dict[str, Any]:
        return {"step": "judged", "round": self.round, "finding": self.finding.as_json()}


@dataclass(frozen=True)
class Revision:
    """The answer that is judged in `round`."""

    text: str
    round: int

    def as_json(self) -> dict[str, Any]:
        return {"step": "revision", **asdict(self)}


@dataclass(frozen=True)
class Round:
    """A draft and what was found about it, in the order of the laws."""

    draft: str
    findings: tuple[Finding, ...]

    @property
    def violated(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.violated)

    @property
    def unjudged(self) -> frozenset[str]:
        judged = {finding.law for finding in self.findings if finding.violated is not None}
        return frozenset(finding.law for finding in self.findings) - judged

    def as_json(self) -> dict[str, Any]:
        return {"draft": self.draft, "findings": [finding.as_json() for finding in self.findings]}


@dataclass(frozen=True)
class Verdict:
    """The last step. `accepted` is None when bypassed; `answer` then is the model's own, made without laws.

    A rejected answer is the draft that violates the fewest laws, of equals the later one. `ended` says why the debate
    ended: the laws are "kept", "max_rounds", "no_room" for another round, "no_judgement" of some law while none is
    violated, "revision_failed" (`error` says how), or "bypassed".
    """

    accepted: bool | None
    answer: str
    rounds: tuple[Round, ...]
    usage: Usage
    bypassed: Literal["peak"] | None
    ended: Ended
    laws: LawSet
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "step": "verdict",
            "accepted": self.accepted,
            "answer": self.answer,
            "bypassed": self.bypassed,
            "ended": self.ended,
            "error": self.error,
            "laws": {"name": self.laws.name, "hash": self.laws.hash},
            "rounds": [one.as_json() for one in self.rounds],
            "usage": self.usage.as_json(),
        }


Step = Draft | Judged | Revision | Verdict
