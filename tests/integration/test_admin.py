"""What the gateway tells operators and keys: overview, limits, requests, verdicts, usage, probes."""

from datetime import UTC, datetime

import pytest

from engine.fleet.deployments import Snapshot
from engine.fleet.hosts import GpuSample, HostFile
from engine.gateway.keys import Keys
from engine.gateway.records.journal import Journal
from tests.integration.test_workflow_routes import HELLO, Running
from tests.processes import simulator

AT = datetime(2026, 11, 28, tzinfo=UTC)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with simulator("--latency-ms", "1", "--capacity", "4", name="sim") as server:
        running = Running(tmp_path_factory.mktemp("admin") / "home", ("sim", [server], {"capacity": "4"}))
        yield running
        running.stop()


def chat(gateway, secret, **more):
    with gateway.http(secret) as http:
        return http.post("/v1/chat/completions", json={"model": "sim", "messages": HELLO, "max_tokens": 3, **more})


def test_a_key_is_told_who_it_is_and_what_it_used_today(gateway):
    with gateway.http(gateway.key("a lecturer")) as http:
        told = http.get("/api/whoami").json()
        assert (told["name"], told["role"], told["tokens_today"]) == ("a lecturer", "user", 0)
        assert told["limits"]["parallel"] is None and "hash" not in told
        assert http.get("/api/overview").status_code == 403
    with gateway.http("sk-engine-wrong") as http:
        assert http.get("/api/whoami").status_code == 401


def test_a_keys_limits_are_changed_one_by_one_and_hold_at_once(gateway):
    with gateway.http() as http:
        made = http.post("/api/keys", json={"name": "limited", "parallel": 7}).json()
        path = f"/api/keys/{made['id']}"
        changed = http.patch(path, json={"models": ["sim"], "requests_per_minute": 2}).json()["limits"]
        assert (changed["models"], changed["requests_per_minute"], changed["parallel"]) == (["sim"], 2, 7)
        assert [chat(gateway, made["key"]).status_code for _ in range(3)] == [200, 200, 429]
        freed = http.patch(path, json={"requests_per_minute": None, "models": []}).json()["limits"]
        assert (freed["requests_per_minute"], freed["models"], freed["parallel"]) == (None, [], 7)
        assert chat(gateway, made["key"]).status_code == 200
        assert http.patch(path, json={"parallel": 0}).status_code == 422
        http.delete(path)
        assert "is revoked" in http.patch(path, json={"parallel": 1}).json()["error"]["message"]
        assert http.patch("/api/keys/none", json={}).status_code == 404


def test_another_gateway_hears_of_changed_limits(gateway):
    made, secret = gateway.keys.create("elsewhere", "user")
    assert gateway.keys.known(secret.encode()).limits.parallel is None
    with gateway.http() as http:
        http.patch(f"/api/keys/{made.id}", json={"parallel": 3})
    other = Keys(gateway.keys.url)
    other.refresh()
    assert other.known(secret.encode()).limits.parallel == 3
    with gateway.http() as http:
        http.patch(f"/api/keys/{made.id}", json={"parallel": 4})
    other.refresh()
    assert other.known(secret.encode()).limits.parallel == 4
    other.close()


def test_the_last_requests_are_told_the_latest_first_and_filtered(gateway):
    secret = gateway.key("logged")
    good, bad = chat(gateway, secret), chat(gateway, secret, model="nothing")
    assert (good.status_code, bad.status_code) == (200, 404)
    with gateway.http() as http:
        key = next(key for key in http.get("/api/keys").json() if key["name"] == "logged")["id"]
        rows = http.get("/api/requests", params={"key": key}).json()
        assert [row["status"] for row in rows] == [404, 200] and "prompt" not in rows[0]
        assert rows[1]["replica"] == "sim/0" and rows[1]["completion_tokens"] == 3
        [wrong] = http.get("/api/requests", params={"key": key, "outcome": "error"}).json()
        assert wrong["id"] == rows[0]["id"]
        assert http.get("/api/requests", params={"key": key, "outcome": "ok", "model": "sim"}).json() == rows[1:]
        assert http.get("/api/requests", params={"id": rows[1]["id"]}).json() == rows[1:]
        assert http.get("/api/requests", params={"key": key, "slower_than_s": 99}).json() == []
        assert len(http.get("/api/requests", params={"limit": 1}).json()) == 1


