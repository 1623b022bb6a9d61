"""Overview: how all of it is, and what needs attention."""

from typing import Any

import streamlit as st

from apps.console import frame, login, markup
from apps.console.feed import Feed
from apps.console.screens import deployments
from apps.console.views import overview as view
from apps.console.views import usage

COLUMNS = [
    markup.Column("Model"),
    markup.Column("State"),
    markup.Column("Reason", long=True),
    markup.Column("In flight", number=True),
    markup.Column("Waiting", number=True),
    markup.Column("Context, tokens", number=True),
]


def draw(feed: Feed) -> None:
    frame.begin("Overview")
    known = login.who()
    if known is not None and known.admin:
        frame.live(feed, "overview", lambda client: client.overview(), _all, every_s=3.0)
    else:
        _own(feed)


def _all(overview: dict[str, Any]) -> None:
    st.html(markup.tiles(view.health(overview)))
    st.subheader("Needs attention", anchor=False)
    found = view.attention(overview)
    if found:
        st.html(markup.items(found))
        with st.container(horizontal=True):
            for name in view.concerned(overview)[:8]:
                if st.button(f"Open {name}", key=f"open-{name}"):
                    deployments.show(name)
    else:
        st.caption("Nothing: everything that was asked for runs.")
    st.subheader("Now", anchor=False)
    st.html(markup.tiles(view.numbers(overview)))
    _gpus(overview)


def _gpus(overview: dict[str, Any]) -> None:
    st.subheader("GPUs", anchor=False)
    found = view.gpus(overview["gpus"])
    if overview["gpus_trouble"]:
        st.warning(f"The nodes are not known: {overview['gpus_trouble']}")
    elif not found:
        st.caption("The nodes here have no GPUs: models run on CPUs.")
    for name, bar in found:
        st.html(markup.named(name, bar))


def _own(feed: Feed) -> None:
    """What a user's key may see."""
    st.subheader("Models", anchor=False)
    frame.live(
        feed,
        "models",
        lambda client: client.models()["data"],
        lambda rows: st.html(markup.table(COLUMNS, view.models(rows))),
        empty="No model is open to this key at the moment; ask whoever runs this engine.",
    )
    st.subheader("This key", anchor=False)
    frame.live(feed, "whoami", lambda client: client.whoami(), lambda key: st.html(markup.tiles(usage.own(key))))
