"""Keys and usage: who may ask, who asked how much, and what it cost in GPU hours."""

from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from apps.console import frame, login, markup
from apps.console.feed import Feed
from apps.console.markup import Column
from apps.console.views import usage as view

PARTS = ("Usage", "GPU hours", "Keys")
DAYS = {"7 days": 7, "30 days": 30, "90 days": 90, "A year": 365}
NO_USAGE = "Nobody asked anything in this time. Requests are counted by day, key and model as soon as they end."


def draw(feed: Feed) -> None:
    known = login.who()
    if known is None or not known.admin:
        frame.begin("Usage")
        _usage(feed, ("model",))
        return
    frame.begin("Keys and usage")
    part = frame.choose("Part", PARTS, key="usage-part")
    {
        "Usage": lambda: _usage(feed, ("key", "model")),
        "GPU hours": lambda: _gpu_hours(feed),
        "Keys": lambda: _keys(feed),
    }[part]()


def _first(key: str) -> str:
    days = DAYS[st.selectbox("Time", list(DAYS), index=1, key=key, width=150)]
    return (datetime.now(UTC).date() - timedelta(days=days - 1)).isoformat()


def _usage(feed: Feed, splits: tuple[str, ...]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = _first("usage-days")
        split = st.selectbox("Told apart by", splits, format_func=view.NAMES.__getitem__, key="usage-split", width=150)
    by = ["day", split]

    def body(rows: list[dict[str, Any]]) -> None:
        data = view.usage(rows, by)
        st.html(markup.tiles(view.totals(rows)))
        st.vega_lite_chart(data, view.chart(split, data["Day"].nunique()), width="stretch")
        frame.frame(data, key="usage-table")
        st.download_button("Download CSV", view.as_csv(data), f"usage-{first}.csv", "text/csv", on_click="ignore")

    question = ("usage", first, split)
    frame.live(feed, question, lambda client: client.usage(first, None, by), body, every_s=10.0, empty=NO_USAGE)


def _gpu_hours(feed: Feed) -> None:
    first = _first("hours-days")

    def ask(client: Any) -> Any:
        return client.gpu_hours(first), client.usage(first, None, ["model"])

    def body(found: Any) -> None:
        told, used = found
        if told["reason"]:
            st.info(f"No GPU hours: {told['reason']}.")
            return
        if not told["rows"]:
            st.info("No job of this user ran in this time.")
            return
        columns = [
            Column("Deployment"),
            *(Column(n, number=True) for n in ("GPU hours", "Tokens", "Tokens per GPU hour")),
        ]
        st.html(markup.table(columns, view.beside_tokens(told["rows"], used)))
        data = view.hours(told["rows"])
        frame.frame(data, key="hours-table")
        st.download_button("Download CSV", view.as_csv(data), f"gpu-hours-{first}.csv", "text/csv", on_click="ignore")

    frame.live(feed, ("hours", first), ask, body, every_s=60.0)


def _keys(feed: Feed) -> None:
    if made := st.session_state.get("made-key"):
        _shown_once(made)
    found = feed.read("keys", lambda client: client.keys(), fresh_s=2.0)
    frame.stamp(found)
    if found.value is None:
        return
    if found.value:
        frame.frame(view.keys(found.value), key="keys-table")
    else:
        st.info("No keys yet. Make one below; whoever asks a model needs one.")
    make, change = st.columns(2, gap="large")
    with make:
        _make(feed)
    with change:
        _change(feed, view.active(found.value))


def _shown_once(made: dict[str, Any]) -> None:
    st.success(f"The key of {made['name']}. Copy it now: it is shown this once.")
    st.code(made["key"], language=None)
    if st.button("I have copied it", key="copied"):
        del st.session_state["made-key"]
        st.rerun()


def _make(feed: Feed) -> None:
    st.subheader("Make a key", anchor=False)
    with st.form("make-key", border=False, clear_on_submit=True):
        name = st.text_input("Whose it is", max_chars=100)
        role = st.selectbox(
            "Role", ("user", "admin"), help="A user asks models; an admin also launches and stops them."
        )
        limits = _limits({"models": [], "requests_per_minute": None, "tokens_per_day": None, "parallel": None}, "make")
        sent = st.form_submit_button("Make", type="primary")
    if sent and not name.strip():
        st.error("Say whose key it is.")
    elif sent:
        made = frame.told(
            feed, lambda client: client.key_create(name.strip(), role, **limits), f"A key for {name} was made."
        )
        if made is not None:
            st.session_state["made-key"] = made
            st.rerun()


def _limits(now: dict[str, Any], key: str) -> dict[str, Any]:
    models = st.text_input("Models, with commas between (empty: all)", ", ".join(now["models"]), key=f"{key}-models")
    left, middle, right = st.columns(3)
    most = 2**53 - 1
    with left:
        minute = st.number_input("Requests a minute", 0, most, now["requests_per_minute"] or 0, key=f"{key}-rpm")
    with middle:
        day = st.number_input("Tokens a day", 0, most, now["tokens_per_day"] or 0, key=f"{key}-tpd")
    with right:
        parallel = st.number_input("At the same time", 0, most, now["parallel"] or 0, key=f"{key}-parallel")
    st.caption("0 is no limit.")
    return view.limits(models, int(minute), int(day), int(parallel))


def _change(feed: Feed, keys: list[Any]) -> None:
    st.subheader("Change or revoke a key", anchor=False)
    if not keys:
        st.caption("There is no valid key.")
        return
    names = {key["id"]: f"{key['name']} ({key['id']})" for key in keys}
    id = st.selectbox("Key", list(names), format_func=names.__getitem__, key="changed-key")
    key = next(one for one in keys if one["id"] == id)
    limits = _limits(key["limits"], f"change-{id}")
    with st.container(horizontal=True):
        if st.button("Save limits", key="save-limits"):
            said = f"The limits of {key['name']} are changed."
            if frame.told(feed, lambda client: client.key_limit(id, **limits), said) is not None:
                st.rerun()
        if st.button("Revoke", key="revoke"):
            frame.ask(f"revoke {id}")
    text = f"Whoever uses the key of {key['name']} is refused within a second. It cannot be undone."
    frame.question(f"revoke {id}", "Revoke", text, "Revoke it", lambda: _revoked(feed, key))


def _revoked(feed: Feed, key: Any) -> bool:
    said = f"The key of {key['name']} is revoked."
    return frame.told(feed, lambda client: client.key_revoke(key["id"]), said) is not None
