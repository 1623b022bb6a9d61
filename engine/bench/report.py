"""A report of experiments: one HTML page that needs nothing else, and pictures and tables beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from engine.bench import charts
from engine.bench.charts import rows, themes
from engine.bench.charts.layers import simulated
from engine.bench.saturation import Sweep, imbalance
from engine.bench.saturation.sofar import sweeps_so_far
from engine.errors import ConfigurationError
from engine.experiments import Experiment
from engine.fleet.deployments import write_atomically

PAGE = "report.html"
FIGURE_4 = ("per_request", "aggregate")


@dataclass(frozen=True)
class Measured:
    """One experiment's folder, read."""

    id: str
    sweeps: tuple[Sweep, ...]
    provenance: Mapping[str, Any]


def read(path: Path) -> Measured:
    """An experiment's folder, finished or not; raises ConfigurationError when no trial is in it."""
    found = Experiment(path)
    scale = found.options().time_scale if (path / "options.json").exists() else 1.0
    try:
        sweeps = sweeps_so_far(found.result(), found.trials(), found.provenance(), scale)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    if not any(sweep.trials for sweep in sweeps):
        raise ConfigurationError(f"{path} holds no trials: neither result.json nor trials.jsonl has one")
    return Measured(found.id, tuple(sweeps), found.provenance())


def write(measured: Sequence[Measured], out: Path, templates: Path, now: datetime) -> Path:
    """Writes report.html, a PNG and an SVG per chart, levels.csv and trials.csv; returns the page's path."""
    sweeps = [sweep for one in measured for sweep in one.sweeps]
    out.mkdir(parents=True, exist_ok=True)
    drawn = charts.figures(sweeps)
    pictures = {**drawn, "throughput": charts.beside(*(drawn[name] for name in FIGURE_4))}
    for name, spec in pictures.items():
        drawing = charts.svg(spec)
        write_atomically(out / f"{name}.svg", drawing)
        _write_bytes(out / f"{name}.png", charts.png_of(drawing))
    for name, text in tables(sweeps).items():
        write_atomically(out / name, text)
    write_atomically(out / PAGE, page(measured, drawn, templates, now))
    return out / PAGE


def tables(sweeps: Sequence[Sweep]) -> dict[str, str]:
    """The CSV files: a row per level of valid trials, a row per trial."""
    named = list(zip(sweeps, rows.names(sweeps), strict=True))
    return {
        "levels.csv": charts.as_csv([row for sweep, name in named for row in rows.levels(sweep, name)]),
        "trials.csv": charts.as_csv([row for sweep, name in named for row in rows.trials(sweep, name)]),
    }


def page(measured: Sequence[Measured], drawn: Mapping[str, charts.Spec], templates: Path, now: datetime) -> str:
    """The page: charts that can be zoomed, tables, provenance, in the reader's light or dark. Nothing is loaded."""
    sweeps = [sweep for one in measured for sweep in one.sweeps]
    environment = Environment(
        loader=FileSystemLoader(templates / "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"seconds": rows.duration, "users": rows.short}
    return environment.get_template("report.html.j2").render(
        named=list(zip(sweeps, rows.names(sweeps), strict=True)),
        measured=measured,
        notice=simulated(sweeps),
        figures={name: charts.caption(spec, notice=False) for name, spec in drawn.items()},
        specs=_script({name: {**spec, "title": {"text": spec["title"]["text"]}} for name, spec in drawn.items()}),
        themes=_script({theme: themes.config(theme) for theme in ("light", "dark")}),
        javascript=Markup(charts.javascript().replace("</script", "<\\/script")),
        csv=tables(sweeps),
        now=now,
        imbalances=[_imbalance(sweep) for sweep in sweeps],
        pretty=lambda value: json.dumps(value, indent=2, ensure_ascii=False),
    )


def _imbalance(sweep: Sweep) -> float | None:
    return max((share for one in sweep.trials if (share := imbalance(one.loads)) is not None), default=None)


def _script(value: Any) -> Markup:
    """JSON that may stand within a script element."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))


def _write_bytes(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    temporary.replace(path)
