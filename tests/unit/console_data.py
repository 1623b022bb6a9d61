"""What a gateway would tell a console: recorded shapes with made-up contents, in small and in large."""

from typing import Any

from engine.errors import AccessDenied, EndpointRefused

AT = "2026-11-28T12:00:00Z"
LIMITS: dict[str, Any] = {"models": [], "requests_per_minute": None, "tokens_per_day": None, "parallel": None}


def replica(index: int = 0, **more: Any) -> dict[str, Any]:
    plain = {
        "index": index, "attempt": index + 1, "generation": 1, "job_id": str(100 + index), "job_state": "RUNNING",
        "reason": "", "stage": "ready", "in_rotation": True, "node": "n1", "endpoint": f"n1:{9000 + index}",
        "in_flight": 1, "submitted_at": AT, "started_at": AT, "ready_at": AT, "expires_at": "2026-11-29T12:00:00Z",
        "startup": {"queue_s": 30.0, "load_s": 42.0, "first_token_s": 0.4},
        "load": {"at": AT, "busy": 1, "cpu_percent": 50.0, "gpus": [
            {"index": 0, "name": "A100", "utilisation_percent": 90.0, "memory_used_gb": 70.0,
             "memory_total_gb": 80.0}]},
    }  # fmt: skip
    return {**plain, **more}


def row(name: str = "llama", count: int = 1, **more: Any) -> dict[str, Any]:
    plain = {
        "name": name, "kind": "model", "model": "llama-3.1-8b", "engine": "vllm", "simulated": False, "toy": False,
        "scheduler": "slurm", "stage": "ready", "reason": "", "gave_up": False, "wanted": count, "ready": count,
        "url": f"http://here:8080/deployments/{name}/v1", "startup": None,
        "replicas": [replica(i) for i in range(count)], "in_flight": 3, "queued": 0, "slots": 49, "measured": True,
        "capacity": 49 * count, "peak": False, "expires_at": "2026-11-29T12:00:00Z",
        "resources": {"cpus": 4, "mem_gb": 16.0, "gpus": 1, "vram_gb": 16.0, "gpu_type": "", "nodes": 1,
                      "time_limit": "1-00:00:00"},
        "created_at": AT, "max_replicas": count, "generation": 1, "arguments": {"max_num_seqs": "64"},
        "environment": [], "command": [], "path": "", "precision": "bf16", "placement": {"partition": "gpu-large"},
        "drain_timeout_s": 300, "access_token": "secret-token",
    }  # fmt: skip
    return {**plain, **more}


def failed(name: str = "broken", reason: str = "the model file /models/x.gguf does not exist") -> dict[str, Any]:
    gone = replica(
        stage="failed", in_rotation=False, started_at=AT, ready_at=None, startup=None, load=None, reason=reason
    )
    return row(name, stage="failed", reason=reason, gave_up=True, ready=0, replicas=[gone], expires_at=None)


def overview(**more: Any) -> dict[str, Any]:
    plain = {
        "taken_at": AT,
        "gateway": {"started_at": AT, "uptime_s": 3700.0, "pid": 1, "address": "http://here:8080", "in_flight": 3},
        "schedulers": [{"name": "slurm", "answers": True, "asked_at": AT, "silent_since": None, "trouble": "",
                        "calls_last_hour": {"squeue": 240, "sbatch": 3}, "counted_s": 3600.0}],
        "nginx": {"wanted": True, "running": True, "pid": 7, "error": ""},
        "database": {"kind": "sqlite", "trouble": ""},
        "models": {"ready": 2, "starting": 1, "failing": 0, "stopped": 0},
        "apps": {"ready": 1, "starting": 0, "failing": 0, "stopped": 0},
        "replicas": {"ready": 3, "wanted": 4},
        "gpus": {"slurm": [{"type": "a100", "total": 8, "ours": 3, "others": 2, "free": 3, "away": 0}]},
        "gpus_trouble": "",
        "traffic": {"window_s": 300, "requests": 60, "requests_per_s": 0.2, "tokens_per_s": 512.5, "error_share": 0.01,
                    "latency_p95_s": 2.2, "ttft_p95_s": 0.31},
        "queued": 0,
        "attention": [],
    }  # fmt: skip
    return {**plain, **more}


def model(id: str = "llama-3.1-8b", **more: Any) -> dict[str, Any]:
    plain = {
        "id": id, "engine": "vllm", "source": "hub:a/b", "title": "A model", "context": 8192, "precision": "bf16",
        "resources": {"cpus": 4, "mem_gb": 16.0, "gpus": 1, "vram_gb": 16.0, "gpu_type": "", "nodes": 1,
                      "time_limit": "1-00:00:00"},
        "parameters": 8.0, "vision": False, "embeddings": False, "languages": ["de", "en"], "license": "Apache-2.0",
        "projector": "", "toy": False, "note": "Good.", "arguments": {"max_num_seqs": "64"},
        "precisions": ["bf16", "int8"], "missing": "",
    }  # fmt: skip
    return {**plain, **more}


