"""The parts of a deployment's screen: replicas, events, log, test prompt, script, addresses, settings."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from apps.console import frame, markup, words
from apps.console.feed import Feed
from apps.console.markup import Column
from apps.console.views import deployments as view

LINES = (200, 1000, 10000)
HELLO = "Name three rivers in Europe."


def replicas(feed: Feed, row: dict[str, Any]) -> None:
    def body(found: dict[str, Any]) -> None:
        data = view.replicas(found, datetime.now(UTC))
        frame.frame(data, column_config={"Reason": st.column_config.TextColumn(width="large")})

    if not row["replicas"]:
        st.info("It has no replicas: scale it up.")
        return
    frame.live(
        feed,
        ("deployment", row["name"]),
        lambda client: client.deployment(row["name"]),
        body,
        every_s=2.0,
        stamped=False,
    )


def events(feed: Feed, row: dict[str, Any]) -> None:
    columns = [Column("When, UTC"), Column("Replica"), Column("Event"), Column("What happened", long=True)]
    frame.live(
        feed,
        ("events", row["name"]),
        lambda client: client.events(row["name"], 200),
        lambda found: st.html(markup.table(columns, view.events(found))),
        every_s=3.0,
        empty="Nothing has happened yet.",
    )


def log(feed: Feed, row: dict[str, Any]) -> None:
    name = row["name"]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        indices = [replica["index"] for replica in row["replicas"]]
        index = st.selectbox("Replica", [None, *indices], format_func=_which, key=f"log-of-{name}", width=160)
        lines = st.selectbox("Lines", LINES, key=f"log-lines-{name}", width=110)
        wanted = st.text_input("Search", key=f"log-search-{name}", width=260)
        follow = st.toggle("Follow", key=f"log-follow-{name}")

    def body(text: str) -> None:
        shown = view.search(text, wanted)
        st.code(shown or "No line holds that.", language=None, height=460)
        st.download_button("Download", text, f"{name}.log", "text/plain", on_click="ignore")

    every_s = 2.0 if follow else None
    empty = "The log is empty: no job of it has started yet."
    question = ("log", name, index, lines)
    frame.live(feed, question, lambda client: client.log(name, index, lines), body, every_s=every_s, empty=empty)


def _which(index: int | None) -> str:
    return "newest" if index is None else str(index)


def trying(feed: Feed, row: dict[str, Any]) -> None:
    """A probe past every queue, and a prompt on the way that everybody's takes."""
    st.caption("A probe asks each replica itself: is it well, and how long does one token take?")
    place = f"probed-{row['name']}"
    if st.button("Probe", key="probe"):
        st.session_state[place] = frame.told(feed, lambda client: client.probe(row["name"]), "")
    if found := st.session_state.get(place):
        columns = [Column("Replica"), Column("Endpoint"), Column("Health"), Column("First token")]
        st.html(markup.table(columns, view.probed(found)))
    elif found == []:
        st.info("No replica has an endpoint yet.")
    if row["kind"] != "model":
        return
    st.caption("A test prompt goes through the gateway, as everybody's does.")
    with st.form("prompt", border=False):
        prompt = st.text_area("Prompt", HELLO, height=90)
        sent = st.form_submit_button("Ask")
    if sent:
        _answer(feed, row["name"], prompt)


def _answer(feed: Feed, name: str, prompt: str) -> None:
    begun = datetime.now(UTC)
    messages = [{"role": "user", "content": prompt}]
    answer = frame.told(feed, lambda client: client.chat(name, messages, max_tokens=256), "")
    if answer is None:
        return
    took_s = (datetime.now(UTC) - begun).total_seconds()
    st.code(answer["choices"][0]["message"]["content"] or "(nothing)", language=None, wrap_lines=True)
    used = answer.get("usage") or {}
    st.caption(f"{words.seconds(took_s)}, {used.get('completion_tokens', '–')} tokens")


def script(feed: Feed, row: dict[str, Any]) -> None:
    found = feed.read(("script", row["name"]), lambda client: client.script(row["name"]), fresh_s=5.0)
    frame.stamp(found)
    if found.value:
        st.code(found.value, language="bash", line_numbers=True, height=560)


def addresses(feed: Feed, row: dict[str, Any]) -> None:
    st.write("Address" if row["kind"] == "app" else "Address of this deployment alone (key: its access token)")
    st.code(row["url"] or "none: nothing serves it", language=None)
    if row.get("access_token") and st.toggle("Show the access token", key=f"token-{row['name']}"):
        st.code(row["access_token"], language=None)
    hosts = feed.read(("hosts", row["name"]), lambda client: client.hosts(row["name"]), fresh_s=2.0)
    frame.stamp(hosts)
    if hosts.value:
        st.write(f"Hosts file: `{hosts.value['path']}`")
        st.code(hosts.value["text"] or "(empty: no replica serves)", language=None)
        with st.expander("What the replicas say of themselves"):
            st.json(hosts.value["files"], expanded=2)
    nginx = feed.read(("nginx", row["name"]), lambda client: client.nginx(row["name"]), fresh_s=5.0)
    st.write("Its part of nginx.conf")
    st.code(nginx.value or nginx.trouble or "NGINX is not used here.", language="nginx", height=320)


def settings(feed: Feed, row: dict[str, Any]) -> None:
    st.html(markup.table([Column("Setting"), Column("Value", long=True)], view.asked(row)))
    if row["kind"] != "model":
        return
    st.subheader("Capacity card", anchor=False)
    cards = feed.read("capacity", lambda client: client.capacity(), fresh_s=10.0)
    card = view.card(cards.value or [], row)
    if card is None:
        st.info(
            f"Not measured: {row['slots']} slots come from the engine's arguments. A sweep (Saturation) measures them."
        )
    else:
        rows = [
            (name, f"{value:.4g}" if isinstance(value, float) else str(value))
            for name, value in card.items()
            if name not in ("setup", "file") and value
        ]
        st.html(markup.table([Column("Of one replica"), Column("Value", long=True)], rows))


DRAW: dict[str, Callable[[Feed, dict[str, Any]], None]] = {
    "Replicas": replicas,
    "Events": events,
    "Log": log,
    "Try it": trying,
    "Script": script,
    "Addresses": addresses,
    "Settings": settings,
}
