"""What every screen stands in: its title, the time of its data, what to do when there is none, and refreshing."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import streamlit as st

from apps.console import words
from apps.console.feed import Feed, Reading
from apps.console.theme import CSS

T = TypeVar("T")
Ask = Callable[[Any], T]
ROW_PX = 31


def begin(title: str, about: str = "") -> None:
    st.html(CSS)
    st.title(title, anchor=False)
    if about:
        st.caption(about)


def live(
    feed: Feed,
    question: Hashable,
    ask: Ask[T],
    body: Callable[[T], object],
    *,
    every_s: float | None = 5.0,
    empty: str = "",
    fresh_s: float = 0.0,
    stamped: bool = True,
) -> None:
    """A part of a screen that refreshes by itself, without touching what is typed elsewhere on it.

    `body` draws the answer; `empty` is said, with what to do, in place of an answer that holds nothing. Without
    `every_s` it is drawn once. It tells the time of its data, unless something else on the screen does.
    """

    def part() -> None:
        reading = feed.read(question, ask, fresh_s)
        if feed.denied:
            st.rerun()
        if stamped or reading.trouble:
            stamp(reading)
        if reading.value is None:
            return
        if empty and not reading.value:
            st.info(empty)
        else:
            body(reading.value)

    if every_s is None:
        part()
    else:
        st.fragment(part, run_every=every_s)()


def stamp(reading: Reading[Any]) -> None:
    """When the data is of, or since when there is none that is newer."""
    if not reading.trouble:
        st.html(f'<div class="e-stamp">as of {words.clock(reading.at)}</div>')
    elif reading.value is None:
        st.error(f"No data yet: {reading.trouble}")
    else:
        times = f"since {words.clock(reading.since)}; showing data of {words.clock(reading.at)}"
        st.warning(f"{_sentence(reading.trouble)} No newer data {times}.")


def frame(data: Any, *, rows: int | None = None, most_rows: int = 15, **more: Any) -> Any:
    """A table of any length that can be sorted, searched and copied; a column's name tells its unit."""
    count = len(data) if rows is None else rows
    height = (min(max(count, 1), most_rows) + 1) * ROW_PX + 3
    return st.dataframe(data, hide_index=True, width="stretch", height=height, placeholder="", **more)


def told(feed: Feed, change: Callable[[Any], Any], done: str) -> Any:
    """Does what somebody asked for and says so, or says in a sentence why not; returns the answer, or None."""
    reading = Feed(feed.client).read("once", change)
    if reading.trouble:
        st.error(_sentence(reading.trouble))
        return None
    feed.forget()
    st.session_state["said"] = done
    return reading.value


def say_what_was_done() -> None:
    """After the screen was drawn anew."""
    if done := st.session_state.pop("said", ""):
        st.toast(done)


def ask(question: str) -> None:
    """Opens a question; `question` draws it from now on, until it was answered or closed."""
    st.session_state["question"] = question


def question(name: str, title: str, text: str, button: str, act: Callable[[], bool], check: str = "") -> None:
    """A dialogue that asks once more, when it is open; with `check` that word has to be typed.

    `act` does it, and returns whether it went well.
    """
    if st.session_state.get("question") != name:
        return

    @st.dialog(title, on_dismiss=_answered)
    def dialogue() -> None:
        st.write(text)
        typed = st.text_input(f"Type {check} to confirm", key="question-typed") if check else ""
        if st.button(button, type="primary", disabled=typed != check, key="question-button") and act():
            _answered()
            st.rerun()

    dialogue()


def _answered() -> None:
    st.session_state.pop("question", None)


def choose(label: str, options: Sequence[str], key: str) -> str:
    """One of a few parts of a screen; only the chosen one is asked for and drawn."""
    return st.segmented_control(label, options, default=options[0], key=key, label_visibility="collapsed") or options[0]


def _sentence(text: str) -> str:
    shown = text[:1].upper() + text[1:]
    return shown if shown.endswith((".", "!", "?")) else f"{shown}."
