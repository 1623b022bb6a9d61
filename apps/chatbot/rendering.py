"""A view as HTML. Whatever is not ours is escaped or cleaned here, on the server; the browser's own cleaning is on top.

The HTML is one line: so the chat's Markdown reader takes it for one block and leaves its inside alone. Pure.
"""

import html

from apps.chatbot.cards import addresses, office, sources
from apps.chatbot.markup import dated, link, markdown, one_line
from apps.chatbot.stepping import steps
from apps.chatbot.texts import Texts, texts
from apps.chatbot.view import View
from rag.answer.prompt import in_words
from rag.answer.states import Answer, Flag, Language, Refused

_BEGIN, _END = "\ue000", "\ue001"


def message(view: View, screen: Language) -> str:
    """The whole message: what was searched for, the steps, the answer, and its sources. One line of HTML."""
    say = texts(screen)
    parts = [_recognised(view, say), _searched(view, say), steps(view, say)]
    if view.refused:
        parts.append(_refusal(view.refused, texts(view.language)))
    elif view.answer:
        parts.append(_answer(view.answer, say))
    else:
        parts.append(_growing(view, say))
    if view.failed:
        parts.append(f'<p class="trouble" role="alert">{html.escape(view.failed.words)}</p>')
    if view.stopped:
        parts.append(f'<p class="note">{say("stopped")}</p>')
    busy = "" if view.ended else " busy"
    return one_line(f'<div class="turn{busy}" lang="{view.language}">{"".join(parts)}</div>')


def _answer(answer: Answer, say: Texts) -> str:
    text = answer.text
    for sentence in answer.unsupported:
        text = text.replace(sentence, f"{_BEGIN}{sentence}{_END}", 1)
    links = frozenset(link for one in answer.citations for link in addresses(one.passage))
    made = markdown(text, links, {one.number: one.passage.title for one in answer.citations})
    title = html.escape(say("unsupported"), quote=True)
    made = made.replace(_BEGIN, f'<span class="unsupported" title="{title}">').replace(_END, "</span>")
    notes = [say("flag_" + flag.kind, n=flag.number, words=_flagged(flag, say)) for flag in answer.flags]
    notes += [say("unsupported_note")] if answer.unsupported else []
    notes += [say("cut")] if answer.cut else []
    told = "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)
    return f'<div class="answer">{made}</div>{told}{sources(answer.citations, say)}{sources(answer.read, say, "read")}'


def _flagged(flag: Flag, say: Texts) -> str:
    return flag.words if flag.kind != "old" else in_words(flag.day, say.language)


def _growing(view: View, say: Texts) -> str:
    """Before the end: the words that are there, or what is being waited for."""
    if view.text:
        return f'<div class="answer">{markdown(view.text, sources=dict(enumerate(view.titles, start=1)))}</div>'
    if view.failed or view.stopped:
        return ""
    waiting = (
        say("searching") if view.searching else say("reading", count=len(view.titles)) if view.titles else say("asking")
    )
    return f'<p class="waiting" role="status">{html.escape(waiting)}</p>'


def _recognised(view: View, say: Texts) -> str:
    if not view.recognised:
        return ""
    lines = html.escape(view.recognised).replace("\n", "<br>")
    summary = f"<summary>{say('recognised')}</summary>"
    return f'<details class="steps recognised" open>{summary}<blockquote>{lines}</blockquote></details>'


def _searched(view: View, say: Texts) -> str:
    if not view.searched:
        return ""
    return f'<p class="searched">{say("searched")}: <q>{html.escape(view.searched)}</q></p>'


def _refusal(refused: Refused, say: Texts) -> str:
    parts = [f'<div class="answer"><p>{html.escape(say("refused"))}</p></div>']
    if refused.office:
        parts.append(f'<p class="head">{say("office")}</p>{office(refused.office, say)}')
    if refused.nearest:
        rows = "".join(f"<li>{link(one.url, one.title)}{dated(one.date, say)}</li>" for one in refused.nearest)
        parts.append(f'<p class="head">{say("nearest")}</p><ul class="nearest">{rows}</ul>')
    return f'<div class="refused">{"".join(parts)}</div>'
