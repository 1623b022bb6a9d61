"""Start-up times, and how the load lies on GPUs and replicas."""

from collections.abc import Sequence

from engine.bench.charts import rows
from engine.bench.charts.layers import Spec, layered, unit
from engine.bench.saturation import Sweep, imbalance

# On a telephone, labels leave room for the bars.
LABELS = {"expr": "width < 420 ? 120 : 300"}
PARTS = ["queue", "load", "first token"]


def startup(sweeps: Sequence[Sweep]) -> Spec | None:
    """From the submission to the first token, in parts; None when no start was seen."""
    names = rows.names(sweeps)
    parts = [row for sweep, name in zip(sweeps, names, strict=True) for row in rows.startup(sweep, name)]
    if not parts:
        return None
    order = list(dict.fromkeys(row["series"] for row in parts))
    bars = unit(
        parts,
        {"type": "bar", "height": {"band": 0.7}},
        {
            "y": {"field": "series", "type": "nominal", "sort": order, "axis": {"title": None, "labelLimit": LABELS}},
            "x": {"field": "seconds", "type": "quantitative", "axis": {"title": "Seconds", "tickCount": 6}},
            "color": {"field": "part", "type": "nominal", "sort": PARTS, "scale": {"domain": PARTS}},
            "order": {"field": "order", "type": "quantitative"},
            "tooltip": [{"field": "series"}, {"field": "part"}, {"field": "seconds", "format": ".3~g"}],
        },
    )
    caption = "Waiting for the scheduler, loading the model, and the first token; in no trial."
    return layered("Start-up time", caption, sweeps, [bars], rows=len(order))


def load_distribution(sweeps: Sequence[Sweep]) -> Spec | None:
    """Mean load of each GPU (or CPU) of each replica where the deployment saturates; None when none was sampled."""
    names = rows.names(sweeps)
    loads = [row for sweep, name in zip(sweeps, names, strict=True) for row in rows.device_loads(sweep, name)]
    if not loads:
        return None
    loads = [row | {"label": f"{row['device']}, {row['series']}"} for row in loads]
    y = {"field": "label", "type": "nominal", "sort": None, "axis": {"title": None, "labelLimit": LABELS}}
    x = {
        "field": "mean",
        "type": "quantitative",
        "scale": {"domain": [0, 1]},
        "axis": {"format": ".0%", "tickCount": 5, "title": "Load"},
    }
    colour = {"field": "series", "type": "nominal", "sort": None, "legend": None, "scale": {"domain": names}}
    tip = [
        {"field": "label", "title": "device"},
        {"field": "mean", "format": ".1%"},
        {"field": "concurrency", "title": "users"},
    ]
    spread = {"y": y, "x": x | {"field": "low"}, "x2": {"field": "high"}}
    return layered(
        "Load by device",
        f"At the load nearest to the serialisation point; thin lines: one standard deviation each way. {_told(sweeps)}",
        sweeps,
        [
            unit(loads, {"type": "bar", "height": {"band": 0.7}}, {"y": y, "x": x, "color": colour, "tooltip": tip}),
            unit(loads, {"type": "rule", "style": "quiet", "strokeWidth": 1.5}, spread),
        ],
        rows=len(loads),
    )


def _told(sweeps: Sequence[Sweep]) -> str:
    found = []
    for sweep, name in zip(sweeps, rows.names(sweeps), strict=True):
        shares = [share for trial in sweep.trials if trial.valid and (share := imbalance(trial.loads)) is not None]
        if shares:
            found.append(f"{name} {max(shares):.0%}")
    return f"Largest imbalance between replicas: {', '.join(found)}." if found else ""
