"""What is learned of a server before the first trial: that it answers, how long that takes, how it counts tokens."""

import time
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from engine.bench.experiment import task
from engine.bench.experiment.aim import Aim
from engine.bench.load.prompts import Prompts
from engine.errors import EndpointRefused, EndpointTimedOut, GatewayError

TIMEOUT_S = 600.0
FIRST_WORDS = 600
CLOSE = 0.05
TRIES = 5


@dataclass(frozen=True)
class Probed:
    """A server's answer to one request: `prompt_tokens` None where it counts none."""

    latency_s: float
    prompt_tokens: int | None


def calibrate(aim: Aim, given: dict[str, Any], stream: bool) -> tuple[Prompts, Probed]:
    """The prompts of a sweep, of the length that was asked for by the server's own count; blocks.

    Raises EndpointRefused, EndpointTimedOut, or GatewayError with what the server answered.
    """
    model = aim.status.deployment.model
    context = model.context if model else None
    wanted = task.prompt_tokens(given, context)
    words = FIRST_WORDS if wanted is None else max(1, round(wanted * FIRST_WORDS / task.PROMPT_TOKENS))
    name, engine = aim.status.deployment.name, aim.status.deployment.engine
    for attempt in range(TRIES):
        made = task.prompts(given, name, engine, stream, words, context)
        try:
            seen = ask(aim, made)
        except GatewayError as error:
            if wanted is None or error.status != 400 or attempt == TRIES - 1:
                raise
            words = max(1, words // 2)
            continue
        if wanted is None or not seen.prompt_tokens or abs(seen.prompt_tokens / wanted - 1) <= CLOSE:
            break
        words = task.words_for(wanted, words, seen.prompt_tokens)
    return made, seen


def ask(aim: Aim, prompts: Prompts) -> Probed:
    """One request the way the load will go; blocks."""
    body = orjson.loads(next(prompts))
    body.pop("stream", None)
    body.pop("stream_options", None)
    where = str(at := aim.target)
    begun = time.perf_counter()
    try:
        answer = httpx.post(where, json=body, headers=dict(at.headers), timeout=TIMEOUT_S, trust_env=False)
    except httpx.TimeoutException as error:
        raise EndpointTimedOut(f"{where} gave no answer within {TIMEOUT_S:.0f} s") from error
    except httpx.HTTPError as error:
        raise EndpointRefused(f"{where} could not be reached: {error}") from error
    if answer.status_code != 200:
        raise GatewayError(f"{where} answered {answer.status_code}: {answer.text[:300]}", answer.status_code)
    return Probed(time.perf_counter() - begun, _prompt_tokens(answer))


def _prompt_tokens(answer: httpx.Response) -> int | None:
    try:
        return int(answer.json()["usage"]["prompt_tokens"])
    except (ValueError, KeyError, TypeError):
        return None
