"""Charts: valid specs, the right numbers in them, simulated said everywhere, files that need nothing from outside."""

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import altair
import msgspec
import pytest

from engine.__main__ import main
from engine.bench import charts, report
from engine.bench.saturation import Load, Startup, Subject, Summary, Sweep, conclude, sweep_json
from engine.errors import ConfigurationError
from engine.settings import ROOT
from tests.unit.queueing import constant, sweep_trials

PAPER = {
    "llama-3.2-1b": (128, 0.036),
    "llama-3.2-3b": (49, 0.085),
    "llama-3.1-8b": (20, 0.336),
    "llama-3.1-70b": (2, 2.131),
}
PNG = b"\x89PNG\r\n\x1a\n"
LOADS = (Load(0, "gpu 0", 0.8, 0.1), Load(1, "gpu 0", 0.4, 0.1))


def swept(slots: int, latency_s: float, subject: Subject, startup: Startup | None = None) -> Sweep:
    """A sweep as of streams, with loads of two replicas."""
    trials = [
        replace(
            one,
            deployment=subject.deployment,
            ttft_s=Summary(0.1, 0.1, 0.2, 0.3),
            itl_s=Summary(0.01, 0.01, 0.02, 0.03),
            loads=LOADS,
        )
        for one in sweep_trials(slots, constant(latency_s * subject.time_scale))
    ]
    return conclude(subject, trials, startup)


@pytest.fixture(scope="module")
def real() -> Sweep:
    return swept(6, 0.2, Subject("real", model="qwen", engine="vllm"), Startup(1.0, 20.0, 0.5, container=True))


@pytest.fixture(scope="module")
def paper() -> list[Sweep]:
    """Four simulators with the paper's figures, ten times as slow."""
    subjects = [Subject(f"sim-{model}", model, "simulator", simulated=True, time_scale=10) for model in PAPER]
    return [swept(*PAPER[subject.model], subject) for subject in subjects]


