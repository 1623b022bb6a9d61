"""Charts of sweeps: Vega-Lite specs (for any page), and PNG, SVG, HTML, CSV. Pure.

A page that draws a chart itself wants `themed(spec, "light" or "dark")`, as wide as its place, and `caption(spec)`
below it; in Streamlit `st.vega_lite_chart(themed(spec), theme=None)`. `sweep_of` reads a sweep from JSON,
`sweeps_so_far` those of an experiment that may still run. Simulated servers are labelled in every chart.
"""

from collections.abc import Sequence

from engine.bench.charts.bars import load_distribution, startup
from engine.bench.charts.files import as_csv, beside, caption, html, javascript, png, png_of, svg, themed
from engine.bench.charts.latency import latency, per_token, ttft
from engine.bench.charts.layers import Spec
from engine.bench.charts.paper import PAPER
from engine.bench.charts.rows import levels, names, trials
from engine.bench.charts.throughput import aggregate, per_request
from engine.bench.saturation import Sweep, sweep_of
from engine.bench.saturation.sofar import sweeps_so_far

__all__ = [
    "PAPER",
    "Spec",
    "Sweep",
    "aggregate",
    "as_csv",
    "beside",
    "caption",
    "figures",
    "html",
    "javascript",
    "latency",
    "levels",
    "load_distribution",
    "names",
    "per_request",
    "per_token",
    "png",
    "png_of",
    "startup",
    "svg",
    "sweep_of",
    "sweeps_so_far",
    "themed",
    "trials",
    "ttft",
]


def figures(sweeps: Sequence[Sweep], paper: bool | None = None) -> dict[str, Spec]:
    """All charts that these sweeps have data for, by name, on shared axes."""
    if not any(sweep.trials for sweep in sweeps):
        drawn: dict[str, Spec | None] = {}
    else:
        drawn = {
            "latency": latency(sweeps, paper),
            "per_request": per_request(sweeps),
            "aggregate": aggregate(sweeps),
            "ttft": ttft(sweeps, paper),
            "per_token": per_token(sweeps),
            "load": load_distribution(sweeps),
        }
    drawn["startup"] = startup(sweeps)
    return {name: spec for name, spec in drawn.items() if spec is not None}
