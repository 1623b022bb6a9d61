"""Saturation, live benchmark, traffic, feedback and the index on a fake gateway, without a browser."""

from pathlib import Path

import pytest

from apps.console.screens.live import task
from engine.errors import ConfigurationError
from tests.unit import console_more as data
from tests.unit.console_more import MoreClient
from tests.unit.test_console_screens import button, opened, text


@pytest.fixture
def client() -> MoreClient:
    return MoreClient()


def test_stored_experiments_show_what_was_found_their_charts_and_their_provenance(client: MoreClient) -> None:
    app = opened("saturation", client)
    shown = text(app)
    assert "sim (simulated)" in shown and "15 of 15" in shown and "deployments.sim.engine" in shown
    assert len(app.get("vega_lite_chart")) >= 3 and "All servers are simulated" in shown
    labels = [one.proto.label for one in app.get("download_button")]
    assert labels[:4] == ["PNG", "HTML", "CSV of levels", "CSV of trials"]


def test_two_experiments_tell_what_differs(client: MoreClient) -> None:
    other = data.provenance("sim", arguments={"capacity": "8"})
    client.found = [data.experiment(), data.experiment("e-2", provenance=other)]
    app = opened("saturation", client, compared=["e-1", "e-2"])
    shown = text(app)
    assert "deployment.arguments.capacity" in shown and "sim #2 (simulated)" in shown


def test_an_experiment_is_deleted_after_a_question(client: MoreClient) -> None:
    app = opened("saturation", client)
    button(app, "Delete").click().run()
    assert client.asked == []
    button(app, "Delete it").click().run()
    assert client.asked == [("delete", "e-1")] and "No experiment yet" in text(app)


def test_without_experiments_and_cards_the_screen_says_how_to_make_some(client: MoreClient) -> None:
    client.found = []
    assert "Start one under Live benchmark" in text(opened("saturation", client))
    cards = opened("saturation", client, **{"saturation-part": "Capacity cards"})
    assert "No capacity card yet" in text(cards)


def test_a_sweep_is_started_watched_stopped_and_resumed(client: MoreClient) -> None:
    app = opened("live", client)
    button(app, "Start").click().run()
    [(_, names, options)] = client.asked
    assert names == ["llama"] and options["repeats"] == 3 and options["task"] == {} and options["objective_ms"] is None
    assert next(one for one in app.selectbox if one.label == "Watch").value == "e-new"
    assert "as soon as a trial has ended" in text(app)
    client.found[0] = data.experiment("e-new", "running")
    app.run()
    assert "8 users, repeat 2" in text(app) and len(app.get("vega_lite_chart")) >= 3
    button(app, "Stop").click().run()
    button(app, "Resume").click().run()
    assert [one[0] for one in client.asked] == ["start", "stop", "resume"]


def test_a_viewer_asks_only_for_new_trials_and_shows_all(client: MoreClient) -> None:
    client.found = [data.experiment(state="running", trial_list=data.trials()[:6])]
    app = opened("live", client)
    client.found = [data.experiment(state="running")]
    app.run()
    assert len(app.dataframe[0].value) == 15 and "15 of 15" in text(app)


def test_a_task_that_is_none_starts_nothing(client: MoreClient) -> None:
    app = opened("live", client)
    app.text_area[0].input("[1]")
    button(app, "Start").click().run()
    assert client.asked == [] and "JSON object" in text(app)
    assert task(' {"prompt": "x"} ') == {"prompt": "x"}
    with pytest.raises(ConfigurationError, match="no JSON"):
        task("{")


def test_without_a_ready_model_there_is_nothing_to_sweep(client: MoreClient) -> None:
    client.rows, client.found = [], []
    assert "No model is ready" in text(opened("live", client))


def test_traffic_tells_the_queue_the_sums_errors_reasons_and_charts(client: MoreClient) -> None:
    app = opened("traffic", client)
    shown = text(app)
    for part in ("Waiting", "too many requests (429)", "max_tokens or context", "Completion tokens"):
        assert part in shown
    assert len(app.get("vega_lite_chart")) == 6
    client.told["traffic"] = data.traffic()
    assert "No request has ended in this time" in text(opened("traffic", client))


def test_verdicts_and_the_request_log_are_drawn(client: MoreClient) -> None:
    app = opened("traffic", client, **{"traffic-part": "Verdicts"})
    assert "honest" in text(app) and list(app.dataframe[0].value["Outcome"]) == ["accepted"]
    log = opened("traffic", client, **{"traffic-part": "Request log"})
    assert list(log.dataframe[0].value["Key"]) == ["lecture"]
    client.told["requests"] = []
    assert "No request matches" in text(opened("traffic", client, **{"traffic-part": "Request log"}))


def test_questions_that_are_alike_stand_together(client: MoreClient) -> None:
    app = opened("feedback", client)
    assert "4 questions in 1 group of" in text(app)
    app.toggle[0].set_value(True).run()
    assert len(app.dataframe[0].value) == 4
    client.told["feedback_list"] = []
    assert "Nothing was said yet" in text(opened("feedback", client))


def test_without_a_crawl_or_an_index_the_screen_says_how_to_begin(
    client: MoreClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_LOCAL", str(tmp_path))
    app = opened("index", client)
    assert "Nothing was crawled yet" in text(app)
    button(app, "Begin").click().run()
    assert "Say where it begins" in text(app)
    index = opened("index", client, **{"index-part": "Index"})
    assert "There is no index yet" in text(index) and button(index, "Roll back").disabled
    button(index, "Build from all crawls").click().run()
    assert "The build did not begin: rag: nothing was crawled" in text(index)
