"""The screen: which parts it has and how they lie. What they do is wired in app; every word is from texts."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from apps.chatbot import files
from apps.chatbot.texts import EXAMPLES, Texts, texts
from rag.answer.states import Language

# Not secrets: they only have to stay the same, so that what a browser keeps survives a restart of this program.
STORAGE_KEY, STORAGE_SECRET = "campus-assistant-chats", "kept-in-this-browser"
LANGUAGE_KEY = "campus-assistant-language"
LANGUAGES = [("Deutsch", "de"), ("English", "en")]
AUTOMATIC = ""
# What the server holds for a screen that is left behind, in seconds.
FORGOTTEN_S = 3600


@dataclass(frozen=True)
class Screen:
    """All parts that an event reads or changes."""

    kept: Any
    chosen_language: Any
    language: Any
    attached: Any
    disliked: Any
    outcome: Any
    heading: Any
    new: Any
    chats: Any
    model: Any
    tribunal: Any
    switch: Any
    forget: Any
    only_here: Any
    chat: Any
    offers: Any
    again: Any
    see: Any
    recognise: Any
    why: Any
    reasons: Any
    reason_more: Any
    send_reason: Any
    skip_reason: Any
    box: Any
    notice: Any

    @property
    def worded(self) -> list[Any]:
        """The parts that `in_language` changes, in its order."""
        return [
            *(self.heading, self.new, self.chats, self.model, self.tribunal, self.switch, self.forget, self.only_here),
            *(self.chat, self.again, self.recognise, self.reasons, self.reason_more, self.send_reason),
            *(self.skip_reason, self.box, self.notice, self.language),
        ]


def in_language(language: Language, is_sample: bool = False) -> list[Any]:
    """Updates of `Screen.worded`."""
    say = texts(language)
    return [
        heading(say),
        gr.update(value=say("new_chat")),
        gr.update(label=say("chats")),
        gr.update(label=say("model")),
        gr.update(label=say("tribunal"), info=say("tribunal_info")),
        gr.update(label=say("language"), value=language),
        gr.update(value=say("forget")),
        say("only_here"),
        gr.update(label=say("chat_label"), placeholder=welcome(say), examples=examples(language)),
        gr.update(value=say("again")),
        gr.update(value=say("recognise")),
        gr.update(choices=say.reasons, label=say("why"), value=None),
        gr.update(label=say("reason_more")),
        gr.update(value=say("send_reason")),
        gr.update(value=say("skip_reason")),
        gr.update(placeholder=say("ask"), label=say("ask_label")),
        notice(say, is_sample),
        language,
    ]


def heading(say: Texts) -> str:
    return f'<header class="campus"><h1>{say("title")}</h1><p>{say("subtitle")}</p></header>'


def welcome(say: Texts) -> str:
    return f'<div class="welcome"><h2>{say("welcome")}</h2><p>{say("welcome_more")}</p></div>'


def notice(say: Texts, is_sample: bool = False) -> str:
    made_up = f"<strong>{say('sample')}</strong> " if is_sample else ""
    return f'<p class="ai-notice" role="note">{made_up}{say("notice")}</p>'


def examples(language: Language) -> Any:
    return [{"text": text} for text in EXAMPLES[language]]


def draw(language: Language) -> Screen:
    """Inside a `gr.Blocks`: makes the parts."""
    say = texts(language)
    kept = gr.BrowserState(None, storage_key=STORAGE_KEY, secret=STORAGE_SECRET)
    chosen = gr.BrowserState("", storage_key=LANGUAGE_KEY, secret=STORAGE_SECRET)
    spoken, attached = gr.State(language), gr.State({}, time_to_live=FORGOTTEN_S)
    disliked, outcome = gr.State(None, time_to_live=FORGOTTEN_S), gr.State(None, time_to_live=FORGOTTEN_S)
    return Screen(kept, chosen, spoken, attached, disliked, outcome, *_side(say, language), *_middle(say, language))


def _side(say: Texts, language: Language) -> tuple[Any, ...]:
    with gr.Sidebar(open=True, width=290, elem_id="side"):
        title = gr.HTML(heading(say), elem_id="heading")
        new = gr.Button(say("new_chat"), variant="secondary", elem_id="new-chat")
        chats = gr.Radio([], label=say("chats"), elem_id="chats", visible=False)
        model = gr.Dropdown([(say("automatic"), AUTOMATIC)], value=AUTOMATIC, label=say("model"), elem_id="model")
        tribunal = gr.Checkbox(False, label=say("tribunal"), info=say("tribunal_info"), elem_id="tribunal")
        switch = gr.Radio(LANGUAGES, value=language, label=say("language"), elem_id="language")
        forget = gr.Button(say("forget"), variant="secondary", size="sm", elem_id="forget")
        only_here = gr.HTML(say("only_here"), elem_id="only-here")
    return title, new, chats, model, tribunal, switch, forget, only_here


def _middle(say: Texts, language: Language) -> tuple[Any, ...]:
    chat = gr.Chatbot(
        label=say("chat_label"),
        show_label=False,
        placeholder=welcome(say),
        examples=examples(language),
        elem_id="chat",
        height="100%",
        scale=1,
        container=False,
        buttons=[],
        editable="user",
        latex_delimiters=[],
        group_consecutive_messages=False,
        feedback_options=("Like", "Dislike"),
        layout="bubble",
        allow_file_downloads=False,
    )
    with gr.Row(visible=False, elem_id="offers") as offers:
        again = gr.Button(say("again"), size="sm", elem_id="again")
        see = gr.Button("", size="sm", elem_id="see", visible=False)
        recognise = gr.Button(say("recognise"), size="sm", elem_id="recognise", visible=False)
    with gr.Group(visible=False, elem_id="why") as why:
        reasons = gr.Radio(say.reasons, label=say("why"), elem_id="reasons")
        more = gr.Textbox(label=say("reason_more"), lines=1, max_length=2000, elem_id="reason-more")
        with gr.Row():
            send = gr.Button(say("send_reason"), variant="primary", size="sm", elem_id="send-reason")
            skip = gr.Button(say("skip_reason"), size="sm", elem_id="skip-reason")
    box = gr.MultimodalTextbox(
        placeholder=say("ask"),
        label=say("ask_label"),
        show_label=False,
        container=False,
        file_types=files.TAKEN,
        file_count="multiple",
        sources=["upload"],
        max_plain_text_length=8000,
        max_lines=8,
        autofocus=True,
        elem_id="box",
    )
    note = gr.HTML(notice(say), elem_id="notice")
    return chat, offers, again, see, recognise, why, reasons, more, send, skip, box, note
