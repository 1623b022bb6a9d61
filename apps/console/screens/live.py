"""Live benchmark: a sweep is started, watched by any number of people, stopped, resumed."""

import json
from typing import Any

import streamlit as st

from apps.console import frame, markup
from apps.console.feed import Feed
from apps.console.screens import experiments as shown
from apps.console.views import experiments as view
from engine.errors import ConfigurationError

TARGETS = {
    "gateway": "the gateway",
    "nginx": "NGINX, past the gateway",
    "replica": "one replica, directly",
}
EMPTY = "No sweep was started yet. Choose what to measure above and press Start."
NO_MODEL = "No model is ready. Launch one first; then a sweep tells how many requests it can work on at once."
LOAD_CHARTS = ("latency", "aggregate")


def draw(feed: Feed) -> None:
    frame.begin("Live benchmark")
    found = feed.read("experiments", lambda client: client.experiments(), fresh_s=1.0)
    if found.trouble:
        frame.stamp(found)
    rows = found.value or []
    with st.expander("Start a sweep", expanded=not rows):
        _start(feed)
    if found.value is not None and not rows:
        frame.live(feed, "experiments", lambda client: client.experiments(), _begun, every_s=2.0, empty=EMPTY)
    elif rows:
        _watch(feed, rows)


def _begun(rows: Any) -> None:
    """Somebody else has started the first one."""
    st.rerun(scope="app")


def _start(feed: Feed) -> None:
    found = feed.read("deployments", lambda client: client.deployments(), fresh_s=2.0)
    ready = [row["name"] for row in found.value or [] if row["kind"] == "model" and row["ready"]]
    if found.value is not None and not ready:
        st.info(NO_MODEL)
        return
    with st.form("start-sweep", border=False):
        names = st.multiselect("Deployments, swept one after the other", ready, default=ready[:1], key="sweep-names")
        options = _options()
        sent = st.form_submit_button("Start", type="primary")
    if sent and not names:
        st.error("Choose a deployment first.")
    elif sent:
        try:
            given = {**options, "task": task(options["task"])}
        except ConfigurationError as error:
            st.error(str(error))
            return
        said = f"The sweep of {', '.join(names)} has begun."
        made = frame.told(feed, lambda client: client.experiment_start(names, **given), said)
        if made is not None:
            st.session_state["watch-next"] = made["id"]
            st.rerun()


def _options() -> dict[str, Any]:
    left, middle, right = st.columns(3)
    with left:
        target = st.selectbox("Load at", list(TARGETS), format_func=TARGETS.__getitem__, key="sweep-target")
        repeats = st.number_input("Trials of each level", 1, 100, 3, key="sweep-repeats")
    with middle:
        most = st.number_input("No more users than", 1, 100_000, 4096, key="sweep-most")
        objective = st.number_input("p95 latency within, ms (0: none)", 0.0, None, 0.0, key="sweep-objective")
    with right:
        foreign = st.number_input("CPU that others may use, %", 1, 100, 50, key="sweep-foreign")
        scale = st.number_input("Time scale (simulated servers)", 0.001, None, 1.0, key="sweep-scale")
    stream = st.checkbox("Stream the answers: first tokens and tokens are timed, too", key="sweep-stream")
    text = st.text_area(
        "Task as JSON (messages or prompt, max_tokens, …; empty: the paper's)", "", height=70, key="sweep-task"
    )
    return {
        "target": target,
        "stream": stream,
        "task": text,
        "objective_ms": objective or None,
        "max_concurrency": int(most),
        "repeats": int(repeats),
        "foreign_cpu": foreign / 100,
        "time_scale": scale,
    }


def task(text: str) -> dict[str, Any]:
    """A task as it was typed; raises ConfigurationError for what is none."""
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"The task is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ConfigurationError("The task must be a JSON object with `messages` or `prompt`.")
    return found


