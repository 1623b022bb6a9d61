"""Saturation: stored experiments, compared; capacity cards."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from apps.console import frame, markup
from apps.console.feed import Feed
from apps.console.markup import Column
from apps.console.screens import experiments as shown
from apps.console.views import experiments as view
from engine.bench import charts
from engine.bench.charts import Spec, Sweep

PARTS = ("Experiments", "Capacity cards")
STATES = (None, "running", "done", "stopped", "failed")
EMPTY = (
    "No experiment yet. Start one under Live benchmark, or with `engine bench saturate NAME`: it finds out how many "
    "requests a deployment can work on at once."
)
NO_CARDS = (
    "No capacity card yet: a sweep (Live benchmark) that finds the saturation point writes one, and the gateway "
    "admits by it."
)
PAPER = {"its models only": None, "always": True, "never": False}


def draw(feed: Feed) -> None:
    frame.begin("Saturation")
    part = frame.choose("Part", PARTS, key="saturation-part")
    if part == "Experiments":
        _experiments(feed)
    else:
        frame.live(feed, "capacity", lambda client: client.capacity(), _cards, every_s=10.0, empty=NO_CARDS)


def _cards(found: list[dict[str, Any]]) -> None:
    numbers = {"Slots", "Requests/s", "Tokens/s", "Latency p50"}
    st.html(markup.table([Column(name, number=name in numbers) for name in view.CARD], view.cards(found)))
    st.caption(
        "Of one replica each. A card holds for its model, arguments and GPU; change one and it has to be measured."
    )


def _experiments(feed: Feed) -> None:
    found = feed.read("experiments", lambda client: client.experiments(), fresh_s=3.0)
    frame.stamp(found)
    if found.value is None:
        return
    if not found.value:
        st.info(EMPTY)
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input("Filter", placeholder="deployment, target or id", key="experiment-filter", width=300)
        state = st.selectbox("State", STATES, format_func=lambda one: one or "all", key="experiment-state", width=140)
    rows = view.matching(found.value, text, state)
    if not rows:
        st.info("No experiment matches the filter.")
        return
    config = {"Message": st.column_config.TextColumn(width="large")}
    frame.frame(view.table(rows), column_config=config, key="experiments", most_rows=8)
    chosen = _chosen(rows)
    details = [one for id in chosen if (one := _details(feed, id)) is not None]
    if details:
        _compared(feed, details)


def _chosen(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    labels = {row["id"]: view.label(row) for row in rows}
    first = next((row["id"] for row in rows if row["valid"]), rows[0]["id"])
    if "compared" in st.session_state:
        st.session_state["compared"] = [id for id in st.session_state["compared"] if id in labels]
    else:
        st.session_state["compared"] = [first]
    return list(st.multiselect("Show and compare", list(labels), format_func=labels.__getitem__, key="compared"))


def _details(feed: Feed, id: str) -> Any:
    found = feed.read(("experiment", id), lambda client: client.experiment(id), fresh_s=3.0)
    if found.trouble:
        frame.stamp(found)
    return found.value


def _compared(feed: Feed, details: list[dict[str, Any]]) -> None:
    sweeps = [sweep for one in details for sweep in shown.sweeps_of(one)]
    measured = [sweep for sweep in sweeps if any(trial.valid for trial in sweep.trials)]
    if not measured:
        st.info("There is no valid trial to draw yet. The reasons stand below.")
    else:
        st.subheader("What was found", anchor=False)
        shown.told(measured)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            paper = st.selectbox("The paper's points", list(PAPER), key="paper-points", width=190)
            figures = shown.figures(measured, PAPER[paper])
            _export(measured, figures)
        shown.draw(figures, "saturation")
    if len(details) > 1:
        _differences(details)
    for one in details:
        _one(feed, one)


def _export(sweeps: Sequence[Sweep], figures: Mapping[str, Spec]) -> None:
    titles = {name: spec["title"]["text"] for name, spec in figures.items()}
    name = st.selectbox("Chart", list(titles), format_func=titles.__getitem__, key="exported", width=260)
    spec, named = figures[name], list(zip(sweeps, charts.names(sweeps), strict=True))
    levels = charts.as_csv([row for sweep, who in named for row in charts.levels(sweep, who)])
    trials = charts.as_csv([row for sweep, who in named for row in charts.trials(sweep, who)])
    # Drawn only when somebody wants it: a picture takes a second.
    st.download_button("PNG", lambda: charts.png(spec), f"{name}.png", "image/png", on_click="ignore")
    st.download_button("HTML", lambda: charts.html(spec), f"{name}.html", "text/html", on_click="ignore")
    st.download_button("CSV of levels", levels, "levels.csv", "text/csv", on_click="ignore")
    st.download_button("CSV of trials", trials, "trials.csv", "text/csv", on_click="ignore")


def _differences(details: Sequence[Mapping[str, Any]]) -> None:
    st.subheader("What differs between them", anchor=False)
    data = view.differences({one["id"]: one["provenance"] for one in details})
    if data.empty:
        st.caption("Nothing that is known: the same set-up, task and software.")
    else:
        columns = [Column(str(name), long=True) for name in data.columns]
        st.html(markup.table(columns, data.itertuples(index=False)))


def _one(feed: Feed, details: dict[str, Any]) -> None:
    id = details["id"]
    with st.expander(f"Trials and provenance of {id}"):
        shown.trials(details, key=f"trials-{id}")
        provenance = details["provenance"]
        if provenance:
            rows = sorted(view.flat(provenance).items())
            st.html(markup.table([Column("Fact"), Column("Value", long=True)], rows))
        with st.container(horizontal=True):
            text = json.dumps(details, indent=1)
            st.download_button(
                "Download JSON", text, f"{id}.json", "application/json", on_click="ignore", key=f"json-{id}"
            )
            if not view.runs(details) and st.button("Delete", key=f"delete-{id}"):
                frame.ask(f"delete {id}")
    said = f"Experiment {id} is deleted."
    frame.question(
        f"delete {id}",
        "Delete the experiment",
        f"{id} has {details['trials']} trials. It cannot be undone; its capacity card stays.",
        "Delete it",
        lambda: frame.told(feed, lambda client: client.experiment_delete(id), said) is not None,
    )
