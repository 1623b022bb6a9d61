"""The choice of models as it is offered: name, ability and how busy it is. Pure."""

from collections.abc import Sequence

from apps.chatbot.texts import Texts, texts
from rag.answer.models import Model
from rag.answer.states import Language


def choices(models: Sequence[Model], language: Language) -> list[tuple[str, str]]:
    """Label and value for each; the first one, with an empty value, leaves it to us."""
    say = texts(language)
    return [(say("automatic"), ""), *((_label(model, say), model.name) for model in models)]


def _label(model: Model, say: Texts) -> str:
    known = [("toy", model.toy), ("simulated", model.simulated), ("sees", model.vision)]
    told = [say(name) for name, is_so in known if is_so]
    return " · ".join([model.name, *told, _load(model, say)])


def _load(model: Model, say: Texts) -> str:
    if not model.ready:
        return say("starts")
    if model.queued:
        return say("waiting", n=model.queued)
    return say("busy") if model.busy >= 0.8 else say("idle")