def _watch(feed: Feed, rows: list[dict[str, Any]]) -> None:
    labels = {row["id"]: view.label(row) for row in rows}
    st.session_state["watched"] = _watched(rows)
    id = st.selectbox("Watch", list(labels), format_func=labels.__getitem__, key="watched")
    st.query_params["experiment"] = id
    known = frozenset(labels)

    def ask(client: Any) -> Any:
        details = _grown(client, id)
        served = [row for row in client.deployments() if row["name"] == _present(details)]
        return details, next(iter(served), None), {row["id"] for row in client.experiments()}

    def body(answer: Any) -> None:
        details, row, ids = answer
        if ids - known:
            st.rerun(scope="app")
        _drawn(feed, details, row)

    running = next(view.runs(row) for row in rows if row["id"] == id)
    frame.live(feed, ("watched", id), ask, body, every_s=1.5 if running else 4.0)


def _watched(rows: list[dict[str, Any]]) -> str:
    """What was just started, else what is being watched, else what the address names, else what runs, else the last."""
    ids = [row["id"] for row in rows]
    wished = (
        st.session_state.pop("watch-next", None),
        st.session_state.get("watched"),
        st.query_params.get("experiment"),
        next((row["id"] for row in rows if view.runs(row)), None),
    )
    return next((str(id) for id in wished if id in ids), str(ids[0]))


def _grown(client: Any, id: str) -> dict[str, Any]:
    """The experiment with all its trials, of which only the new ones are asked for."""
    place = f"trials-so-far-{id}"
    known: list[Any] = st.session_state.get(place, [])
    details: dict[str, Any] = client.experiment(id, len(known))
    st.session_state[place] = [*known, *details["trial_list"]]
    return {**details, "trial_list": st.session_state[place]}


def _present(details: dict[str, Any]) -> str:
    return str(details["deployment"] or details["deployments"][0])


def _drawn(feed: Feed, details: dict[str, Any], row: dict[str, Any] | None) -> None:
    # First, where nothing that appears moves it away from under a finger.
    _buttons(feed, details)
    st.progress(view.progress(details))
    st.html(markup.tiles(view.tiles(details)))
    if details["message"]:
        tone = view.TONES.get(details["state"], "warn")
        st.html(markup.items([(tone, details["message"], "")]))
    sweeps = [one for one in shown.sweeps_of(details) if any(trial.valid for trial in one.trials)]
    if not sweeps:
        st.caption("Points, bands and the fit appear as soon as a trial has ended.")
    else:
        shown.told(sweeps)
    found = shown.figures(sweeps) if sweeps else {}
    shown.draw({name: spec for name, spec in found.items() if name in LOAD_CHARTS}, "live")
    _load(row)
    shown.draw({name: spec for name, spec in found.items() if name not in LOAD_CHARTS}, "live")
    if details["trial_list"]:
        st.subheader("Trials, the latest first", anchor=False)
        shown.trials(details, key="live-trials")


def _buttons(feed: Feed, details: dict[str, Any]) -> None:
    id = details["id"]
    if view.runs(details):
        if st.button("Stop", key="stop-sweep"):
            said = "It stops within a second or so; what was measured is kept."
            if frame.told(feed, lambda client: client.experiment_stop(id), said) is not None:
                st.rerun(scope="app")
    elif details["state"] != "done" and st.button("Resume", key="resume-sweep"):
        said = "It goes on; valid trials are not repeated."
        if frame.told(feed, lambda client: client.experiment_resume(id), said) is not None:
            st.rerun(scope="app")


def _load(row: dict[str, Any] | None) -> None:
    bars = view.loads(row)
    if row is None:
        st.caption("Its deployment is not there any more.")
    elif not bars:
        st.caption("Its replicas tell no load.")
    else:
        st.subheader(f"Load of {row['name']} now", anchor=False)
        st.html("".join(markup.named(name, markup.bar(shares)) for name, shares in bars))
