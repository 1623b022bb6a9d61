"""Charts as files: PNG, SVG, CSV. Nothing is loaded from anywhere."""

import csv
import io
import textwrap
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from engine.bench.charts.layers import Spec
from engine.bench.charts.rows import Row
from engine.bench.charts.themes import SCHEMA, VEGA_LITE, config

WIDTH = 600
PIXELS_A_CHARACTER = 5.9
SCALE = 2.0
NOWHERE: list[str] = []
GLOBAL = "window.vegaEmbed = vegaEmbed;"


def themed(spec: Spec, theme: str = "light") -> Spec:
    """The chart with its colours, `light` or `dark`."""
    return {**spec, "config": config(theme)}


def caption(spec: Spec, notice: bool = True) -> str:
    """What the chart's marks mean, to stand below it on a page; with the notice that servers are simulated, if any."""
    return " ".join(_words(spec) if notice else _words(spec)[:1])


def _words(spec: Spec) -> list[str]:
    return [words for words in spec.get("usermeta", {}).values() if words]


def sized(spec: Spec, width: int) -> Spec:
    """The chart for a picture: of a plot that many pixels wide, with its caption as subtitle."""
    if "hconcat" in spec:
        return {**spec, "hconcat": [sized(one, width) for one in spec["hconcat"]]}
    most = int(width / PIXELS_A_CHARACTER)
    lines = [line for words in _words(spec) for line in textwrap.wrap(words, most)]
    title = {**spec["title"], "subtitle": lines}
    bare = {key: value for key, value in spec.items() if key != "autosize"}
    return {**bare, "width": width, "title": title, "layer": _known(spec["layer"], width, spec["height"])}


def _known(part: Any, width: int, height: Any) -> Any:
    """`width` and `height` in expressions as numbers: side by side, these words mean the whole picture's."""
    if isinstance(part, list):
        return [_known(one, width, height) for one in part]
    if not isinstance(part, dict):
        return part
    if set(part) == {"expr"}:
        known = part["expr"].replace("width", str(width))
        return {"expr": known.replace("height", str(height)) if isinstance(height, int) else known}
    return {key: value if key == "data" else _known(value, width, height) for key, value in part.items()}


def beside(*specs: Spec) -> Spec:
    """Charts side by side, for a picture; each keeps its own scales."""
    inner = [{key: value for key, value in spec.items() if key not in ("$schema", "autosize")} for spec in specs]
    return {"$schema": SCHEMA, "hconcat": inner, "spacing": 40}


def png(spec: Spec, theme: str = "light", width: int = WIDTH) -> bytes:
    """The chart as a PNG image, for print and slides: two pixels each way for one of the plot."""
    return png_of(svg(spec, theme, width))


def png_of(drawn: str) -> bytes:
    """An SVG image as a PNG image."""
    return bytes(_vega().svg_to_png(drawn, scale=SCALE))


def svg(spec: Spec, theme: str = "light", width: int = WIDTH) -> str:
    """The chart as an SVG image."""
    drawn = themed(sized(spec, width), theme)
    return str(_vega().vegalite_to_svg(drawn, vl_version=VEGA_LITE, allowed_base_urls=NOWHERE))


def html(spec: Spec, theme: str = "light") -> str:
    """The chart alone as an interactive page in one file."""
    return str(_vega().vegalite_to_html(themed(spec, theme), vl_version=VEGA_LITE, bundle=True))


def javascript() -> str:
    """Vega, Vega-Lite and vega-embed in one script, for a page of several charts."""
    return str(_vega().javascript_bundle(GLOBAL, vl_version=VEGA_LITE))


def as_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV with a head; empty for none."""
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _vega() -> ModuleType:
    """Imported late: it holds a JavaScript engine, and a page that draws in the browser needs none."""
    import vl_convert

    return vl_convert
