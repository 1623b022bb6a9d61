"""What the description of the gateway says of the routes that FastAPI never sees: the hot path's."""

from typing import Any

from fastapi import FastAPI


def describe_inference(api: FastAPI) -> None:
    """Adds the routes that FastAPI never sees to the description it gives of itself."""
    plain = api.openapi

    def whole() -> dict[str, Any]:
        if api.openapi_schema is None:
            schema = plain()
            bearer: list[dict[str, list[str]]] = [{"HTTPBearer": []}]
            schema["paths"] = {**{path: {"post": _inference(path, bearer)} for path in _EXAMPLES}, **schema["paths"]}
        return plain()

    api.openapi = whole  # type: ignore[method-assign]


_MESSAGES = [{"role": "user", "content": "What is Slurm?"}]
_EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/chat/completions": ("Answer a conversation", {"model": "NAME", "messages": _MESSAGES, "stream": True}),
    "/v1/completions": ("Continue a text", {"model": "NAME", "prompt": "Slurm is", "max_tokens": 32}),
    "/v1/embeddings": ("Embed texts", {"model": "NAME", "input": ["Slurm is a scheduler."]}),
    "/v1/responses": ("OpenAI's responses, where the inference engine has them", {"model": "NAME", "input": "Hello"}),
}


def _inference(path: str, security: list[dict[str, list[str]]]) -> dict[str, Any]:
    summary, example = _EXAMPLES[path]
    schema = {
        "type": "object",
        "required": ["model"],
        "properties": {"model": {"type": "string", "description": "name of a deployment, or a catalogue id"}},
        "additionalProperties": True,
        "example": example,
    }
    answers = {
        "200": "the replica's own answer; with `stream` server-sent events",
        "400": "the body is not JSON", "401": "no valid key", "404": "unknown model; the message lists the known ones",
        "403": "the key does not open this model", "413": "more than 32 MB", "422": "no usable `model`",
        "429": "too many requests wait, or the key's own limit is reached; see Retry-After",
        "502": "no replica answered", "503": "no replica is ready yet; see Retry-After", "504": "no answer in time",
    }  # fmt: skip
    return {
        "tags": ["Inference"],
        "summary": summary,
        "description": "Passed byte for byte to the least loaded ready replica; every field it knows may be used.",
        "operationId": path.strip("/").replace("/", "_"),
        "security": security,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {status: {"description": text} for status, text in answers.items()},
    }
