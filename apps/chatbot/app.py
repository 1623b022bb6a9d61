"""The Gradio app: the screen's parts wired to what they do. Importing it starts nothing."""

from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime
from typing import Any

import gradio as gr

from apps.chatbot import feedback, screen
from apps.chatbot.pace import Pace
from apps.chatbot.screen import Screen, in_language
from apps.chatbot.talking import Talk, Update
from apps.chatbot.texts import of_browser, texts
from rag.answer.states import Language
from rag.answer.turn import Finds, Turns
from rag.answer.writing import Asks

# Chats that are answered at once, and those that may wait for it; beyond that Gradio says that it is full.
AT_ONCE = 100
WAITING = 400
# Uploads and pictures are on disk for so long, looked at as often (seconds).
UPLOADS_S = (600, 3600)


def build_app(
    client: Asks,
    retriever: Finds,
    *,
    now: Callable[[], datetime] = datetime.now,
    university: str = "",
    pace: Pace | None = None,
    is_sample: Callable[[], bool] = lambda: False,
) -> gr.Blocks:
    """The chatbot on a gateway (engine.client's AsyncEngineClient) and an index (rag.retrieve's Retriever).

    `is_sample` tells whether the index is of made-up pages; the screen says so.
    """
    talk = Talk(Turns(client, retriever, now, university), pace or Pace(), client)
    say = texts("de")
    app: gr.Blocks
    with gr.Blocks(
        title=say("title"), analytics_enabled=False, fill_height=True, fill_width=True, delete_cache=UPLOADS_S
    ) as app:
        parts = screen.draw("de")
        _wire_talk(app, parts, talk)
        _wire_feedback(parts, client)
        _wire_side(app, parts, talk, is_sample)
    app.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE, api_open=False)
    return app


class Wire:
    """Turns updates by name into Gradio's updates by part."""

    def __init__(self, parts: Screen) -> None:
        self._parts = parts

    def of(self, update: Update) -> dict[Any, Any]:
        return {getattr(self._parts, name): value for name, value in update.items()}

    async def each(self, updates: AsyncGenerator[Update, None]) -> AsyncGenerator[dict[Any, Any], None]:
        async for update in updates:
            yield self.of(update)


def _wire_talk(app: gr.Blocks, parts: Screen, talk: Talk) -> None:
    wire = Wire(parts)
    asked = [parts.kept, parts.model, parts.tribunal, parts.language, parts.attached]
    # Gradio makes each output anew at every drawing, changed or not: what changes at the end is another event's.
    drawn = [parts.chat, parts.box, parts.kept, parts.outcome]
    settled = [parts.outcome, parts.attached, parts.chats, parts.offers]
    settled += [parts.again, parts.see, parts.recognise]

    async def send(message: Any, *rest: Any) -> AsyncGenerator[dict[Any, Any], None]:
        async for update in wire.each(talk.send(message, *rest)):
            yield update

    async def example(data: gr.SelectData, *rest: Any) -> AsyncGenerator[dict[Any, Any], None]:
        async for update in wire.each(talk.send(data.value, *rest)):
            yield update

    async def retry(data: gr.RetryData, *rest: Any) -> AsyncGenerator[dict[Any, Any], None]:
        async for update in wire.each(talk.again(_turn(data.index), None, *rest)):
            yield update

    async def edit(data: gr.EditData, *rest: Any) -> AsyncGenerator[dict[Any, Any], None]:
        async for update in wire.each(talk.again(_turn(data.index), _edited(data.value), *rest)):
            yield update

    async def again(*rest: Any) -> AsyncGenerator[dict[Any, Any], None]:
        async for update in wire.each(talk.last_again(*rest)):
            yield update

    async def see(stored: Any, _: str, tribunal: bool, language: Language, files: Any) -> AsyncGenerator[Any, None]:
        model = await talk.seeing(language)
        async for update in wire.each(talk.last_again(stored, model, tribunal, language, files)):
            yield update

    async def recognise(*rest: Any) -> AsyncGenerator[dict[Any, Any], None]:
        async for update in wire.each(talk.last_again(*rest, read_pictures=True)):
            yield update

    def settle(outcome: Update | None) -> dict[Any, Any]:
        return {**wire.of(outcome or {}), parts.outcome: None}

    each: dict[str, Any] = {"outputs": drawn, "show_progress": "hidden", "concurrency_limit": AT_ONCE}
    running = [
        parts.box.submit(send, [parts.box, *asked], api_name="ask", **each),
        parts.chat.example_select(example, asked, api_name=False, **each),
        parts.chat.retry(retry, asked, api_name=False, **each),
        parts.chat.edit(edit, asked, api_name=False, **each),
        parts.again.click(again, asked, api_name=False, **each),
        parts.see.click(see, asked, api_name=False, **each),
        parts.recognise.click(recognise, asked, api_name=False, **each),
    ]

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_name": False, "concurrency_limit": AT_ONCE}
    for event in running:
        event.then(settle, parts.outcome, settled, **quiet)

    def stop(*given: Any) -> dict[Any, Any]:
        return wire.of(talk.stopped(*given))

    stopping = [parts.chat, parts.kept, parts.language]
    # First the answer ends, then what is there of it is kept: the other way round it would go on being written.
    stopped = parts.box.stop(None, None, None, cancels=running, api_name=False)
    stopped.then(stop, stopping, [parts.chat, parts.box, parts.kept, parts.chats], **quiet)


