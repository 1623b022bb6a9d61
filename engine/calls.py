"""Calls: all that can be asked of a gateway, as methods; how a request travels is the clients' part (client.py)."""

from abc import ABC, abstractmethod
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

    def usage(self, first: str | None = None, last: str | None = None) -> Any:
        """Requests and tokens per day, key and model, from one day to another (YYYY-MM-DD, UTC, both included)."""
        return self._json("GET", "/api/usage", **{"from": first, "to": last})

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

    def health(self) -> Any:
        return self._json("GET", "/health")

    def deployments(self) -> Any:
        """The rows of `engine ps`."""
        return self._json("GET", "/api/deployments")

    def deployment(self, name: str) -> Any:
        return self._json("GET", _deployment(name))

    def launch(self, **request: Any) -> Any:
        """Fields of LaunchRequest; returns at once with the new deployment's row and its access token."""
        return self._json("POST", "/api/deployments", request)

    def render(self, **request: Any) -> Any:
        return self._json("POST", "/api/render", request)

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

    def jobs(self) -> Any:
        return self._json("GET", "/api/jobs")

    def cluster(self) -> Any:
        return self._json("GET", "/api/cluster")


def long_prompt(model: str, text: str, instruction: str | None, parameters: dict[str, Any]) -> dict[str, Any]:
    told = {"instruction": instruction} if instruction is not None else {}
    return {"model": model, "text": text, **told, **parameters}


def _deployment(name: str, *what: str) -> str:
    return "/".join(["/api/deployments", quote(name, safe=""), *what])
