"""What a gateway would tell the console of traffic, experiments and feedback: recorded shapes, made-up contents."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.unit.console_data import AT as AT
from tests.unit.console_data import FakeClient

BUCKETS_S = [0.1, 0.2, 0.4]


def shape(*buckets: int, p95: float | None = None) -> dict[str, Any]:
    return {"count": sum(buckets), "mean": None, "p50": p95, "p95": p95, "p99": p95, "buckets": list(buckets)}


def traffic_row(at: str = AT, model: str = "llama", **more: Any) -> dict[str, Any]:
    plain = {
        "at": at, "model": model, "requests": 60, "prompt_tokens": 600, "completion_tokens": 1200, "bypasses": 0,
        "queued_s": 0.0,
        "errors": {"overloaded": 3, "refused": 0, "failed": 1, "left": 0},
        "finish_reasons": {"stop": 40, "length": 16, "tool_calls": 0, "other": 0},
        "latency_s": shape(0, 28, 28, 0, p95=0.38), "ttft_s": shape(10, 0, 0, 0, p95=0.09),
        "per_token_s": shape(0, 10, 0, 0, p95=0.19),
    }  # fmt: skip
    return {**plain, **more}


def traffic(*rows: dict[str, Any], step_s: int = 60) -> dict[str, Any]:
    bounds = {"buckets_s": BUCKETS_S, "token_buckets_s": BUCKETS_S}
    return {"object": "traffic", "step_s": step_s, **bounds, "data": list(rows)}


def request(**more: Any) -> dict[str, Any]:
    plain = {
        "at": AT, "id": "r-1", "key": "id-lecture", "model": "llama", "path": "/v1/chat/completions", "status": 200,
        "latency_s": 1.2345, "ttft_s": None, "queued_s": 0.0, "prompt_tokens": 10, "completion_tokens": 20,
        "stream": False, "replica": "llama/0", "error": "", "finish": "stop",
    }  # fmt: skip
    return {**plain, **more}


def trial(concurrency: int, repeat: int = 0, slots: int = 4, **more: Any) -> dict[str, Any]:
    """As a server with so many slots of 100 ms would have been measured, with a little noise."""
    latency_s = 0.1 * max(1.0, concurrency / slots) * (1 + 0.004 * (repeat - 1))
    told = dict.fromkeys(("mean", "p50", "p95", "p99"), latency_s)
    begun = datetime(2026, 11, 28, 12, tzinfo=UTC) + timedelta(seconds=10 * concurrency + repeat)
    plain = {
        "deployment": "sim", "concurrency": concurrency, "repeat": repeat, "started_at": begun.isoformat(),
        "window_s": 5.0, "requests": 200, "errors": 0, "latency_s": told, "throughput_rps": concurrency / latency_s,
        "throughput_tok_s": 16 * concurrency / latency_s, "latency_batches_s": [latency_s] * 8,
        "per_request_tok_s": 16 / latency_s, "ttft_s": None, "itl_s": None,
        "validity": {"littles_law_residual": 0.001, "drift": 0.0, "foreign_cpu": 0.1}, "queue": None,
        "loads": [], "valid": True, "why_not": [],
    }  # fmt: skip
    return {**plain, **more}


def trials(slots: int = 4) -> list[dict[str, Any]]:
    return [trial(users, repeat, slots) for users in (1, 2, 4, 8, 16) for repeat in range(3)]


def provenance(name: str = "sim", **facts: Any) -> dict[str, Any]:
    own = {
        "model": "simulator",
        "engine": "simulator",
        "arguments": {"capacity": "4"},
        "simulated": True,
        "replicas": [],
    }
    told = {"command": ["engine"], "host": "here", "cpus": 2, "packages": {"numpy": "2.4.6"}, "load_average": [1.0]}
    return {**told, "deployments": {name: {**own, "begun_at": AT, **facts}}}


def experiment(id: str = "e-1", state: str = "done", **more: Any) -> dict[str, Any]:
    """`details` of an experiment, the fields of its summary included."""
    found = more.pop("trial_list", trials())
    plain = {
        "id": id, "deployments": ["sim"], "target": "gateway", "stream": False, "state": state, "message": "",
        "deployment": "sim", "concurrency": 8, "repeat": 1, "phase": "measuring", "trials": len(found),
        "valid": sum(one["valid"] for one in found), "planned": 20, "eta_s": 90.0, "host": "here", "pid": 1,
        "started": "", "begun_at": AT, "updated_at": AT, "options": {"deployments": ["sim"], "time_scale": 1.0},
        "provenance": provenance(), "first_trial": 0, "trial_list": found, "result": [],
    }  # fmt: skip
    return {**plain, **more}


def said(question: str, kind: str = "refused", language: str = "de", at: str = AT, **more: Any) -> dict[str, Any]:
    return {"id": question, "at": at, "key_id": "k", "kind": kind, "question": question, "language": language, **more}


class MoreClient(FakeClient):
    """With an experiment, traffic and feedback; what changes an experiment is noted."""

    def __init__(self, role: str = "admin") -> None:
        super().__init__(role)
        self.found = [experiment()]
        self.told |= {
            "queue": [{"name": "llama", "in_flight": 3, "queued": 2, "slots": 49, "capacity": 49}],
            "traffic": traffic(traffic_row(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:00Z"))),
            "verdicts": [{"at": AT, "key_id": "k", "model": "llama", "accepted": True, "violated": [["honest"]]}],
            "verdict_counts": {"accepted": 1, "rejected": 0, "bypassed": 0, "days": 30,
                               "models": [{"model": "llama", "accepted": 1, "rejected": 0, "bypassed": 0}],
                               "laws": [{"law": "honest", "violated": 1}]},
            "requests": [request()],
            "feedback_list": [said("Wie bekomme ich einen Parkausweis?"), said("Wo gibt es einen Parkausweis?")],
            "feedback_counts": {"like": 1, "dislike": 0, "refused": 2, "days": 30},
        }  # fmt: skip

    def experiments(self) -> list[dict[str, Any]]:
        self._check()
        return self.found

    def experiment(self, id: str, first_trial: int = 0) -> dict[str, Any]:
        self._check()
        found = next(one for one in self.found if one["id"] == id)
        return {**found, "trial_list": found["trial_list"][first_trial:]}

    def experiment_start(self, names: list[str], **options: Any) -> dict[str, Any]:
        self._check()
        self.asked.append(("start", names, options))
        self.found = [experiment("e-new", "starting", trial_list=[], planned=0), *self.found]
        return self.found[0]

    def experiment_stop(self, id: str) -> dict[str, Any]:
        return self._changed("stop", id, "stopped")

    def experiment_resume(self, id: str) -> dict[str, Any]:
        return self._changed("resume", id, "running")

    def experiment_delete(self, id: str) -> dict[str, Any]:
        self.asked.append(("delete", id))
        self.found = [one for one in self.found if one["id"] != id]
        return {"id": id, "deleted": True}

    def _changed(self, what: str, id: str, state: str) -> dict[str, Any]:
        self._check()
        self.asked.append((what, id))
        self.found = [{**one, "state": state} if one["id"] == id else one for one in self.found]
        return next(one for one in self.found if one["id"] == id)
