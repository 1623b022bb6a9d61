"""How many tokens a text has and a request may have, by the words of each inference engine."""

import json

from engine.fleet.deployments import Deployment

# A word of most languages is fewer tokens than this many bytes; without a /tokenize the estimate errs high.
BYTES_PER_TOKEN = 2
# What `/tokenize` of each inference engine calls the text.
TEXT_FIELD = {"vllm": "prompt", "simulator": "prompt", "sglang": "prompt", "llamacpp": "content", "tgi": "inputs"}


def estimate(text: str) -> int:
    return len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN + 1


def context(deployment: Deployment) -> int:
    """Of one deployment: its arguments before its model's row, and llama.cpp's divided among its slots."""
    arguments = {**(deployment.model.arguments if deployment.model else {}), **deployment.arguments}
    plain = {name.replace("-", "_"): value for name, value in arguments.items()}
    for name in ("max_model_len", "max_total_tokens", "context_length", "context"):
        if plain.get(name, "").isdecimal():
            return int(plain[name])
    if plain.get("ctx_size", "").isdecimal():
        slots = plain.get("parallel", "4")
        return int(plain["ctx_size"]) // max(1, int(slots) if slots.isdecimal() else 1)
    return deployment.model.context or 0 if deployment.model else 0


def counted(answer: bytes) -> int | None:
    try:
        decoded = json.loads(answer)
    except ValueError:
        return None
    if isinstance(decoded, list):
        return len(decoded)
    if isinstance(decoded, dict):
        if isinstance(decoded.get("count"), int):
            return int(decoded["count"])
        if isinstance(decoded.get("tokens"), list):
            return len(decoded["tokens"])
    return None
