"""How charts look, light and dark. Colours are Okabe and Ito's (2008), told apart with any colour vision."""

from typing import Any

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
VEGA_LITE = "6.4"
FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Arial, sans-serif"
LIGHT_SERIES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D3A9B", "#555555"]
DARK_SERIES = ["#56B4E9", "#E69F00", "#2BC79B", "#F0A3CC", "#F0E442", "#FF7A4D", "#B79CF0", "#BBBBBB"]
SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left"]
STAR = (
    "M0,-1L0.235,-0.324L0.951,-0.309L0.38,0.124L0.588,0.809L0,0.4L-0.588,0.809L-0.38,0.124L-0.951,-0.309L-0.235,-0.324Z"
)


def config(theme: str = "light") -> dict[str, Any]:
    """Vega-Lite's config of a theme, `light` or `dark`."""
    dark = theme == "dark"
    ink, quiet, grid = ("#E6E6E6", "#A8A8A8", "#3A3D44") if dark else ("#1B1B1B", "#5F5F5F", "#E3E3E3")
    ground = "#16181D" if dark else "#FFFFFF"
    return {
        "background": ground,
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            **{"labelColor": quiet, "titleColor": ink, "gridColor": grid, "domainColor": quiet, "tickColor": quiet},
            **{"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 8},
        },
        "legend": {
            **{"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "orient": "bottom", "title": None},
            **{"labelLimit": 260, "symbolSize": 90, "symbolOpacity": 1, "columns": {"expr": "width < 420 ? 1 : 2"}},
        },
        "title": {
            **{"color": ink, "subtitleColor": quiet, "anchor": "start", "frame": "bounds", "offset": 14},
            **{
                "fontSize": 15,
                "fontWeight": 600,
                "subtitleFontSize": 11.5,
                "subtitlePadding": 6,
                "subtitleLineHeight": 15,
            },
        },
        "range": {"category": DARK_SERIES if dark else LIGHT_SERIES},
        "style": {
            "annotation": {"color": ink, "fontSize": 12},
            "quiet": {"color": quiet},
            "hollow": {"color": ink, "filled": False, "opacity": 1},
            "halo": {"stroke": ground},
            "watermark": {"color": ink, "fontWeight": 700, "opacity": 0.1},
        },
    }
