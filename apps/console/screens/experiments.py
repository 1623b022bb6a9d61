"""What the two screens of experiments share: the sweeps of an experiment, and its charts."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from apps.console import frame, markup
from apps.console.markup import Column
from apps.console.views import experiments as view
from engine.bench import charts
from engine.bench.charts import Spec, Sweep

# Beside each other, the most telling first.
ORDER = ("latency", "aggregate", "per_request", "ttft", "per_token", "load", "startup")


def sweeps_of(details: Mapping[str, Any]) -> list[Sweep]:
    """The sweeps so far, fitted once for all who look at the same trials."""
    trials, result = details["trial_list"], details["result"]
    stamp = (details["id"], len(trials), sum(len(sweep["trials"]) for sweep in result), details["state"])
    return _sweeps(stamp, trials, result, details["provenance"], details["options"]["time_scale"])


@st.cache_data(max_entries=64, show_spinner=False)
def _sweeps(
    stamp: tuple[Any, ...], _trials: Sequence[Any], _result: Sequence[Any], _provenance: Any, _scale: float
) -> list[Sweep]:
    return charts.sweeps_so_far(_result, _trials, _provenance, _scale)


def figures(sweeps: Sequence[Sweep], paper: bool | None = None) -> dict[str, Spec]:
    found = charts.figures(sweeps, paper)
    return {name: found[name] for name in ORDER if name in found}


def draw(found: Mapping[str, Spec], key: str) -> None:
    """Charts in two columns, in the theme of the page, each with the words that explain it."""
    paired({f"{key}-{name}": spec for name, spec in found.items()})


def paired(specs: Mapping[str, Spec]) -> None:
    """Charts by their keys, two in a row; on a narrow page one below the other, in their order."""
    each = list(specs.items())
    for begin in range(0, len(each), 2):
        for place, (key, spec) in zip(st.columns(2, gap="large"), each[begin : begin + 2], strict=False):
            with place:
                chart(spec, key)


def chart(spec: Spec, key: str) -> None:
    themed = charts.themed(spec, theme())
    config = {**themed["config"], "background": "transparent"}
    st.vega_lite_chart({**themed, "config": config}, theme=None, width="stretch", key=key)
    if words := charts.caption(spec):
        st.caption(words)


def theme() -> str:
    """`light` or `dark`, as the reader has it."""
    return "dark" if st.context.theme.type == "dark" else "light"


def told(sweeps: Sequence[Sweep]) -> None:
    """What the sweeps found, and what speaks against it."""
    names = charts.names(sweeps)
    numbers = {"Sweep", "95 % interval", "Confirmed by", "Start-up"}
    columns = [Column(name, number=name not in numbers) for name in view.RESULTS]
    st.html(markup.table(columns, view.results(sweeps, names)))
    if found := view.warnings(sweeps, names):
        st.html(markup.items(found))


def trials(details: Mapping[str, Any], key: str) -> None:
    config = {"Why not": st.column_config.TextColumn(width="large")}
    frame.frame(view.trials(details["trial_list"]), column_config=config, key=key)
