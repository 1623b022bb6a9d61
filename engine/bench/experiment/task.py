"""What is asked in a sweep: the paper's task, or a file's."""

import itertools
from typing import Any

import msgspec

from engine.bench.load.prompts import Prompts, Task
from engine.errors import ConfigurationError

PROMPT_TOKENS = 1024
MAX_TOKENS = 256
ORDER = "Translate the following text from Latin to English."
# The filler text of typesetters since the 1960s, cut from Cicero, De finibus bonorum et malorum (45 BC).
LOREM = (
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore "
    "magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo "
    "consequat. Duis aute irure dolor in reprehenderit in voluptate velit esse cillum dolore eu fugiat nulla pariatur. "
    "Excepteur sint occaecat cupidatat non proident, sunt in culpa qui officia deserunt mollit anim id est laborum."
)
# Engines that can be told to go on to max_tokens, so that all jobs are alike, as in the paper.
IGNORES_EOS = frozenset({"vllm", "sglang", "llamacpp"})


class TaskFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A task as people write it, in JSON: OpenAI's `messages` or `prompt`, and further fields of the request.

    `prompt_tokens` lets a text grow, by repetition, until the server counts so many.
    """

    messages: list[dict[str, Any]] = []
    prompt: str = ""
    max_tokens: int | None = None
    temperature: float | None = 0.0
    parameters: dict[str, Any] = {}
    shared_prefix: bool = False
    prompt_tokens: int | None = None


def task_file(given: dict[str, Any]) -> TaskFile:
    """Raises ConfigurationError for what is none; an empty one is the paper's task."""
    try:
        found = msgspec.convert(given, TaskFile)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"the task is wrong: {error}") from error
    if found.messages and found.prompt:
        raise ConfigurationError("the task has both `messages` and `prompt`; give one of them")
    return found


def prompts(given: dict[str, Any], model: str, engine: str, stream: bool, words: int, context: int | None) -> Prompts:
    """Bodies of the task for a deployment; `words` is the length of the paper's text, where it is that."""
    file = task_file(given)
    papers = not file.messages and not file.prompt
    most = file.max_tokens or (MAX_TOKENS if papers else None)
    more = {"ignore_eos": True} if papers and engine in IGNORES_EOS else {}
    task = Task(
        model=model,
        messages=({"role": "user", "content": _lorem(words)},) if papers else tuple(file.messages),
        prompt=file.prompt,
        max_tokens=min(most, max(1, context // 4)) if most and papers and context else most,
        temperature=file.temperature,
        stream=stream,
        parameters=tuple({**more, **file.parameters}.items()),
    )
    return Prompts(task, "shared" if file.shared_prefix else "unique")


def prompt_tokens(given: dict[str, Any], context: int | None) -> int | None:
    """How many tokens a prompt shall have: the paper's 1024, or half the context where that is less; None: as it is."""
    file = task_file(given)
    if file.messages or file.prompt:
        return None
    return min(file.prompt_tokens or PROMPT_TOKENS, (context or 1 << 30) // 2)


def words_for(wanted: int, words: int, counted: int, fixed: int = 12) -> int:
    """How many words make `wanted` tokens, when `words` made `counted`; `fixed` tokens belong to the rest."""
    per_word = max(0.25, (counted - fixed) / words)
    return max(1, round((wanted - fixed) / per_word))


def _lorem(words: int) -> str:
    return f"{ORDER}\n\n{' '.join(itertools.islice(itertools.cycle(LOREM.split()), words))}"
