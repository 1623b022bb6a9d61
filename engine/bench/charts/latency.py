"""Latency by concurrency (the paper's Figure 3), and the same for the first token and for each further one."""

from collections.abc import Iterator, Sequence

from engine.bench.charts import rows
from engine.bench.charts.curves import band, curve, guide
from engine.bench.charts.layers import SECONDS, USERS, Spec, layered, log_axis, place, saturation_lines, stars, unit
from engine.bench.charts.paper import PAPER
from engine.bench.charts.rows import Row
from engine.bench.saturation import Sweep

CAPTION = (
    "Mean, and a band from the median to the 99th percentile; dashed the fitted model. The star is the "
    "serialisation point, the dotted line its users with their 95 % interval."
)
WHOLE = "latency"
CROSSES = " Crosses: invalid trials, left out."
HOLLOW = " Hollow: the points that the paper reports."
EARLY = 0.3
ABOVE = {"align": "right", "dx": -11, "dy": -13}
BELOW = {"align": "left", "dx": 12, "dy": 14}
LOWER = {"align": "left", "dx": 12, "dy": 29}


def latency(sweeps: Sequence[Sweep], paper: bool | None = None) -> Spec:
    """Figure 3: latency against users, log-log. The paper's points are drawn for its models, or as `paper` says."""
    return _quantiles(sweeps, WHOLE, "Latency by concurrency", "Latency", CAPTION, _of_paper(sweeps, paper))


def ttft(sweeps: Sequence[Sweep], paper: bool | None = None) -> Spec | None:
    """The time to the first token; None when nothing was streamed. The paper names no load for its initiation times."""
    marks = [one | {"concurrency": 1} for one in _of_paper(sweeps, paper) if one["initiation_s"]]
    marks = [one | {"latency_s": one["initiation_s"], "label": one["title"]} for one in marks]
    caption = "Mean, and a band from the median to the 99th percentile, of streamed requests."
    caption += " Hollow: the paper's initiation times, whose load it does not state." if marks else ""
    return _if_any(sweeps, "ttft", "Time to first token", caption, marks)


def per_token(sweeps: Sequence[Sweep]) -> Spec | None:
    """The time per token after the first; None when nothing was streamed."""
    caption = "Mean, and a band from the median to the 99th percentile, after the first token of streamed requests."
    return _if_any(sweeps, "itl", "Time per further token", caption, [])


def _if_any(sweeps: Sequence[Sweep], what: str, title: str, caption: str, marks: Sequence[Row]) -> Spec | None:
    known = any(row[f"{what}_p50_s"] is not None for sweep in sweeps for row in rows.levels(sweep, ""))
    return _quantiles(sweeps, what, title, title, caption, marks) if known else None


def _of_paper(sweeps: Sequence[Sweep], paper: bool | None) -> list[Row]:
    models = {sweep.model for sweep in sweeps}
    shown = [one for one in PAPER if paper or (paper is None and one.model in models)]
    return [
        {
            "title": one.title,
            "concurrency": one.users,
            "latency_s": one.latency_s,
            "initiation_s": one.initiation_s,
            "label": f"paper, {one.title}",
        }
        for one in shown
    ]


def _quantiles(sweeps: Sequence[Sweep], what: str, title: str, axis: str, caption: str, marks: Sequence[Row]) -> Spec:
    names = rows.names(sweeps)
    each = list(zip(sweeps, names, strict=True))
    levels = [row for sweep, name in each for row in rows.levels(sweep, name) if row[f"{what}_p50_s"] is not None]
    points = [row for sweep, name in each if (row := rows.point(sweep, name))]
    # Whole latencies alone have a model, a star and crosses.
    whole = each if what == WHOLE else []
    bad = [row for sweep, name in whole for row in rows.invalid(sweep, name)]
    line = [row for sweep, name in whole for row in rows.model_line(sweep, name)]
    seconds = [row[f"{what}_{quantile}_s"] for row in levels for quantile in rows.QUANTILES]
    seconds += [row["latency_s"] for row in marks] + [row["latency_p50_s"] for row in bad]
    users = [row["concurrency"] for row in (*levels, *marks, *bad, *points)]
    x = log_axis("concurrency", "Concurrent users", users, USERS, twos=True)
    y = log_axis(f"{what}_mean_s", axis, seconds, SECONDS)
    return layered(
        title,
        caption + (CROSSES if bad else "") + (HOLLOW if marks and whole else ""),
        sweeps,
        [
            *saturation_lines(points, x, names),
            band(levels, x, y | {"field": f"{what}_p50_s"}, f"{what}_p99_s", names),
            guide(line, x, y | {"field": "latency_s"}, names) if line else None,
            *curve(levels, x, y, names, _tip(what)),
            _crosses(bad, x, y) if bad else None,
            *(_hollow(marks, x, y, LOWER if whole else BELOW) if marks else []),
            *(_stars(points, x, y, names) if whole else []),
        ],
    )


def _stars(points: Sequence[Row], x: Spec, y: Spec, names: Sequence[str]) -> list[Spec]:
    if not points:
        return []
    at = y | {"field": "latency_s"}
    words = [_label(group, x, at, where) for group, where in _sides(points, x, ABOVE, BELOW)]
    return [stars(points, x, at, names), *words]


def _sides(points: Sequence[Row], x: Spec, usual: Spec, early: Spec) -> Iterator[tuple[list[Row], Spec]]:
    """Points with the place of their labels: far left on the axis there is no room to the left of a point."""
    low, high = x["scale"]["domain"]
    left = [row for row in points if place(row["concurrency"], low, high) < EARLY]
    rest = [row for row in points if row not in left]
    yield from ((group, where) for group, where in ((rest, usual), (left, early)) if group)


def _label(points: Sequence[Row], x: Spec, y: Spec, where: Spec) -> Spec:
    """Words beside points, where there is room for words."""
    text = {"type": "text", "style": "annotation", "opacity": {"expr": "width < 420 ? 0 : 1"}}
    return unit(points, text | where, {"x": x, "y": y, "text": {"field": "label"}})


def _crosses(bad: Sequence[Row], x: Spec, y: Spec) -> Spec:
    mark = {"type": "point", "shape": "M-1,-1L1,1M-1,1L1,-1", "style": "hollow", "size": 70, "strokeWidth": 1.6}
    tip = [{"field": "series"}, {"field": "concurrency", "title": "users"}, {"field": "why_not", "title": "invalid"}]
    return unit(bad, mark, {"x": x, "y": y | {"field": "latency_p50_s"}, "tooltip": tip})


def _hollow(marks: Sequence[Row], x: Spec, y: Spec, early: Spec) -> list[Spec]:
    """Rings, so that a star within is seen; `early` places the labels of those far left."""
    at = {"x": x, "y": y | {"field": "latency_s"}}
    ring = {"type": "point", "shape": "circle", "style": "hollow", "size": 420, "strokeWidth": 1.2}
    tip = [{"field": "label", "title": "who"}, {"field": "concurrency"}, {"field": "latency_s"}]
    words = [_label(group, x, at["y"], where | {"fontSize": 11}) for group, where in _sides(marks, x, BELOW, early)]
    return [unit(marks, ring, {**at, "tooltip": tip}), *words]


def _tip(what: str) -> list[Spec]:
    quantiles = [
        {"field": f"{what}_{q}_s", "type": "quantitative", "format": ".4~g", "title": f"{q} in s"}
        for q in rows.QUANTILES
    ]
    trials = {"field": "trials", "title": "valid trials"}
    return [{"field": "series"}, {"field": "concurrency", "title": "users"}, *quantiles, trials]
