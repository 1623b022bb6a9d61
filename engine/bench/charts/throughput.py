"""Throughput by concurrency (the paper's Figure 4): of each request, which is what falls there, and of all together."""

from collections.abc import Sequence

import numpy as np

from engine.bench.charts import rows
from engine.bench.charts.curves import curve, guide
from engine.bench.charts.layers import COUNT, USERS, Spec, layered, log_axis, saturation_lines, stars
from engine.bench.charts.rows import Row
from engine.bench.saturation import Sweep

IDEAL = "Dashed: ideal, as if no user slowed another; dotted curve: the ceiling, all slots at work."
STAR = "The star is the serialisation point."
DASHES: Spec = {
    **{"field": "guide", "type": "nominal", "legend": None},
    "scale": {"domain": ["ideal", "ceiling"], "range": [[7, 4], [2, 3]]},
}


def per_request(sweeps: Sequence[Sweep]) -> Spec:
    """Figure 4 as the paper draws it: the tokens per second that one request sees. Without token counts, its rate."""
    tokens = counted(sweeps)
    field = "per_request_tok_s" if tokens else "per_request_rps"
    title = "Tokens/s per request" if tokens else "Requests/s of one user"
    return _rates(sweeps, field, f"{title} by concurrency", title, shared=False)


def aggregate(sweeps: Sequence[Sweep]) -> Spec:
    """All users together: tokens per second, or requests where the server counts no tokens."""
    tokens = counted(sweeps)
    field = "throughput_tok_s" if tokens else "throughput_rps"
    title = "Tokens/s of all users" if tokens else "Requests/s of all users"
    return _rates(sweeps, field, f"{title} by concurrency", title, shared=True)


def counted(sweeps: Sequence[Sweep]) -> bool:
    """Whether the tokens are known in all sweeps that have trials."""
    return all(rows.tokens_per_request(sweep) for sweep in sweeps if rows.by_level(sweep))


def _rates(sweeps: Sequence[Sweep], field: str, title: str, axis: str, shared: bool) -> Spec:
    names = rows.names(sweeps)
    each = list(zip(sweeps, names, strict=True))
    levels = [_with_rate(row) for sweep, name in each for row in rows.levels(sweep, name)]
    points = [_with_rate(row) for sweep, name in each if (row := rows.point(sweep, name))]
    guides = [row for sweep, name in each for row in _guides(sweep, name, field, shared)]
    x = log_axis("concurrency", "Concurrent users", [row["concurrency"] for row in levels], USERS, twos=True)
    y = log_axis(field, axis, [row[field] for row in (*levels, *points)], COUNT)
    tip = [
        {"field": "series"},
        {"field": "concurrency", "title": "users"},
        {"field": field, "type": "quantitative", "format": ",.4~g", "title": axis},
        {"field": "throughput_rps", "type": "quantitative", "format": ",.4~g", "title": "requests/s"},
    ]
    return layered(
        title,
        f"{IDEAL} {STAR}",
        sweeps,
        [
            *saturation_lines(points, x, names),
            guide(guides, x, y | {"field": "rate"}, names, DASHES),
            *curve(levels, x, y, names, tip),
            stars(points, x, y, names) if points else None,
        ],
    )


def _with_rate(row: Row) -> Row:
    return row | {"per_request_rps": row["throughput_rps"] / row["concurrency"]}


def _guides(sweep: Sweep, name: str, field: str, shared: bool) -> list[Row]:
    """Ideal: each user gets what the first one alone got. Ceiling: what the slots deliver, shared by the users."""
    levels = [_with_rate(row) for row in rows.levels(sweep, name)]
    if not levels:
        return []
    users = np.geomspace(levels[0]["concurrency"], levels[-1]["concurrency"], rows.LINE_POINTS).tolist()
    alone = levels[0][field] / (levels[0]["concurrency"] if shared else 1)
    lines = [("ideal", n, alone * n if shared else alone) for n in users]
    if point := rows.point(sweep, name):
        most = point["throughput_rps" if "rps" in field else "throughput_tok_s"]
        lines += [("ceiling", n, most if shared else most / n) for n in users]
    return [{"series": name, "guide": guide, "concurrency": n, "rate": rate} for guide, n, rate in lines]