def test_usage_is_summed_by_what_is_asked_for(gateway):
    secrets = [gateway.key(f"summed {n}") for n in range(2)]
    for secret in secrets:
        assert chat(gateway, secret).status_code == 200
    with gateway.http() as http:
        rows = http.get("/api/usage", params={"by": ["model"]}).json()
        assert [row["model"] for row in rows] == sorted({row["model"] for row in rows})
        sim = next(row for row in rows if row["model"] == "sim")
        assert sim["requests"] >= 2 and "key" not in sim and "day" not in sim
        by_key = http.get("/api/usage", params={"by": ["key"]}).json()
        assert sum(row["requests"] for row in by_key) == sum(row["requests"] for row in rows)
        csv = http.get("/api/usage", params={"by": ["day", "model"], "format": "csv"}).text
        assert csv.splitlines()[0].startswith("day,model,requests")
        assert http.get("/api/usage", params={"by": "colour"}).status_code == 422
    with gateway.http(secrets[0]) as http:
        [own] = http.get("/api/usage", params={"by": ["key"]}).json()
        assert own["key"] == "summed 0" and own["requests"] == 1


def test_verdicts_are_counted_by_outcome_model_and_law(gateway):
    journal = Journal(gateway.keys.url)
    record = {"model": "judged", "bypassed": False, "violated": [["polite"], ["short"]]}
    journal.add_verdict("k", {**record, "accepted": True})
    journal.add_verdict("k", {**record, "accepted": False, "violated": [["polite", "short"]]})
    journal.add_verdict("k", {**record, "accepted": None, "bypassed": True, "violated": []})
    journal.close()
    with gateway.http() as http:
        told = http.get("/api/verdicts/counts", params={"model": "judged"}).json()
    assert (told["accepted"], told["rejected"], told["bypassed"]) == (1, 1, 1)
    assert told["laws"] == [{"law": "polite", "violated": 2}, {"law": "short", "violated": 1}]
    assert [row["model"] for row in told["models"]] == ["judged"]


def test_a_probe_asks_the_replica_itself(gateway):
    with gateway.http() as http:
        [told] = http.post("/api/deployments/sim/probe").json()
        assert told["replica"] == 0 and told["health"]["error"] == told["token"]["error"] == ""
        assert 0 < told["token"]["ms"] < 5000
        assert http.post("/api/deployments/sim/probe", params={"replica": 5}).status_code == 404
        assert http.post("/api/deployments/nothing/probe").status_code == 404


def test_a_probe_tells_what_is_wrong_with_a_replica_that_is_gone(tmp_path):
    with simulator(name="gone") as server:
        running = Running(tmp_path / "home", ("gone", [server], {}))
    try:
        with running.http() as http:
            [told] = http.post("/api/deployments/gone/probe").json()
        assert "ConnectError" in told["health"]["error"] and "ConnectError" in told["token"]["error"]
    finally:
        running.stop()


def test_rows_tell_load_queue_and_slots(gateway):
    snapshot = gateway.controller.snapshot
    lease = HostFile("sim", 0, 1, "0", "ready", "127.0.0.1", 1, "n1", AT, AT, AT, 3, 30.0,
                     busy=2, cpu_percent=80.0, gpus=(GpuSample(0, "A100", 93.0, 71.0, 80.0),))  # fmt: skip
    gateway.controller.snapshot = Snapshot(snapshot.taken_at, snapshot.statuses, leases={("sim", "0"): lease})
    with gateway.http() as http:
        [row] = http.get("/api/deployments").json()
        assert (row["slots"], row["measured"], row["capacity"], row["queued"], row["in_flight"]) == (4, False, 4, 0, 0)
        load = row["replicas"][0]["load"]
        assert (load["busy"], load["gpus"][0]["utilisation_percent"], load["at"]) == (2, 93.0, "2026-11-28T00:00:00Z")
        assert http.get("/api/deployments/sim").json()["arguments"] == {"capacity": "4"}
        [queue] = http.get("/api/queue").json()
        assert (queue["name"], queue["slots"], queue["capacity"], queue["peak"]) == ("sim", 4, 4, False)


def test_the_overview_counts_what_just_happened(gateway):
    assert chat(gateway, gateway.key("seen")).status_code == 200
    with gateway.http() as http:
        told = http.get("/api/overview").json()
    assert told["models"] == {"ready": 1, "starting": 0, "failing": 0, "stopped": 0}
    assert told["traffic"]["requests"] >= 1 and told["gateway"]["uptime_s"] > 0
    assert told["database"] == {"kind": "sqlite", "trouble": ""} and told["schedulers"][0]["answers"]
    assert told["attention"] == [] and told["queued"] == 0
