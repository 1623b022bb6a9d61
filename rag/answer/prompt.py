"""What a model is sent. Passages stand in it as data, between marks that nothing inside them can forge. Pure."""

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from engine.settings import ROOT
from rag.answer.states import Document, Language, Past, Question
from rag.dates import NAMES
from rag.retrieve.passage import Passage

Message = dict[str, Any]
FOLDER = ROOT / "templates" / "prompts"
# Of an unknown tokenizer: German in a small English vocabulary has about this many characters a token.
CHARACTERS_PER_TOKEN = 2.6
# What a model without a known context is taken to have.
CONTEXT = 4096
PICTURE_TOKENS = 600
SHORTEST_PASSAGE = 300
PAST_CHARACTERS = 600
# Zero-width and direction marks, in which orders can be hidden, and control characters.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\U000e0000-\U000e007f]"
)
_MARK = re.compile(r"<\s*/?\s*(?:passage|file|conversation|question|system|assistant|user)\b[^<>]{0,200}>", re.I)
_TURN = re.compile(r"<\|[^|<>]{0,40}\|>|\[/?INST\]|<</?SYS>>|</?s>", re.I)


@dataclass(frozen=True)
class Prompt:
    """`passages` are those that fit, perhaps shortened; number n of the prompt is `passages[n - 1]`."""

    messages: list[Message]
    passages: tuple[Passage, ...]
    max_tokens: int


def in_words(day: date, language: Language) -> str:
    month = NAMES[language][day.month - 1]
    return f"{day.day}. {month} {day.year}" if language == "de" else f"{day.day} {month} {day.year}"


def estimated_tokens(text: str) -> int:
    return int(len(text) / CHARACTERS_PER_TOKEN) + 1


def answer_tokens(context: int) -> int:
    """How long an answer may be: a quarter of the context, at most 800 tokens."""
    return min(800, (context or CONTEXT) // 4)


def build(
    question: Question,
    passages: Sequence[Passage],
    language: Language,
    *,
    context: int,
    today: date,
    university: str = "",
    documents: Sequence[Document] = (),
    folder: Path = FOLDER,
) -> Prompt:
    """Messages that fit a context of so many tokens: of the passages as many as fit, the last one shortened."""
    context = context or CONTEXT
    answer = answer_tokens(context)
    system = render(
        f"chatbot-{language}",
        folder,
        today=in_words(today, language),
        university=university,
        passages=bool(passages),
        documents=bool(documents),
    )
    past = _past(question.past, context)
    taken = system + question.text + "".join(str(message["content"]) for message in past)
    taken += "".join(document.text for document in documents)
    room = context - answer - estimated_tokens(taken) - 64 - PICTURE_TOKENS * len(question.pictures)
    fitting = fit(passages, int(room * CHARACTERS_PER_TOKEN))
    text = render("chatbot-question", folder, passages=fitting, documents=documents, question=scrubbed(question.text))
    content: Any = text
    if question.pictures:
        pictures = [{"type": "image_url", "image_url": {"url": url}} for url in question.pictures]
        content = [{"type": "text", "text": text}, *pictures]
    messages = [{"role": "system", "content": system}, *past, {"role": "user", "content": content}]
    return Prompt(messages, tuple(fitting), answer)


def fit(passages: Sequence[Passage], characters: int) -> list[Passage]:
    """The first passages that fit; at least one, however short it must become."""
    found: list[Passage] = []
    for passage in passages:
        left = characters - sum(map(_length, found))
        if found and left < SHORTEST_PASSAGE:
            break
        over = _length(passage) - left
        if over > 0:
            short = passage.text[: max(SHORTEST_PASSAGE, len(passage.text) - over)].rsplit(" ", 1)[0] + " …"
            return [*found, replace(passage, text=short)]
        found.append(passage)
    return found


def rewriting(question: str, past: Sequence[Past], folder: Path = FOLDER) -> list[Message]:
    """Messages that ask a model to make a follow-up stand by itself."""
    told = "\n".join(f"student: {one.question}\nassistant: {one.answer[:400]}" for one in past[-2:])
    return [{"role": "user", "content": render("chatbot-rewrite", folder, conversation=told, question=question)}]


def render(name: str, folder: Path = FOLDER, **values: Any) -> str:
    return _environment(folder).get_template(f"{name}.j2").render(**values).strip()


def scrubbed(text: str) -> str:
    """Without what could pass for a mark of ours or for a turn of a chat, and without invisible characters."""
    text = _INVISIBLE.sub("", text)
    return _TURN.sub(" ", _MARK.sub(" ", text)).strip()


def quoted_text(text: str, what: str, **attributes: str) -> str:
    text = scrubbed(text)
    mark = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]
    while mark in text:
        mark = hashlib.sha256(mark.encode()).hexdigest()[:12]
    told = "".join(f' {name}="{_attribute(value)}"' for name, value in attributes.items() if value)
    return f'<{what} id="{mark}"{told}>\n{text}\n</{what} id="{mark}">'


def quoted_passage(passage: Passage, number: int) -> str:
    where = " > ".join((passage.title, *passage.heading_path))
    day = passage.date.isoformat() if passage.date else ""
    return quoted_text(passage.text, "passage", number=str(number), page=where, date=day)


def _past(past: Sequence[Past], context: int) -> list[Message]:
    """The last two turns, shortened; a small context has room for none of them."""
    if context < 3000:
        return []
    told: list[Message] = []
    for one in past[-2:]:
        told.append({"role": "user", "content": one.question[:PAST_CHARACTERS]})
        told.append({"role": "assistant", "content": one.answer[:PAST_CHARACTERS] or "…"})
    return told


def _length(passage: Passage) -> int:
    return len(passage.text) + len(passage.title) + sum(map(len, passage.heading_path)) + 110


def _attribute(value: str) -> str:
    return re.sub(r"[<>\"\n\r]", " ", scrubbed(value))[:200]


def _quoted_file(document: Document) -> str:
    return quoted_text(document.text, "file", name=document.name)


@functools.cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(quoted=quoted_passage, quoted_file=_quoted_file, quoted_text=quoted_text)
    return environment
