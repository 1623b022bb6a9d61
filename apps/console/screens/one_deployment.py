"""One deployment from near: what can be done to it, and everything that can be seen of it."""

from datetime import UTC, datetime
from typing import Any

import streamlit as st

from apps.console import frame, inside, markup
from apps.console.feed import Feed
from apps.console.views import deployments as view

PARTS = ("Replicas", "Events", "Log", "Try it", "Script", "Addresses", "Settings")


def draw(feed: Feed, name: str) -> None:
    if st.button("All deployments", key="back"):
        del st.session_state["deployment"]
        st.rerun()
    st.header(name, anchor=False)

    def ask(client: Any) -> Any:
        return client.deployment(name)

    reading = feed.read(("deployment", name), ask, fresh_s=1.0)
    if reading.value is None:
        frame.stamp(reading)
        st.info("It may have been stopped: its events are kept. Go back to see those that there are.")
        return
    frame.live(feed, ("deployment", name), ask, lambda row: _head(row), every_s=2.0, fresh_s=0.5)
    _actions(feed, reading.value)
    part = frame.choose("Part", PARTS, key=f"part-{name}")
    inside.DRAW[part](feed, reading.value)


def _head(row: dict[str, Any]) -> None:
    st.html(markup.tiles(view.tiles(row, datetime.now(UTC))))


def _actions(feed: Feed, row: dict[str, Any]) -> None:
    name = row["name"]
    if row["stage"] == "draining":
        st.caption("It is being stopped: its replicas end what they have begun.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        wanted = int(st.number_input("Replicas", 0, 1000, row["wanted"], key=f"scale-{name}", width=120))
        if st.button("Scale", key="scale", disabled=wanted == row["wanted"]):
            _scale(feed, row, wanted)
        index = st.selectbox("Replica", view.live(row), key=f"drain-{name}", width=110)
        if st.button("Drain", key="drain", disabled=index is None):
            frame.ask(f"drain {name}")
        if st.button("Restart", key="restart"):
            frame.ask(f"restart {name}")
        if st.button("Stop", key="stop"):
            frame.ask(f"stop {name}")
    _questions(feed, row, index)


def _scale(feed: Feed, row: dict[str, Any], wanted: int) -> None:
    if wanted == 0:
        frame.ask(f"scale {row['name']}")
    elif _done(feed, row, "scale", wanted):
        st.rerun()


def _questions(feed: Feed, row: dict[str, Any], index: int | None) -> None:
    name = row["name"]
    text = f"{name} would serve nobody until it is scaled up again."
    frame.question(f"scale {name}", "Scale to none", text, "Scale to 0", lambda: _done(feed, row, "scale", 0))
    text = f"Replica {index} of {name} ends the requests that it has, takes no more, and another takes its place."
    frame.question(f"drain {name}", "Drain a replica", text, "Drain it", lambda: _done(feed, row, "drain", index))
    text = f"Every replica of {name} is replaced, new ones first. One that gave up tries again."
    frame.question(f"restart {name}", "Restart", text, "Restart it", lambda: _done(feed, row, "restart"))
    text = f"All replicas of {name} end what they have begun, then its jobs end and it is put into history."
    frame.question(f"stop {name}", "Stop", text, "Stop it", lambda: _done(feed, row, "stop"), check=name)


def _done(feed: Feed, row: dict[str, Any], what: str, *more: Any) -> bool:
    words = {
        "drain": "is being drained",
        "restart": "is being replaced",
        "stop": "is being stopped",
        "scale": "is scaled",
    }
    said = f"{row['name']} {words[what]}."
    return frame.told(feed, lambda client: getattr(client, what)(row["name"], *more), said) is not None
