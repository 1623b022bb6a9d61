"""Questions and feedback: what the chatbot's users asked in vain, or did not like."""

from typing import Any

import streamlit as st

from apps.console import frame, markup, words
from apps.console.feed import Feed
from apps.console.markup import Column
from apps.console.views import feedback as view
from apps.console.views import usage

WANTED = {
    "Not answered or disliked": ("refused", "dislike"),
    "Not answered": ("refused",),
    "Disliked": ("dislike",),
    "Liked": ("like",),
}
LATEST = 2000
SHOWN = 50
EMPTY = (
    "Nothing was said yet. The chatbot tells of each question that the pages do not answer, and of each thumb up or "
    "down; both show here. Personal numbers are masked before anything is kept."
)


def draw(feed: Feed) -> None:
    frame.begin(
        "Questions and feedback", "What the pages should answer, and do not: each row is work for whoever writes them."
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        wanted = st.selectbox("Show", list(WANTED), key="feedback-kinds", width=240)
        days = st.selectbox("Counted over, days", (7, 30, 90, 365), index=1, key="feedback-days", width=150)
        alone = st.toggle("Each alone", key="feedback-alone")

    def ask(client: Any) -> Any:
        kinds = WANTED[wanted]
        rows = [row for kind in kinds for row in client.feedback_list(kind, LATEST)]
        return client.feedback_counts(days), sorted(rows, key=lambda row: str(row["at"]), reverse=True)

    def body(found: Any) -> None:
        counts, rows = found
        st.html(markup.tiles(view.tiles(counts)))
        if not rows:
            st.info(EMPTY)
            return
        if alone:
            _each(rows)
        else:
            _clusters(rows)

    frame.live(feed, ("feedback", wanted, days), ask, body, every_s=10.0)


def _clusters(rows: list[dict[str, Any]]) -> None:
    found = view.clusters(rows)
    numbers = {"Questions", "Not answered", "Disliked"}
    long = {"Like this one", "Reasons told", "Sources shown"}
    columns = [Column(name, number=name in numbers, long=name in long) for name in view.CLUSTERS]
    st.html(markup.table(columns, view.table(found[:SHOWN])))
    more = f"; the {SHOWN} largest are shown" if len(found) > SHOWN else ""
    groups = words.many(len(found), "group")
    st.caption(f"{words.many(len(rows), 'question')} in {groups} of questions that are alike{more}.")


def _each(rows: list[dict[str, Any]]) -> None:
    data = view.each(rows)
    wide = st.column_config.TextColumn(width="large")
    frame.frame(data, column_config={"Question": wide, "Answer": wide}, key="feedback")
    st.download_button("Download CSV", usage.as_csv(data), "feedback.csv", "text/csv", on_click="ignore")
