"""Calls: all that can be asked of a gateway, as methods; how a request travels is the clients' part (client.py)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote


class Calls(ABC):
    """What a gateway offers. Each method returns the decoded JSON (a log or a script as text), or an awaitable of it
    in the asynchronous client.

    Raises EndpointRefused when nothing answers, EndpointTimedOut, AccessDenied for 401 and 403, and GatewayError,
    which carries the status and the code, for every other error that the gateway answers.
    """

    @abstractmethod
    def _json(self, method: str, path: str, body: Any = None, **query: Any) -> Any: ...

    def models(self) -> Any:
        """`GET /v1/models`: what can be asked now, with readiness and load."""
        return self._json("GET", "/v1/models")

    def chat(self, model: str, messages: list[dict[str, Any]], **parameters: Any) -> Any:
        """One chat completion; `parameters` are OpenAI's (max_tokens, temperature, tools, …)."""
        return self._json("POST", "/v1/chat/completions", {"model": model, "messages": messages, **parameters})

    def complete(self, model: str, prompt: str, **parameters: Any) -> Any:
        return self._json("POST", "/v1/completions", {"model": model, "prompt": prompt, **parameters})

    def embeddings(self, model: str, texts: list[str], **parameters: Any) -> Any:
        return self._json("POST", "/v1/embeddings", {"model": model, "input": texts, **parameters})

    def bulk(self, model: str, requests: list[dict[str, Any]], **parameters: Any) -> Any:
        """Many completions in one call; `requests` have `messages` or `prompt`, `parameters` are shared by all.

        `results` of the answer are in order, each with `status` ok or error.
        """
        return self._json("POST", "/v1/bulk", {"model": model, "requests": requests, **parameters})

    def tribunal(self, model: str, messages: list[dict[str, Any]], **parameters: Any) -> Any:
        """An answer that is judged and revised; `laws` (a set's name, or [{name, text}]), `max_rounds`, `judges`."""
        return self._json("POST", "/v1/tribunal", {"model": model, "messages": messages, **parameters})

    def longprompt(self, model: str, text: str, instruction: str | None = None, **parameters: Any) -> Any:
        """A text longer than the context; `chunk_tokens`, `overlap_tokens`, `tribunal`."""
        return self._json("POST", "/v1/longprompt", long_prompt(model, text, instruction, parameters))

    def laws(self) -> Any:
        """The sets of laws, each with its hash."""
        return self._json("GET", "/v1/laws")

    def verdicts(self, outcome: str | None = None, model: str | None = None, limit: int = 100) -> Any:
        """Outcomes of tribunals, the latest first; `outcome` is accepted, rejected or bypassed."""
        return self._json("GET", "/api/verdicts", outcome=outcome, model=model, limit=limit)

    def verdict_counts(self, days: int = 30, model: str | None = None) -> Any:
        """Tribunals by outcome, by model and by the laws that first answers violated."""
        return self._json("GET", "/api/verdicts/counts", days=days, model=model)

    def usage(self, first: str | None = None, last: str | None = None, by: Sequence[str] | None = None) -> Any:
        """Requests and tokens per day, key and model, from one day to another (YYYY-MM-DD, UTC, both included).

        `by` names fewer of `day`, `key` and `model`, over which the rest is summed.
        """
        return self._json("GET", "/api/usage", **{"from": first, "to": last, "by": by})

    def gpu_hours(self, first: str | None = None, last: str | None = None) -> Any:
        """GPU and CPU hours per day and deployment from Slurm's accounting; `reason` tells why there are none."""
        return self._json("GET", "/api/gpu-hours", **{"from": first, "to": last})

    def requests(self, limit: int = 100, **filters: Any) -> Any:
        """The last requests of the log, the latest first; `model`, `key`, `outcome` (ok, error), `slower_than_s`."""
        return self._json("GET", "/api/requests", limit=limit, **filters)

    def whoami(self) -> Any:
        """The key that asks: its name, role, limits and the tokens that it used today."""
        return self._json("GET", "/api/whoami")

    def keys(self) -> Any:
        return self._json("GET", "/api/keys")

    def key_create(self, name: str, role: str = "user", **limits: Any) -> Any:
        """`models`, `requests_per_minute`, `tokens_per_day`, `parallel`; the answer's `key` is told this once."""
        return self._json("POST", "/api/keys", {"name": name, "role": role, **limits})

    def key_limit(self, id: str, **limits: Any) -> Any:
        """What is left out stays, None takes a limit away."""
        return self._json("PATCH", f"/api/keys/{quote(id, safe='')}", limits)

    def key_revoke(self, id: str) -> Any:
        return self._json("DELETE", f"/api/keys/{quote(id, safe='')}")

    def traffic(self, begin: str | None = None, end: str | None = None, **query: Any) -> Any:
        """Histograms over time (ISO 8601); `step` in seconds, `by` (model, key, both, none), `model`, `key`."""
        return self._json("GET", "/api/traffic", **{"from": begin, "to": end, **query})

    def feedback(self, kind: str, question: str, language: str, **more: Any) -> Any:
        """Says what an answer was like: `kind` is like, dislike or refused; `answer`, `sources`, `reason`."""
        body = {"kind": kind, "question": question, "language": language, **more}
        return self._json("POST", "/api/feedback", body)

    def feedback_list(self, kind: str | None = None, limit: int = 100) -> Any:
        """What was said, the latest first."""
        return self._json("GET", "/api/feedback", kind=kind, limit=limit)

    def feedback_counts(self, days: int = 30) -> Any:
        """How often `like`, `dislike` and `refused` were said."""
        return self._json("GET", "/api/feedback/counts", days=days)

    def health(self) -> Any:
        return self._json("GET", "/health")

    def overview(self) -> Any:
        """Health of the parts, models and GPUs summed, traffic of the last minutes, and what needs attention."""
        return self._json("GET", "/api/overview")

    def catalogue(self) -> Any:
        return self._json("GET", "/api/catalogue")

    def queue(self) -> Any:
        """Requests in flight and waiting, and how many there may be, by deployment."""
        return self._json("GET", "/api/queue")

    def capacity(self) -> Any:
        """The capacity cards: what sweeps found."""
        return self._json("GET", "/api/capacity")

    def deployments(self) -> Any:
        """The rows of `engine ps`, with the load of this moment."""
        return self._json("GET", "/api/deployments")

    def deployment(self, name: str) -> Any:
        return self._json("GET", _deployment(name))

    def launch(self, **request: Any) -> Any:
        """Fields of LaunchRequest; returns at once with the new deployment's row and its access token."""
        return self._json("POST", "/api/deployments", request)

    def render(self, **request: Any) -> Any:
        return self._json("POST", "/api/render", request)

    def fit(self, **request: Any) -> Any:
        """Whether a launch fits the cluster's nodes: `possible`, `replicas_now` and `words`."""
        return self._json("POST", "/api/fit", request)

    def test_only(self, **request: Any) -> Any:
        """When the scheduler would start a launch; nothing is submitted."""
        return self._json("POST", "/api/test-only", request)

    def scale(self, name: str, replicas: int) -> Any:
        return self._json("PATCH", _deployment(name), {"replicas": replicas})

    def drain(self, name: str, replica: int) -> Any:
        return self._json("POST", _deployment(name, "drain"), replica=replica)

    def restart(self, name: str) -> Any:
        return self._json("POST", _deployment(name, "restart"))

    def stop(self, name: str) -> Any:
        return self._json("DELETE", _deployment(name))

    def events(self, name: str | None = None, limit: int = 100) -> Any:
        path = _deployment(name, "events") if name else "/api/events"
        return self._json("GET", path, limit=limit)

    def log(self, name: str, replica: int | None = None, lines: int = 100) -> Any:
        return self._json("GET", _deployment(name, "log"), replica=replica, lines=lines)

    def script(self, name: str, replica: int | None = None) -> Any:
        """The script that was submitted last, of a stopped deployment, too."""
        return self._json("GET", _deployment(name, "script"), replica=replica)

    def hosts(self, name: str) -> Any:
        """The hosts file, and what the replicas say of themselves."""
        return self._json("GET", _deployment(name, "hosts"))

    def nginx(self, name: str) -> Any:
        """A deployment's part of nginx.conf, without its keys."""
        return self._json("GET", _deployment(name, "nginx"))

    def probe(self, name: str, replica: int | None = None) -> Any:
        """Asks the replicas themselves: health, and how long one token takes."""
        return self._json("POST", _deployment(name, "probe"), replica=replica)

    def gpus(self) -> Any:
        """GPUs by scheduler, type and node: ours, others' and free."""
        return self._json("GET", "/api/gpus")

    def schedulers(self) -> Any:
        """Whether each scheduler answers, and how often its commands were run in the last hour."""
        return self._json("GET", "/api/schedulers")

    def experiments(self) -> Any:
        """Saturation experiments, the latest first."""
        return self._json("GET", "/api/experiments")

    def experiment(self, id: str, first_trial: int = 0) -> Any:
        """Its `state`, `trial_list` from number `first_trial` on, and the `result` so far, a sweep per deployment."""
        return self._json("GET", _experiment(id), first_trial=first_trial)

    def experiment_start(self, deployments: list[str], **options: Any) -> Any:
        """Sweeps deployments: `target`, `stream`, `task`, `objective_ms`, `max_concurrency`, `repeats`, …"""
        return self._json("POST", "/api/experiments", {"deployments": deployments, "options": options})

    def experiment_stop(self, id: str) -> Any:
        """It stops within a second or so; what was measured is kept."""
        return self._json("POST", _experiment(id, "stop"))

    def experiment_resume(self, id: str) -> Any:
        return self._json("POST", _experiment(id, "resume"))

    def experiment_delete(self, id: str) -> Any:
        return self._json("DELETE", _experiment(id))

    def jobs(self) -> Any:
        return self._json("GET", "/api/jobs")

    def cluster(self) -> Any:
        return self._json("GET", "/api/cluster")


def long_prompt(model: str, text: str, instruction: str | None, parameters: dict[str, Any]) -> dict[str, Any]:
    told = {"instruction": instruction} if instruction is not None else {}
    return {"model": model, "text": text, **told, **parameters}


def _deployment(name: str, *what: str) -> str:
    return "/".join(["/api/deployments", quote(name, safe=""), *what])


def _experiment(id: str, *what: str) -> str:
    return "/".join(["/api/experiments", quote(id, safe=""), *what])