def _wire_side(app: gr.Blocks, parts: Screen, talk: Talk, is_sample: Callable[[], bool]) -> None:
    wire = Wire(parts)
    shown = [parts.chat, parts.kept, parts.chats, parts.offers]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_name": False, "concurrency_limit": AT_ONCE}

    async def begin(stored: Any, chosen: str, request: gr.Request) -> list[Any]:
        browsers = of_browser(request.headers.get("accept-language", ""))
        language: Language = "de" if chosen == "de" else "en" if chosen == "en" else browsers
        opened = wire.of(talk.opened(stored, (stored or {}).get("current", "") if isinstance(stored, dict) else ""))
        model = wire.of(await talk.model_choice("", language))
        return [
            *in_language(language, is_sample()),
            *(opened.get(part, gr.skip()) for part in shown),
            model.get(parts.model, gr.skip()),
        ]

    def switch(language: Language) -> list[Any]:
        return [*in_language(language, is_sample()), language]

    def new(stored: Any) -> dict[Any, Any]:
        return wire.of(talk.opened(stored, ""))

    def choose(id: str, stored: Any) -> dict[Any, Any]:
        return wire.of(talk.opened(stored, id))

    def forget() -> dict[Any, Any]:
        return wire.of(talk.opened(None, ""))

    async def fresh(model: str, language: Language) -> Any:
        return wire.of(await talk.model_choice(model, language)).get(parts.model, gr.skip())

    app.load(begin, [parts.kept, parts.chosen_language], [*parts.worded, *shown, parts.model], **quiet).then(
        None, parts.switch, None, js="(language) => window.campus.speak(language)"
    )
    parts.switch.input(switch, parts.switch, [*parts.worded, parts.chosen_language], **quiet).then(
        None, parts.switch, None, js="(language) => window.campus.speak(language)"
    )
    parts.new.click(new, parts.kept, shown, **quiet)
    parts.chats.input(choose, [parts.chats, parts.kept], shown, **quiet)
    parts.forget.click(forget, None, shown, **quiet)
    parts.model.focus(fresh, [parts.model, parts.language], parts.model, **quiet)


def _wire_feedback(parts: Screen, client: Any) -> None:
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_name": False, "concurrency_limit": AT_ONCE}
    asked = [parts.disliked, parts.reasons, parts.reason_more, parts.language]
    panel = [parts.disliked, parts.why, parts.reasons, parts.reason_more]
    closed = [None, gr.update(visible=False), None, ""]

    async def like(data: gr.LikeData, stored: Any, language: Language) -> list[Any]:
        said = feedback.about(stored, _turn(data.index))
        if said is None or not isinstance(data.liked, bool):
            return [gr.skip()] * len(panel)
        if not data.liked:
            return [said, gr.update(visible=True), None, ""]
        _tell(await feedback.send(client, "like", said), language)
        return closed

    async def explain(said: Any, reason: str | None, more: str, language: Language) -> list[Any]:
        if said:
            _tell(await feedback.send(client, "dislike", said, reason or "", more), language)
        return closed

    async def skip(said: Any, _: str | None, __: str, language: Language) -> list[Any]:
        return await explain(said, None, "", language)

    parts.chat.like(like, [parts.kept, parts.language], panel, **quiet)
    parts.send_reason.click(explain, asked, panel, **quiet)
    parts.skip_reason.click(skip, asked, panel, **quiet)

    async def unexplained(said: Any) -> list[Any]:
        """A dislike whose reason never came is sent when its asker goes on."""
        if not said:
            return [gr.skip()] * len(panel)
        await feedback.send(client, "dislike", said)
        return closed

    for event in (parts.box.submit, parts.new.click, parts.chats.input):
        event(unexplained, parts.disliked, panel, **quiet)


def _tell(arrived: bool, language: Language) -> None:
    say = texts(language)
    if arrived:
        gr.Info(say("thanks"), duration=3)
    else:
        gr.Warning(say("not_sent"))


def _turn(index: Any) -> int:
    """The turn that a message belongs to: each has two."""
    return int(index[0] if isinstance(index, Sequence) else index) // 2


def _edited(value: Any) -> str:
    return str(value.get("text", "") if isinstance(value, dict) else value or "").strip()
