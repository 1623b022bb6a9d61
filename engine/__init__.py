"""The scalable engine: large language models on a Slurm cluster behind one address.

with engine.launch("llama-3.1-8b", replicas=2) as llm:
    print(llm.client().chat(llm.name, [{"role": "user", "content": "Hello"}]))
"""

import os
from typing import Any

from engine.client import AsyncEngineClient, EngineClient
from engine.launching import Launch, Say, say_on_stderr
from engine.settings import Settings

__all__ = ["AsyncEngineClient", "EngineClient", "Launch", "Settings", "launch"]


def launch(
    model: str = "",
    *,
    keep: bool = False,
    timeout_s: float = 3600.0,
    say: Say = say_on_stderr,
    settings: Settings | None = None,
    **request: Any,
) -> Launch:
    """Launches a model (or an app, by `command=[…]`) for the length of a `with` or `async with` block.

    `request` takes the fields of LaunchRequest: name, replicas, time_limit, gpus, partition, arguments, …. The gateway
    that serves ENGINE_HOME is used; where there is none, one runs as long as the block does. `keep` leaves the
    deployment in place.
    """
    settings = settings or Settings.from_env(os.environ)
    return Launch({"model": model, **request} if model else request, settings, keep, timeout_s, say)
