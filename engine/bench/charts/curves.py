"""Curves by series: a line with its points, a band, a thin guide; a click in the legend leaves one series."""

from collections.abc import Sequence

from engine.bench.charts.layers import Spec, by_series, by_shape, pick, unit, unless_picked
from engine.bench.charts.rows import Row


def curve(values: Sequence[Row], x: Spec, y: Spec, names: Sequence[str], tip: Sequence[Spec]) -> list[Spec]:
    """A line and its points, which carry the tooltip, the legend's symbols and the chart's selections."""
    seen = {"x": x, "y": y, "color": by_series(names), "opacity": unless_picked(1, 0.15)}
    points = {**seen, "shape": by_shape(names), "tooltip": list(tip)}
    return [
        unit(values, {"type": "line", "strokeWidth": 2}, seen),
        unit(values, {"type": "point", "filled": True, "size": 46}, points, params=pick()),
    ]


def band(values: Sequence[Row], x: Spec, y: Spec, upper: str, names: Sequence[str]) -> Spec:
    """From y's field up to the field `upper`."""
    edges = {"x": x, "y": y, "y2": {"field": upper}, "color": by_series(names)}
    mark = {"type": "area", "interpolate": "monotone"}
    return unit(values, mark, {**edges, "opacity": unless_picked(0.16, 0.03)})


def guide(values: Sequence[Row], x: Spec, y: Spec, names: Sequence[str], dash: Spec | None = None) -> Spec:
    """A thin dashed line; `dash` is a channel that tells several guides of a series apart."""
    mark = {"type": "line", "strokeDash": [6, 4], "strokeWidth": 1.2, "clip": True}
    seen = {"x": x, "y": y, "color": by_series(names), "opacity": unless_picked(0.8, 0.1)}
    return unit(values, mark, {**seen, "strokeDash": dash} if dash else seen)
