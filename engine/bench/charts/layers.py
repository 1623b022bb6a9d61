"""The parts that charts are laid of: Vega-Lite units as plain dicts."""

import math
from collections.abc import Sequence
from typing import Any

from engine.bench.charts.rows import Row
from engine.bench.charts.themes import SCHEMA, SHAPES, STAR
from engine.bench.saturation import Sweep

Spec = dict[str, Any]

HEIGHT = 340
BAR = 28
# The ticks of a decade, by how far the axis reaches.
STEPS = ((12, (1, 1.5, 2, 3, 4, 5, 6, 8)), (3000, (1, 2, 5)), (math.inf, (1,)))
SECONDS = "datum.value < 0.9995 ? format(datum.value * 1000, '~g') + ' ms' : format(datum.value, '~g') + ' s'"
USERS = "format(datum.value, ',~r')"
COUNT = "datum.value >= 1 ? format(datum.value, ',~r') : format(datum.value, '~g')"


def layered(
    title: str, caption: str, sweeps: Sequence[Sweep], layers: Sequence[Spec | None], rows: int | None = None
) -> Spec:
    """A chart of layers; what is simulated is said in its subtitle, in its caption, and across it.

    With `rows` it is as high as that many bars need, else as high as all curves.
    """
    marks = [one for one in layers if one is not None]
    notice = simulated(sweeps, scaled=rows is None)
    height = HEIGHT if rows is None else BAR * rows
    mark = [watermark(height)] if notice else []
    # Curves leave it to be seen below them; bars would hide it.
    below, above = (mark, []) if rows is None else ([], mark)
    return {
        "$schema": SCHEMA,
        "description": f"{title}. {caption} {notice}".strip(),
        "title": {"text": title, "subtitle": ["Simulated servers."] if notice else []},
        "usermeta": {"caption": caption, "notice": notice},
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "layer": [*below, *marks, *above],
    }


def simulated(sweeps: Sequence[Sweep], scaled: bool = True) -> str:
    """The words that stand wherever simulated servers are shown; empty when there are none.

    `scaled`: times are shown, and so divided by the time scale.
    """
    found = [sweep for sweep in sweeps if sweep.simulated]
    if not found:
        return ""
    who = "All servers are" if len(found) == len(sweeps) else "Servers marked so are"
    factors = sorted({sweep.time_scale for sweep in found})
    factor = ", ".join(f"{one:g}" for one in factors if one != 1)
    told = f" Their times were measured {factor} times as long, and are divided by this." if factor and scaled else ""
    return f"{who} simulated: this checks the instrument, and is no measurement of a model.{told}"


def watermark(height: int) -> Spec:
    """Across the plot, as large as it allows."""
    mark: Spec = {"type": "text", "style": "watermark", "text": "simulated", "align": "center", "baseline": "middle"}
    mark |= {"angle": 340} if height >= HEIGHT else {}
    mark |= {"fontSize": {"expr": f"min(52, width / 8, {height} / 2)"}}
    return unit([{}], mark | {"x": {"expr": "width / 2"}, "y": {"expr": "height / 2"}}, {})


def unit(values: Sequence[Row], mark: str | Spec, encoding: Spec, **more: Any) -> Spec:
    return {"data": {"values": list(values)}, "mark": mark, "encoding": encoding, **more}


def by_series(names: Sequence[str]) -> Spec:
    """The colour of a series, the same in all layers and charts."""
    return {"field": "series", "type": "nominal", "sort": None, "scale": {"domain": list(names)}}


def by_shape(names: Sequence[str]) -> Spec:
    shapes = [SHAPES[index % len(SHAPES)] for index in range(len(names))]
    return {"field": "series", "type": "nominal", "sort": None, "scale": {"domain": list(names), "range": shapes}}


def log_axis(field: str, title: str, values: Sequence[float], label: str, twos: bool = False) -> Spec:
    """A logarithmic channel with round ticks: 1, 2, 4, 8, … for users (`twos`), else 1, 2, 5, 10, …"""
    low, high = bounds(values)
    ticks = powers_of_two(low, high) if twos else one_two_five(low, high)
    axis = {"values": ticks, "labelExpr": label, "labelOverlap": "greedy", "title": title}
    scale = {"type": "log", "domain": [low, high], "nice": False, "clamp": False}
    return {"field": field, "type": "quantitative", "axis": axis, "scale": scale}


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """A little air around positive values, the same on both sides in a logarithmic measure."""
    known = [value for value in values if value and value > 0]
    if not known:
        return 1.0, 10.0
    low, high = min(known), max(known)
    air = max((high / low) ** 0.06, 1.12 if high / low > 1.5 else 1.6)
    return low / air, high * air


def powers_of_two(low: float, high: float) -> list[float]:
    return [2.0**power for power in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]


def place(value: float, low: float, high: float) -> float:
    """Where a value lies on a logarithmic axis: 0 at its start, 1 at its end."""
    return math.log(value / low) / math.log(high / low)


def one_two_five(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = next(steps for most, steps in STEPS if high / low < most)
    ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def stars(points: Sequence[Row], x: Spec, y: Spec, names: Sequence[str]) -> Spec:
    """The serialisation points as stars with a halo."""
    mark = {
        "type": "point",
        "shape": STAR,
        "filled": True,
        "size": 190,
        "opacity": 1,
        "style": "halo",
        "strokeWidth": 1,
    }
    tip = [
        {"field": "series"},
        {"field": "concurrency", "type": "quantitative", "format": ".4~g", "title": "users"},
        {"field": "low", "type": "quantitative", "format": ".4~g", "title": "95 % from"},
        {"field": "high", "type": "quantitative", "format": ".4~g", "title": "95 % to"},
        {"field": "latency_s", "type": "quantitative", "format": ".4~g", "title": "latency in s"},
        {"field": "confirmed_by", "title": "confirmed by"},
    ]
    return unit(points, mark, {"x": x, "y": y, "color": by_series(names), "tooltip": tip})


def saturation_lines(points: Sequence[Row], x: Spec, names: Sequence[str]) -> list[Spec]:
    """A dotted vertical at each point, in its 95 % interval as a band."""
    colour = by_series(names)
    edges = {"x": x | {"field": "low"}, "x2": {"field": "high"}, "color": colour}
    dotted = {"type": "rule", "strokeDash": [2, 3], "strokeWidth": 1.2, "opacity": 0.9}
    return [
        unit(points, {"type": "rect", "opacity": 0.22}, edges),
        unit(points, dotted, {"x": x, "color": colour}),
    ]


def pick() -> list[Spec]:
    """Click a name in the legend to see its series alone; drag and scroll to look closer."""
    return [
        {"name": "pick", "select": {"type": "point", "fields": ["series"]}, "bind": "legend"},
        {"name": "view", "select": "interval", "bind": "scales"},
    ]


def unless_picked(shown: float, hidden: float) -> Spec:
    return {"condition": {"param": "pick", "value": shown, "empty": True}, "value": hidden}
