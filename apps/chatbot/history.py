"""Conversations as the browser keeps them; what comes from there is checked, for anybody can write into its storage.

Pure. Nothing of a conversation is kept on the server.
"""

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from apps.chatbot.markup import ours
from rag.answer.states import Past

MOST_CHATS = 30
MOST_TURNS = 40
# A browser gives 5 MB to a site; this also travels to the server with each question.
MOST_CHARACTERS = 400_000
TITLE_CHARACTERS = 60


@dataclass(frozen=True)
class Turn:
    """`html` is the answer as it was drawn, `said` its words, `sources` the addresses that it cited."""

    question: str
    html: str
    said: str = ""
    searched: str = ""
    language: str = "de"
    files: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return len(self.question) + len(self.html) + len(self.said) + len(self.searched)


@dataclass(frozen=True)
class Chat:
    id: str
    turns: tuple[Turn, ...] = ()

    @property
    def title(self) -> str:
        text = " ".join(self.turns[0].question.split()) if self.turns else ""
        return text if len(text) <= TITLE_CHARACTERS else text[:TITLE_CHARACTERS].rsplit(" ", 1)[0] + " …"

    @property
    def past(self) -> tuple[Past, ...]:
        """For the next question: refused and failed turns count, too, for a follow-up may hang on their question."""
        return tuple(Past(turn.searched or turn.question, turn.said) for turn in self.turns[-4:])

    def messages(self) -> list[dict[str, Any]]:
        """As Gradio's Chatbot takes them: two a turn."""
        found: list[dict[str, Any]] = []
        for turn in self.turns:
            found.append({"role": "user", "content": asked(turn.question, turn.files)})
            found.append({"role": "assistant", "content": turn.html})
        return found


def asked(question: str, files: Sequence[str]) -> str:
    """What stands in the asker's bubble."""
    return "\n\n".join(filter(None, [question, " · ".join(f"`{name}`" for name in files)])) or "…"


@dataclass(frozen=True)
class Kept:
    """All conversations, the latest first; `current` is the one on the screen, empty for a new one."""

    chats: tuple[Chat, ...] = ()
    current: str = ""

    @property
    def chat(self) -> Chat:
        return next((chat for chat in self.chats if chat.id == self.current), Chat(secrets.token_hex(6)))

    def with_turn(self, turn: Turn) -> "Kept":
        return self.with_chat(replace(self.chat, turns=(*self.chat.turns, turn)[-MOST_TURNS:]))

    def with_chat(self, chat: Chat) -> "Kept":
        """That conversation first and on the screen; the oldest ones go where there are too many."""
        others = tuple(one for one in self.chats if one.id != chat.id)
        return replace(_small(Kept((chat, *others)[:MOST_CHATS])), current=chat.id)

    def cut(self, turns: int) -> "Kept":
        """The conversation with its first turns only, to ask the next one anew."""
        return self.with_chat(replace(self.chat, turns=self.chat.turns[:turns]))

    def opened(self, id: str) -> "Kept":
        return replace(self, current=id)

    def as_json(self) -> dict[str, Any]:
        return {"version": 1, **asdict(self)}


def _small(kept: Kept) -> Kept:
    """The oldest conversations, then the first turns of the one that is left, go until the rest fits."""
    chats = list(kept.chats)
    size = sum(turn.size for chat in chats for turn in chat.turns)
    while size > MOST_CHARACTERS and len(chats) > 1:
        size -= sum(turn.size for turn in chats.pop().turns)
    while size > MOST_CHARACTERS and len(chats[0].turns) > 1:
        size -= chats[0].turns[0].size
        chats[0] = replace(chats[0], turns=chats[0].turns[1:])
    return Kept(tuple(chats))


def read(stored: Any) -> Kept:
    """What a browser sends; whatever in it has another form is left out."""
    if not isinstance(stored, dict) or stored.get("version") != 1:
        return Kept()
    rows = stored.get("chats")
    chats = [chat for row in (rows if isinstance(rows, list | tuple) else [])[:MOST_CHATS] if (chat := _chat(row))]
    return Kept(tuple(chats), _text(stored.get("current"), 40))


def _chat(row: Any) -> Chat | None:
    if not isinstance(row, dict) or not isinstance(row.get("turns"), list | tuple):
        return None
    turns = tuple(_turn(one) for one in row["turns"][-MOST_TURNS:] if isinstance(one, dict))
    id = _text(row.get("id"), 40)
    return Chat(id, turns) if id and turns else None


def _turn(row: dict[str, Any]) -> Turn:
    return Turn(
        question=_text(row.get("question"), 20_000),
        html=ours(_text(row.get("html"), 200_000)),
        said=_text(row.get("said"), 20_000),
        searched=_text(row.get("searched"), 2_000),
        language="en" if row.get("language") == "en" else "de",
        files=_texts(row.get("files")),
        sources=_texts(row.get("sources")),
    )


def _text(value: Any, most: int) -> str:
    return value[:most] if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return (
        tuple(_text(one, 500) for one in value[:20] if isinstance(one, str)) if isinstance(value, list | tuple) else ()
    )
