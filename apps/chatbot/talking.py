"""What happens when somebody asks, retries, edits, stops: from what Gradio gives to what it is to show.

Nothing of a conversation outlives its event on the server, but for the files of the last questions, an hour.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gradio as gr
import nh3

from apps.chatbot import feedback, files, history, rendering
from apps.chatbot.asking import Asking
from apps.chatbot.files import Attached, BadFile
from apps.chatbot.history import Kept, Turn
from apps.chatbot.markup import ours
from apps.chatbot.modelchoice import choices
from apps.chatbot.pace import Pace
from apps.chatbot.recognition import recognised
from apps.chatbot.texts import texts
from apps.chatbot.view import View, after
from engine.errors import EngineError
from rag.answer.states import Failed, Language
from rag.answer.turn import Turns

# Of so many questions the files stay at hand, to ask them again.
FILES_OF_TURNS = 3
FILES_AT_ONCE = 2
MODELS_TIMEOUT_S = 3.0

Update = dict[str, Any]
EMPTY = {"text": "", "files": []}
READY = gr.update(submit_btn=True, stop_btn=False)


class Talk:
    """Updates are dictionaries by the names of Screen's parts; app makes Gradio's of them."""

    def __init__(self, turns: Turns, pace: Pace, client: Any) -> None:
        self._turns, self._pace, self._client = turns, pace, client
        # They wait here, and not in the threads that the searches of all chats share.
        self._recognising, self._opening = asyncio.Semaphore(1), asyncio.Semaphore(FILES_AT_ONCE)

    async def send(
        self, message: Any, stored: Any, model: str, tribunal: bool, language: Language, attached: dict[str, Attached]
    ) -> AsyncGenerator[Update, None]:
        """A new question, perhaps with files."""
        kept = history.read(stored)
        text, paths = _typed(message)
        if not text and not paths:
            return
        say = texts(language)
        if len(paths) > files.MOST_FILES:
            gr.Warning(say("too_many", n=files.MOST_FILES))
        try:
            async with self._opening:
                given = await asyncio.to_thread(files.read, paths)
        except BadFile as error:
            gr.Warning(say(error.why, name=error.name))
            return
        names = tuple(path.name for path in paths[: files.MOST_FILES])
        asking = Asking(kept, text, given, names, model, tribunal, language)
        async for update in self._answered(asking, attached):
            yield update

    async def again(
        self,
        index: int,
        text: str | None,
        stored: Any,
        model: str,
        tribunal: bool,
        language: Language,
        attached: dict[str, Attached],
        read_pictures: bool = False,
    ) -> AsyncGenerator[Update, None]:
        """Turn `index` once more, with another text where one is given; what came after it goes.

        With `read_pictures` its pictures are given as the text that is recognised in them.
        """
        kept = history.read(stored)
        if not 0 <= index < len(kept.chat.turns):
            return
        turn = kept.chat.turns[index]
        given = (attached or {}).get(_place(kept, index), Attached())
        asking = Asking(kept.cut(index), text or turn.question, given, turn.files, model, tribunal, language)
        if read_pictures and not await self._read_pictures(asking):
            return
        async for update in self._answered(asking, attached):
            yield update

    async def last_again(self, stored: Any, *rest: Any, **more: Any) -> AsyncGenerator[Update, None]:
        last = len(history.read(stored).chat.turns) - 1
        async for update in self.again(last, None, stored, *rest, **more):
            yield update

    def stopped(self, shown: Any, stored: Any, language: Language) -> Update:
        """What had been written when somebody stopped it is kept as the turn's answer."""
        kept = history.read(stored)
        messages = [(one.get("role"), _plain(one.get("content"))) for one in shown or [] if isinstance(one, dict)]
        if len(messages) < 2 * len(kept.chat.turns) + 2:
            return {}
        (_, question), (_, html) = messages[-2:]
        note = f'<p class="note">{texts(language)("stopped")}</p>'
        html = ours(f"{html.replace(' busy', '', 1).removesuffix('</div>')}{note}</div>")
        said = nh3.clean(html, tags=set()).strip()
        kept = kept.with_turn(Turn(question, html, said, language=language))
        return {"chat": kept.chat.messages(), "kept": kept.as_json(), "chats": _titles(kept), "box": READY}

    async def _read_pictures(self, asking: Asking) -> bool:
        """The pictures' text takes their place; False where there is none."""
        async with self._recognising:
            asking.recognised = await recognised(asking.given.pictures)
        if not asking.recognised:
            gr.Warning(texts(asking.language)("nothing_recognised"))
        return bool(asking.recognised)

    async def _answered(self, asking: Asking, attached: dict[str, Attached]) -> AsyncGenerator[Update, None]:
        kept, before = asking.kept, asking.kept.chat.messages()
        mine = {"role": "user", "content": history.asked(asking.text, asking.names)}
        view = View(asking.language)
        first: Update = {"box": gr.update(value=EMPTY, submit_btn=False, stop_btn=True)}
        drawn = ""
        async with aclosing(self._pace.paced(self._views(asking))) as views:
            async for view in views:
                html = rendering.message(view, asking.language)
                if not view.ended and html != drawn:
                    yield {**first, "chat": [*before, mine, {"role": "assistant", "content": html}]}
                    first, drawn = {}, html
        turn = asking.turn(view)
        kept = kept.with_turn(turn)
        if asking.given != Attached():
            place = _place(kept, len(kept.chat.turns) - 1)
            attached = dict([*(attached or {}).items(), (place, asking.given)][-FILES_OF_TURNS:])
        yield {
            "chat": kept.chat.messages(),
            "box": READY,
            "kept": kept.as_json(),
            "outcome": {"chats": _titles(kept), **self._offers(view, asking), "attached": attached},
        }
        if view.refused:
            await feedback.refused(self._client, view.refused)

    async def _views(self, asking: Asking) -> AsyncGenerator[View, None]:
        view = View(asking.language, recognised=asking.recognised)
        yield view
        async with aclosing(self._turns.ask(asking.question)) as states:
            async for state in states:
                view = after(view, state)
                yield view

    def _offers(self, view: View, asking: Asking) -> Update:
        """What can be done about what went wrong: once more, a model that sees, text recognition."""
        failed: Failed | None = view.failed
        say, offer = texts(asking.language), failed.offer if failed else ""
        pictures = bool(asking.given.pictures)
        return {
            "offers": gr.update(visible=failed is not None and (failed.retryable or pictures)),
            "again": gr.update(visible=failed is not None and failed.retryable),
            "see": gr.update(visible=bool(offer), value=say("see_with", model=offer) if offer else ""),
            "recognise": gr.update(visible=failed is not None and failed.kind == "blind" and pictures),
        }

    async def model_choice(self, chosen: str, language: Language) -> Update:
        """The models with their load as it is now; nothing where the gateway does not answer."""
        try:
            async with asyncio.timeout(MODELS_TIMEOUT_S):
                rows = choices(await self._turns.models(), language)
        except (EngineError, TimeoutError):
            return {}
        return {"model": gr.update(choices=rows, value=chosen if chosen in {value for _, value in rows} else "")}

    async def seeing(self, language: Language) -> str:
        """The model to show a picture to; empty where there is none."""
        from rag.answer.models import default

        found = default([one for one in await self._turns.models() if one.ready], language, sees=True)
        return found.name if found else ""

    def opened(self, stored: Any, id: str) -> Update:
        kept = history.read(stored).opened(id)
        return {
            "chat": kept.chat.messages(),
            "kept": kept.as_json(),
            "chats": _titles(kept),
            "offers": gr.update(visible=False),
        }


def _titles(kept: Kept) -> Any:
    titles = [(chat.title, chat.id) for chat in kept.chats]
    return gr.update(choices=titles, value=kept.current or None, visible=bool(titles))


def _place(kept: Kept, index: int) -> str:
    return f"{kept.chat.id}/{index}"


def _typed(message: Any) -> tuple[str, list[Path]]:
    """Text and files of a MultimodalTextbox; a plain text from a program."""
    if isinstance(message, str):
        return message.strip(), []
    given = message or {}
    return str(given.get("text") or "").strip(), [Path(one) for one in given.get("files") or []]


def _plain(content: Any) -> str:
    """A message's text: as parts from the browser, as plain text from programs."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(str(part.get("text", "")) if isinstance(part, dict) else str(part) for part in parts if part)