def node(name: str = "n1", **more: Any) -> dict[str, Any]:
    plain = {"name": name, "state": "MIXED", "partitions": ["gpu-large"], "cpus": 32, "cpus_used": 8, "mem_gb": 256.0,
             "mem_gb_used": 64.0, "gpus": {"a100": 4}, "gpus_used": {"a100": 3}, "reason": ""}  # fmt: skip
    return {**plain, **more}


def job(id: str = "100", **more: Any) -> dict[str, Any]:
    plain = {"id": id, "name": "llama-0", "state": "RUNNING", "reason": "", "nodes": "n1", "user": "me",
             "partition": "gpu-large", "gres": "gpu:a100:1", "comment": "", "priority": 1000, "submitted_at": AT,
             "started_at": AT, "ends_at": "2026-11-29T12:00:00Z", "exit_code": "", "expected_start_at": None,
             "deployment": "llama", "words": "running on n1"}  # fmt: skip
    return {**plain, **more}


def key(name: str = "lecture", **more: Any) -> dict[str, Any]:
    plain = {"id": f"id-{name}", "name": name, "role": "user", "created_at": AT, "revoked_at": None, "limits": LIMITS}
    return {**plain, **more}


class FakeClient:
    """Answers as an EngineClient would; `asked` is what was changed, `away` and `denied` are what may go wrong."""

    def __init__(self, role: str = "admin") -> None:
        self.role, self.away, self.denied = role, False, False
        self.asked: list[tuple[Any, ...]] = []
        self.rows = [row(), failed()]
        self.told: dict[str, Any] = {
            "overview": overview(), "catalogue": [model(), model("simulator", engine="simulator", arguments={})],
            "cluster": {"slurm": [node()], "local": [node("here", gpus={}, gpus_used={}, partitions=["local"])]},
            "gpus": {"slurm": {"types": overview()["gpus"]["slurm"],
                               "nodes": [{"name": "n1", "ours": {"a100": 3}, "others": {}, "jobs": ["100"]}]},
                     "local": {"types": [], "nodes": []}},
            "jobs": {"slurm": [job()], "local": []},
            "schedulers": [*overview()["schedulers"], {**overview()["schedulers"][0], "name": "local"}],
            "capacity": [], "keys": [key(), key("old", revoked_at=AT)], "events": [
                {"at": AT, "deployment": "llama", "kind": "ready", "message": "answers", "index": 0, "job_id": "1"}],
            "log": "loading\nERROR: no such file\nbye", "script": "#!/bin/bash\n#SBATCH --mem=1G\n",
            "nginx": "upstream {}",
            "hosts": {"path": "/home/hosts.txt", "text": "n1:9000\n", "files": []},
            "render": "#!/bin/bash\n#SBATCH --mem=2G\n", "probe": [],
            "fit": {"possible": True, "replicas_now": 1, "words": "needs 1 GPU: partition gpu-large has 4"},
            "test_only": {"scheduler": "slurm", "expected_start_at": None},
            "models": {"data": []},
            "usage": [{"day": "2026-11-28", "key": "lecture", "key_id": "k", "model": "llama", "requests": 3,
                       "errors": 1, "prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}],
            "gpu_hours": {"reason": "", "rows": [{"day": "2026-11-28", "deployment": "llama", "gpu_hours": 12.0,
                                                  "cpu_hours": 48.0, "gpu_hours_by_type": {"a100": 12.0}}]},
        }  # fmt: skip

    def whoami(self) -> dict[str, Any]:
        self._check()
        return {**key("me", role=self.role), "tokens_today": 12}

    def deployments(self) -> list[dict[str, Any]]:
        self._check()
        return self.rows

    def deployment(self, name: str) -> dict[str, Any]:
        self._check()
        return next(row for row in self.rows if row["name"] == name)

    def launch(self, **request: Any) -> dict[str, Any]:
        self.asked.append(("launch", request))
        waiting = replica(stage="queued", in_rotation=False, started_at=None, startup=None, load=None, reason="waits")
        new = row(request.get("name", request["model"]), ready=0, stage="queued", reason="waits", replicas=[waiting])
        self.rows = [*self.rows, new]
        return new

    def __getattr__(self, name: str) -> Any:
        changes = {"scale", "drain", "restart", "stop", "key_create", "key_limit", "key_revoke"}

        def call(*args: Any, **given: Any) -> Any:
            self._check()
            if name in changes:
                self.asked.append((name, *args, *given.items()))
                return {**key(), "key": "sk-engine-new"} if name.startswith("key") else self.rows[0]
            return self.told[name]

        return call

    def _check(self) -> None:
        if self.denied:
            raise AccessDenied("this key is unknown or revoked")
        if self.away:
            raise EndpointRefused("nothing listens there")
