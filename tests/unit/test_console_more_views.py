"""Traffic, experiments, crawls and feedback as the console shows them, without a browser."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.console.views import crawls, experiments, feedback, requests, traffic
from engine.bench import charts
from engine.errors import ConfigurationError
from tests.unit import console_more as data

NOW = datetime(2026, 11, 28, 12, 2, 30, tzinfo=UTC)


def test_a_window_holds_whole_steps_and_the_one_that_runs() -> None:
    begin, end, step_s = traffic.window("1 hour", NOW)
    assert (end, step_s) == (datetime(2026, 11, 28, 12, 3, tzinfo=UTC), 60) and end - begin == timedelta(hours=1)
    for name, (reach_s, step_s) in traffic.RANGES.items():
        begin, end, _ = traffic.window(name, NOW)
        assert begin.timestamp() % step_s == end.timestamp() % step_s == 0, name
        assert (end - begin).total_seconds() == reach_s and begin < NOW < end, name


def test_traffic_is_summed_over_all_rows_and_quantiles_come_from_all_buckets() -> None:
    slow = data.traffic_row(model="qwen", requests=20, latency_s=data.shape(0, 0, 0, 14), bypasses=2)
    tiles = {tile.name: tile for tile in traffic.totals(data.traffic(data.traffic_row(), slow))}
    assert tiles["Requests"].value == "80" and tiles["Errors"].value == "10 %" and tiles["Errors"].tone == "bad"
    # 28 of 70 answers took up to 0.2 s, 28 up to 0.4 s: the 35th lies a quarter into the second bucket.
    assert tiles["Latency, p95"].note == "p50 250 ms" and tiles["Latency, p95"].value == "400 ms"
    assert tiles["Workflows bypassed"].value == "2"
    assert traffic.quantile([0, 0], [1.0], 0.5) is None


def test_errors_and_finish_reasons_come_in_words_the_most_frequent_first() -> None:
    told = data.traffic(data.traffic_row())
    assert traffic.kinds(told, "errors", traffic.ERRORS) == [("too many requests (429)", 3), ("failed (5xx)", 1)]
    assert traffic.kinds(told, "finish_reasons", traffic.FINISHES)[0] == ("the model was done", 40)


def test_steps_without_a_request_are_zero_and_have_no_times() -> None:
    begin, end, _ = traffic.window("1 hour", NOW)
    found = traffic.over_time(data.traffic(data.traffic_row(queued_s=120.0)), "model", {}, begin, end)
    assert len(found) == 60 and list(found["Requests per s"]).count(0.0) == 59
    there = found[found["Requests per s"] > 0].iloc[0]
    assert (there["Requests per s"], there["Errors per min"], there["First token p95"]) == (1.0, 4.0, 0.09)
    assert list(found["Waiting requests"]).count(0.0) == 59 and there["Waiting requests"] == 2.0
    assert found["Latency p95"].notna().sum() == 1
    chart = traffic.line(found, "Latency p95", "Latency", "1 hour")
    assert [row["value"] for row in chart["data"]["values"]] == [0.38]
    assert chart["encoding"]["x"]["scale"]["domain"] == ["2026-11-28T11:03:00+00:00", "2026-11-28T12:02:00+00:00"]


def test_series_of_keys_go_by_their_names() -> None:
    begin, end, _ = traffic.window("1 hour", NOW)
    row = {**data.traffic_row(), "key_id": "id-lecture"}
    found = traffic.over_time(data.traffic(row), "key", {"id-lecture": "lecture"}, begin, end)
    assert set(found["Series"]) == {"lecture"}
    assert set(traffic.over_time(data.traffic(row), "none", {}, begin, end)["Series"]) == {"all"}


def test_the_request_log_tells_times_in_milliseconds() -> None:
    [row] = requests.requests([data.request()], {"id-lecture": "lecture"}).to_dict("records")
    assert row["Latency, ms"] == 1234.5 and row["Key"] == "lecture" and row["Ended by"] == "stop"


def test_verdicts_tell_their_outcome_and_what_was_violated_first() -> None:
    rows = [
        {"at": data.AT, "key_id": "k", "model": "m", "accepted": None, "bypassed": "no capacity", "violated": []},
        {"at": data.AT, "key_id": "k", "model": "m", "accepted": True, "bypassed": None, "violated": [["honest"], []]},
    ]
    found = requests.verdicts(rows, {})
    assert list(found["Outcome"]) == ["bypassed", "accepted"] and list(found["Violated at first"]) == ["", "honest"]


def test_experiments_are_filtered_by_words_and_state() -> None:
    rows = [data.experiment("a"), data.experiment("b", "stopped", deployments=["llama"], target="nginx")]
    assert [row["id"] for row in experiments.matching(rows, "llama NGINX", None)] == ["b"]
    assert [row["id"] for row in experiments.matching(rows, "", "done")] == ["a"]
    assert list(experiments.table(rows)["Trials"]) == ["15 of 20", "15 of 20"]


def test_progress_is_of_the_trials_known_to_be_needed_and_whole_when_done() -> None:
    assert experiments.progress(data.experiment(state="running")) == 0.75
    assert experiments.progress(data.experiment()) == 1.0
    assert experiments.progress(data.experiment(state="starting", trial_list=[], planned=0)) == 0.0


def test_a_running_sweep_tells_what_it_does_how_long_still_and_what_was_left_out() -> None:
    bad = data.trial(16, valid=False, why_not=["others used 40% of the CPU"])
    tiles = {t.name: t for t in experiments.tiles(data.experiment(state="running", trial_list=[*data.trials(), bad]))}
    assert tiles["Now"].value == "8 users, repeat 2" and tiles["Left in this round"].value == "90 s"
    assert tiles["Valid"].note == "1 left out" and tiles["Valid"].tone == "warn"
    done = {tile.name: tile.value for tile in experiments.tiles(data.experiment())}
    assert done["Now"] == done["Left in this round"] == "–"
    shown = experiments.trials([bad])
    assert list(shown["Why not"]) == ["others used 40% of the CPU"] and list(shown["Mean, ms"]) == [398.4]


def test_results_are_the_numbers_of_the_sweep() -> None:
    sweeps = charts.sweeps_so_far([], data.trials(), data.provenance())
    [row] = experiments.results(sweeps, charts.names(sweeps))
    star = sweeps[0].serialisation
    assert star is not None and 3.8 < star.concurrency < 4.2
    assert row[0] == "sim (simulated)" and row[1] == f"{star.concurrency:.2f}" and row[8] == "15 of 15"
    none = experiments.results(charts.sweeps_so_far([], data.trials()[:2], {}), ["sim"])[0]
    assert none[1] == "not seen"


def test_only_what_may_explain_other_numbers_is_told_as_a_difference() -> None:
    mine = data.provenance()
    other = data.provenance("sim-2", arguments={"capacity": "8"}, begun_at="later")
    found = experiments.differences({"a": mine, "b": {**other, "command": ["other"], "cpus": 4}})
    assert {row["Fact"]: (row["a"], row["b"]) for row in found.to_dict("records")} == {
        "cpus": ("2", "4"),
        "deployment.name": ("sim", "sim-2"),
        "deployment.arguments.capacity": ("4", "8"),
    }
    assert experiments.differences({"a": mine, "b": mine}).empty


def test_loads_are_those_of_gpus_or_of_the_cpu_where_there_is_none() -> None:
    from tests.unit.console_data import replica, row

    none = replica(1, load={"at": data.AT, "busy": 0, "cpu_percent": 30.0, "gpus": []})
    found = dict(experiments.loads(row(count=1) | {"replicas": [replica(), none, replica(2, load=None)]}))
    assert [share.count for share in found["Replica 0, GPU 0 (A100)"]] == [90, 10]
    assert [share.count for share in found["Replica 1, CPU"]] == [30, 70] and len(found) == 2


def test_freshness_counts_each_page_once_by_its_age() -> None:
    ages = (0.5, 3, 20, 100, 400)
    visits = [(NOW - timedelta(days=age)).isoformat(timespec="seconds") for age in ages]
    assert [share.count for share in crawls.freshness([*visits, ""], NOW)] == [1, 1, 1, 1, 1]


def test_whatever_is_typed_as_a_seed_is_no_option_of_the_command() -> None:
    given = {"max_pages": 5, "max_hosts": 2, "delay_s": 0.0, "contact": " ", "resolve": "a:80:b", "allow_private": True}
    found = crawls.arguments("https://a.example\nb.example", **given)  # type: ignore[arg-type]
    assert found[:2] == ["https://a.example", "b.example"] and "--allow-private" in found
    assert "--resolve=a:80:b" in found and not any(one.startswith("--contact") for one in found)
    with pytest.raises(ConfigurationError, match="no address"):
        crawls.arguments("https://a.example --sitemap=x", **given)  # type: ignore[arg-type]


def test_a_generation_that_cannot_be_read_is_still_listed() -> None:
    whole = {"name": "g2", "current": True, "built": data.AT, "pages": 2, "chunks": 5, "embedder": "e5", "gate": {}}
    rows = crawls.generations([whole, {"name": "g1", "current": False}])
    assert rows[0][3:6] == (2, 5, "2.5") and rows[1][0] == "g1" and {len(row) for row in rows} == {9}


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (200, 1), (201, 2)])
def test_there_is_at_least_one_page(count: int, pages: int) -> None:
    assert crawls.pages(count, 200) == pages


def test_questions_that_mean_the_same_stand_together_the_most_asked_first() -> None:
    rows = [
        data.said("Wann öffnet die Mensa?"),
        data.said("Wie bekomme ich einen Parkausweis?", reason="x"),
        data.said("Bekomme ich als Student einen Parkausweis?", "dislike"),
        data.said("Wo bekomme ich den Parkausweis", at="2026-11-29T12:00:00Z"),
        data.said("How do I get a locker?", language="en"),
    ]
    found = feedback.clusters(rows)
    assert len(found) == 3 and [len(one.rows) for one in found] == [3, 1, 1]
    first = feedback.table(found)[0]
    assert first[0] == 3 and first[2:4] == (2, 1) and first[5] == "2026-11-29 12:00:00" and first[6] == "x"


def test_questions_without_a_telling_word_do_not_break_the_clusters() -> None:
    assert len(feedback.clusters([data.said("?"), data.said("?"), data.said("Wo ist es?"), data.said("")])) >= 2


def test_a_thousand_different_questions_are_put_together_quickly() -> None:
    rows = [data.said(f"Wann ist die Prüfung in Fach{number % 40} und Thema{number}?") for number in range(1000)]
    assert sum(len(one.rows) for one in feedback.clusters(rows)) == 1000
