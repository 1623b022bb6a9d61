"""Cluster: nodes and partitions, whose the GPUs are, our jobs, and how often Slurm is called."""

from datetime import UTC, datetime
from typing import Any

import streamlit as st

from apps.console import frame, markup
from apps.console.feed import Feed
from apps.console.markup import Column
from apps.console.views import cluster as view
from apps.console.views import overview

TITLES = {"slurm": "Slurm", "local": "This machine (local scheduler)"}
WIDE = {
    "Reason": st.column_config.TextColumn(width="large"),
    "What it means": st.column_config.TextColumn(width="large"),
}


def draw(feed: Feed) -> None:
    frame.begin("Cluster")
    frame.live(feed, "cluster", _ask, _all, every_s=5.0, empty="No scheduler has told of a node yet.")


def _ask(client: Any) -> dict[str, Any]:
    nodes, gpus, jobs = client.cluster(), client.gpus(), client.jobs()
    return {
        state["name"]: {
            "state": state,
            "nodes": nodes.get(state["name"], []),
            "gpus": gpus.get(state["name"], {"types": [], "nodes": []}),
            "jobs": jobs.get(state["name"], []),
        }
        for state in client.schedulers()
    }


def _all(schedulers: dict[str, Any]) -> None:
    for name, found in schedulers.items():
        st.header(TITLES.get(name, name), anchor=False)
        _one(name, found)


def _one(name: str, found: dict[str, Any]) -> None:
    state = found["state"]
    if not state["answers"]:
        st.warning(
            f"It gives no answer: {state['trouble'] or 'it was not asked yet'}. What follows is the last that is known."
        )
    for title, bar in overview.gpus({name: found["gpus"]["types"]}):
        st.html(markup.named(title, bar))
    if name == "slurm":
        st.subheader("Partitions", anchor=False)
        columns = [Column(one, number=one not in ("Partition", "GPUs free", "GPUs")) for one in view.PARTITIONS]
        st.html(markup.table(columns, view.partitions(found["nodes"])))
    st.subheader("Nodes", anchor=False)
    nodes = view.nodes(found["nodes"], found["gpus"]["nodes"])
    frame.frame(nodes, column_config=WIDE, key=f"nodes-{name}")
    st.subheader("Jobs of this user", anchor=False)
    if found["jobs"]:
        frame.frame(view.jobs(found["jobs"], datetime.now(UTC)), column_config=WIDE, key=f"jobs-{name}")
    else:
        st.caption("None. A launch submits one for each replica.")
    st.subheader("Calls of the scheduler's commands", anchor=False)
    st.caption(view.calls_in_words(state))
    if state["calls_last_hour"]:
        st.html(markup.table([Column("Command"), Column("Calls", number=True)], view.calls(state)))