def units(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from spec["layer"]


def texts(spec: dict[str, Any]) -> str:
    return json.dumps(spec)


def rows_of(spec: dict[str, Any], mark: str) -> list[dict[str, Any]]:
    return [row for unit in units(spec) if mark in json.dumps(unit["mark"]) for row in unit["data"]["values"]]


def test_all_charts_are_valid_vega_lite(real: Sweep, paper: list[Sweep]) -> None:
    drawn = charts.figures([real, paper[3]])
    assert set(drawn) == {"latency", "per_request", "aggregate", "ttft", "per_token", "load", "startup"}
    for spec in drawn.values():
        altair.Chart.from_dict(charts.themed(spec, "dark"), validate=True)


def test_figure_3_finds_the_papers_points_on_the_papers_scale(paper: list[Sweep]) -> None:
    # when the sweeps, ten times as slow, are drawn
    spec = charts.latency(paper)
    # then the stars lie on the paper's hollow rings
    stars = {row["series"]: row for row in rows_of(spec, "halo")}
    rings = {row["title"]: row for row in rows_of(spec, "hollow")}
    assert len(stars) == len(rings) == 4
    for sweep, name, ring in zip(paper, charts.names(paper), ("1B", "3B", "8B", "70B"), strict=True):
        assert (rings[ring]["concurrency"], rings[ring]["latency_s"]) == PAPER[sweep.model]
        assert stars[name]["concurrency"] == pytest.approx(rings[ring]["concurrency"], rel=0.03)
        assert stars[name]["latency_s"] == pytest.approx(rings[ring]["latency_s"], rel=0.03)
        assert stars[name]["low"] < stars[name]["concurrency"] < stars[name]["high"]


def test_simulated_servers_are_labelled_in_every_chart_and_the_factor_is_printed(paper: list[Sweep]) -> None:
    for name, spec in charts.figures(paper).items():
        assert "watermark" in texts(spec), name
        assert spec["title"]["subtitle"] == ["Simulated servers."]
        assert "no measurement of a model" in charts.caption(spec)
        if name not in ("load", "startup"):
            assert "measured 10 times as long" in charts.caption(spec)
    assert all(name.endswith("(simulated)") for name in charts.names(paper))


def test_real_servers_are_not_called_simulated(real: Sweep) -> None:
    assert all("imulated" not in texts(spec) for spec in charts.figures([real]).values())


def test_the_papers_points_appear_for_its_models_or_when_asked(real: Sweep) -> None:
    assert rows_of(charts.latency([real]), "hollow") == []
    assert len(rows_of(charts.latency([real], paper=True), "hollow")) == 4


def test_figure_4_falls_per_request_and_levels_off_in_all(real: Sweep) -> None:
    field = {"per_request_tok_s": charts.per_request([real]), "throughput_tok_s": charts.aggregate([real])}
    per_request = {row["concurrency"]: row["per_request_tok_s"] for row in charts.levels(real, "real")}
    in_all = {row["concurrency"]: row["throughput_tok_s"] for row in charts.levels(real, "real")}
    assert per_request[1] == pytest.approx(64 / 0.2, rel=0.01) and per_request[12] == pytest.approx(32 / 0.2, rel=0.05)
    assert in_all[6] == pytest.approx(6 * 64 / 0.2, rel=0.01) and in_all[12] == pytest.approx(in_all[6], rel=0.02)
    for spec in field.values():
        guides = {row["guide"] for row in rows_of(spec, "clip")}
        assert guides == {"ideal", "ceiling"}


def test_without_token_counts_figure_4_shows_requests(real: Sweep) -> None:
    blind = [replace(one, throughput_tok_s=None, per_request_tok_s=None) for one in real.trials]
    spec = charts.aggregate([replace(real, trials=tuple(blind))])
    assert spec["title"]["text"].startswith("Requests/s") and "throughput_tok_s" not in texts(
        spec["layer"][-1]["encoding"]
    )


def test_invalid_trials_are_crosses_and_not_in_the_curve(real: Sweep) -> None:
    spoiled = [replace(one, valid=False, why_not=("9 errors",)) if one.concurrency == 4 else one for one in real.trials]
    sweep = conclude(real, spoiled)
    spec = charts.latency([sweep])
    assert [row["why_not"] for row in rows_of(spec, "M-1,-1")] == ["9 errors"]
    assert 4 not in {row["concurrency"] for row in charts.levels(sweep, "x")}
    assert "Crosses" in charts.caption(spec)


def test_nothing_streamed_means_no_chart_of_first_tokens(real: Sweep) -> None:
    whole = replace(
        real, trials=tuple(replace(one, ttft_s=None, itl_s=None, loads=()) for one in real.trials), startup=None
    )
    assert set(charts.figures([whole])) == {"latency", "per_request", "aggregate"}


def test_an_empty_sweep_and_one_of_invalid_trials_alone_draw_without_an_error(real: Sweep) -> None:
    empty = conclude(Subject("empty"), [])
    assert charts.figures([empty]) == {}
    spoiled = tuple(replace(one, valid=False) for one in real.trials)
    for spec in charts.figures([conclude(Subject("bad"), spoiled)]).values():
        altair.Chart.from_dict(spec, validate=True)


def test_startup_is_split_and_says_where(real: Sweep) -> None:
    rows = rows_of(charts.figures([real])["startup"], "bar")
    assert [(row["part"], row["seconds"]) for row in rows] == [("queue", 1.0), ("load", 20.0), ("first token", 0.5)]
    assert rows[0]["series"] == "real, container"


def test_load_is_that_near_the_point_and_its_imbalance_is_told(real: Sweep) -> None:
    spec = charts.figures([real])["load"]
    bars = rows_of(spec, "bar")
    assert [bar["mean"] for bar in bars] == pytest.approx([0.8, 0.4]) and bars[0]["concurrency"] == 6
    assert "real 67%" in charts.caption(spec)


def test_two_sweeps_of_one_deployment_keep_names_apart(real: Sweep) -> None:
    assert charts.names([real, real]) == ["real", "real #2"]


def test_files_are_png_svg_csv_and_a_page_that_loads_nothing(real: Sweep) -> None:
    spec = charts.latency([real])
    drawing = charts.svg(spec, "dark")
    assert drawing.startswith("<svg") and "Latency by concurrency" in drawing and "#16181D" in drawing
    assert charts.png_of(drawing).startswith(PNG)
    table = list(csv.DictReader(io.StringIO(charts.as_csv(charts.levels(real, "real")))))
    assert [int(row["concurrency"]) for row in table] == sorted({one.concurrency for one in real.trials})
    assert charts.as_csv([]) == ""
    page = charts.html(spec)
    assert "vegaEmbed" in page and not re.search(r"""(src|href)=["']?(https?:)?//""", page)


@pytest.fixture
def folder(tmp_path: Path, real: Sweep) -> Path:
    """An experiment as it lies in its folder: one deployment concluded, a hostile word in its provenance."""
    made = tmp_path / "exp"
    made.mkdir()
    (made / "result.json").write_text(json.dumps([sweep_json(real)]))
    lines = [msgspec.json.encode(one) + b"\n" for one in real.trials]
    (made / "trials.jsonl").write_bytes(b"".join(lines))
    (made / "provenance.json").write_text(json.dumps({"host": "</script><script>alert(1)", "deployments": {}}))
    return made


def test_the_report_is_one_page_with_pictures_and_tables_beside_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # when
    out = tmp_path / "out"
    assert main(["bench", "report", str(folder), "--out", str(out)]) == 0
    # then
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    names = {"latency", "per_request", "aggregate", "throughput", "ttft", "per_token", "load", "startup"}
    written = {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert {path.name for path in out.iterdir()} == {"report.html", "levels.csv", "trials.csv", *written}
    page = (out / "report.html").read_text()
    assert not re.search(r"""<[^>]+(src|href)=["']?(https?:)?//""", page)
    assert "<script>alert" not in page and "agrees" in page and "queue 1 s, load 20 s, first token 500 ms" in page


def test_an_unfinished_experiment_is_reported_from_its_trials(folder: Path, real: Sweep) -> None:
    (folder / "result.json").unlink()
    facts = {"model": "m", "engine": "simulator", "simulated": True}
    (folder / "provenance.json").write_text(json.dumps({"deployments": {"real": facts}}))
    (sweep,) = report.read(folder).sweeps
    assert sweep.serialisation == real.serialisation and sweep.simulated and sweep.model == "m"


def test_trials_newer_than_the_result_are_not_left_out(folder: Path, real: Sweep) -> None:
    fewer = conclude(real, real.trials[:4], real.startup)
    (folder / "result.json").write_text(json.dumps([sweep_json(fewer)]))
    (sweep,) = report.read(folder).sweeps
    assert len(sweep.trials) == len(real.trials) and sweep.startup == real.startup


def test_a_folder_without_trials_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no trials"):
        report.read(tmp_path)


def test_a_page_of_simulators_says_so_first(paper: list[Sweep]) -> None:
    measured = [report.Measured("paper", tuple(paper[3:]), {})]
    page = report.page(measured, {}, ROOT / "templates", datetime(2026, 11, 1, tzinfo=UTC))
    assert page.index("All servers are simulated") < page.index("<h2>Found</h2>")
    assert "2.13 s" in page and "10 times as long" in page
