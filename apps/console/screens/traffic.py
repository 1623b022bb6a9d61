"""Traffic: requests, times, tokens and errors over time; the tribunal's verdicts; the request log."""

from datetime import UTC, datetime
from typing import Any

import streamlit as st

from apps.console import frame, markup
from apps.console.feed import Feed
from apps.console.markup import Column
from apps.console.screens.experiments import paired
from apps.console.views import requests as one
from apps.console.views import traffic as view
from apps.console.views import usage

PARTS = ("Over time", "Verdicts", "Request log")
SPLITS = {"model": "Model", "key": "Key", "none": "Nothing: one sum"}
NO_TRAFFIC = (
    "No request has ended in this time. Requests through the gateway are counted as soon as they end; "
    "take a longer time, or ask a model (Deployments, Try it)."
)
CHARTS = (
    ("Requests per s", "Requests/s"),
    ("Tokens per s", "Completion tokens/s"),
    ("First token p95", "Time to first token, p95"),
    ("Per token p95", "Time per further token, p95"),
    ("Latency p95", "Latency, p95"),
    ("Errors per min", "Errors/min"),
    ("Waiting requests", "Requests that waited for a slot, mean"),
    ("Bypasses per min", "Workflows bypassed/min"),
)
ONLY_IF_ANY = ("Waiting requests", "Bypasses per min")
OUTCOMES = (None, "accepted", "rejected", "bypassed")


def draw(feed: Feed) -> None:
    frame.begin("Traffic")
    part = frame.choose("Part", PARTS, key="traffic-part")
    {"Over time": _over_time, "Verdicts": _verdicts, "Request log": _log}[part](feed)


def _names(feed: Feed) -> dict[str, str]:
    """Of keys by id."""
    found = feed.read("keys", lambda client: client.keys(), fresh_s=30.0)
    return {key["id"]: key["name"] for key in found.value or []}


def _models(feed: Feed) -> list[str]:
    found = feed.read("queue", lambda client: client.queue(), fresh_s=5.0)
    return sorted(row["name"] for row in found.value or [])


def _over_time(feed: Feed) -> None:
    names = _names(feed)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        reach = st.selectbox("Time", list(view.RANGES), key="traffic-reach", width=130)
        by = st.selectbox("Told apart by", list(SPLITS), format_func=SPLITS.__getitem__, key="traffic-by", width=180)
        model = st.selectbox("Model", [None, *_models(feed)], format_func=_any, key="traffic-model", width=200)
        key = st.selectbox(
            "Key", [None, *names], format_func=lambda id: names.get(id, "all"), key="traffic-key", width=200
        )
    step_s = view.RANGES[reach][1]

    def ask(client: Any) -> Any:
        begin, end, _ = view.window(reach, datetime.now(UTC))
        query = {"step": step_s, "by": by, "model": model, "key": key}
        return client.traffic(begin.isoformat(), end.isoformat(), **query), client.queue()

    def body(found: Any) -> None:
        told, queue = found
        _now(queue)
        if not told["data"]:
            st.info(NO_TRAFFIC)
            return
        st.html(markup.tiles(view.totals(told)))
        _kinds(told)
        _charts(view.over_time(told, by, names, *view.window(reach, datetime.now(UTC))[:2]), reach)

    frame.live(feed, ("traffic", reach, by, model, key), ask, body, every_s=5.0)


def _any(name: str | None) -> str:
    return name or "all"


def _now(queue: list[dict[str, Any]]) -> None:
    if not queue:
        return
    st.subheader("Now", anchor=False)
    columns = [Column(name, number=name != "Deployment") for name in one.QUEUE]
    st.html(markup.table(columns, one.queue(queue)))
    st.subheader("In this time", anchor=False)


def _kinds(told: Any) -> None:
    left, right = st.columns(2, gap="large")
    for place, field, title, names in (
        (left, "errors", "Errors by kind", view.ERRORS),
        (right, "finish_reasons", "Why answers ended", view.FINISHES),
    ):
        with place:
            rows = view.kinds(told, field, names)
            st.html(markup.table([Column(title), Column("Requests", number=True)], rows or [("none", 0)]))


def _charts(data: Any, reach: str) -> None:
    shown = [
        (field, title)
        for field, title in CHARTS
        if data[field].notna().any() and (field not in ONLY_IF_ANY or data[field].any())
    ]
    paired({f"traffic-{field}": view.line(data, field, title, reach) for field, title in shown})


def _verdicts(feed: Feed) -> None:
    names = _names(feed)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        days = st.selectbox("Days", (1, 7, 30, 90, 365), index=2, key="verdict-days", width=100)
        outcome = st.selectbox("Outcome", OUTCOMES, format_func=_any, key="verdict-outcome", width=150)
        model = st.selectbox("Model", [None, *_models(feed)], format_func=_any, key="verdict-model", width=200)

    def ask(client: Any) -> Any:
        return client.verdict_counts(days, model), client.verdicts(outcome, model, 500)

    def body(found: Any) -> None:
        counts, rows = found
        st.html(markup.tiles(one.outcomes(counts)))
        if not (rows or counts["models"]):
            st.info(
                "No tribunal has ended in this time. `POST /v1/tribunal` or the model name `tribunal/MODEL` holds one."
            )
            return
        left, right = st.columns(2, gap="large")
        with left:
            columns = [Column("Model"), *(Column(n, number=True) for n in ("Accepted", "Rejected", "Bypassed"))]
            st.html(
                markup.table(
                    columns, [(m["model"], m["accepted"], m["rejected"], m["bypassed"]) for m in counts["models"]]
                )
            )
        with right:
            laws = [(law["law"], law["violated"]) for law in counts["laws"]] or [("none was violated", 0)]
            st.html(markup.table([Column("Law", long=True), Column("Violated by first answers", number=True)], laws))
        st.subheader("The latest", anchor=False)
        if rows:
            frame.frame(one.verdicts(rows, names), key="verdicts")
        else:
            st.caption("None with this outcome.")

    frame.live(feed, ("verdicts", days, outcome, model), ask, body, every_s=10.0)


def _log(feed: Feed) -> None:
    names = _names(feed)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        model = st.selectbox("Model", [None, *_models(feed)], format_func=_any, key="log-model", width=200)
        key = st.selectbox("Key", [None, *names], format_func=lambda id: names.get(id, "all"), key="log-key", width=200)
        outcome = st.selectbox("Outcome", (None, "ok", "error"), format_func=_any, key="log-outcome", width=120)
        slower = st.number_input("Slower than, s", 0.0, None, 0.0, 0.5, key="log-slower", width=130)
        limit = st.selectbox("Rows", (100, 1000, 10000), key="log-rows", width=110)
    filters = {"model": model, "key": key, "outcome": outcome, "slower_than_s": slower or None}

    def body(rows: list[dict[str, Any]]) -> None:
        data = one.requests(rows, names)
        config = {"Error": st.column_config.TextColumn(width="medium")}
        frame.frame(data, column_config=config, key="request-log", most_rows=20)
        st.caption(f"The latest {len(rows)} that match. Prompts are not shown; totals stand under Over time.")
        st.download_button("Download CSV", usage.as_csv(data), "requests.csv", "text/csv", on_click="ignore")

    question = ("requests", limit, *filters.values())
    empty = "No request matches. The log has a line as soon as a request ends; a wider filter may show more."
    frame.live(feed, question, lambda client: client.requests(limit, **filters), body, every_s=5.0, empty=empty)
