"""serve, up, down: the gateway, or everything at one address."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated

import typer

from engine import presence
from engine.catalogue import Catalogue
from engine.commands.output import say, settings
from engine.errors import Conflict, EngineError
from engine.fleet.lock import process_is_gone
from engine.gateway.keys import Keys
from engine.launching import operator, stop_and_wait, wait_ready
from engine.serve import Supervisor
from engine.settings import SCHEDULERS, Settings
from engine.site import Site
from engine.worker import schedulers

DEFAULT_MODEL = "smollm2-135m"
UP_KEY = "made-by-up"
DOWN_TIMEOUT_S = 900.0
END_TIMEOUT_S = 60.0
PATIENCE_S = 2.0

Scheduler = Annotated[str, typer.Option(help=f"{', '.join(SCHEDULERS)}; auto takes Slurm where it answers.")]


def serve(
    port: Annotated[int | None, typer.Option(help="Of the gateway (ENGINE_PORT).")] = None,
    address_port: Annotated[int | None, typer.Option(help="Of the one address (ENGINE_ADDRESS_PORT).")] = None,
    host: Annotated[str | None, typer.Option(help="Where the one address listens (ENGINE_HOST).")] = None,
    scheduler: Scheduler = "",
    nginx: Annotated[bool, typer.Option(help="Use NGINX if it is installed.")] = True,
    until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True)] = False,
) -> None:
    """Run gateway, controller and NGINX until Ctrl-C; jobs go on.

    The next serve takes the jobs over.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    chosen = _override(settings(), port=port, address_port=address_port, host=host, scheduler=scheduler or None)
    _require_sound(chosen)
    Supervisor(chosen, use_nginx=nginx, until_eof=until_eof).run()


def up(
    model: Annotated[str, typer.Argument(help="A catalogue id.")] = DEFAULT_MODEL,
    replicas: Annotated[int, typer.Option(min=1)] = 1,
    scheduler: Scheduler = "",
    timeout_s: Annotated[float, typer.Option(help="Give up waiting for the model after this many seconds.")] = 3600.0,
) -> None:
    """Serve one model at one address; Ctrl-C stops all of it."""
    chosen = _override(settings(), scheduler=scheduler or None)
    running = presence.find(chosen.home)
    if running:
        raise Conflict(f"it is up already, at {running.address} (process {running.pid}); `engine down` ends it")
    _require_sound(chosen)
    with _termination_as_interrupt(), presence.gateway(chosen, say) as found, operator(found) as client:
        started: list[str] = []
        try:
            names = [row["name"] for row in client.deployments()]
            if model not in names:
                started.append(client.launch(model=model, replicas=replicas)["name"])
            wait_ready(client, model, timeout_s, say)
            _print_invitation(found, model, _fresh_key(chosen))
            _stay_while_served(found)
        except KeyboardInterrupt:
            say("stopping what was started")
        finally:
            if started and presence.find(chosen.home):
                stop_and_wait(client, started, DOWN_TIMEOUT_S, say)


def down() -> None:
    """Stop every deployment, then the gateway and NGINX."""
    found = presence.find(settings().home)
    if not found:
        say("nothing is running on this ENGINE_HOME")
        return
    with operator(found) as client:
        stop_and_wait(client, [row["name"] for row in client.deployments()], DOWN_TIMEOUT_S, say)
    os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + END_TIMEOUT_S
    while not process_is_gone(found.pid):
        if time.monotonic() > deadline:
            raise EngineError(f"process {found.pid} did not end within {END_TIMEOUT_S:.0f} s of SIGTERM")
        time.sleep(0.1)
    say("down")


def _override(chosen: Settings, **given: object) -> Settings:
    """Flags win over the environment; the result is checked like the environment is."""
    values = {name: value for name, value in given.items() if value is not None}
    return Settings.from_env(replace(chosen, **values).environ())  # type: ignore[arg-type]


def _require_sound(chosen: Settings) -> None:
    """What people write is checked before anything starts; raises ConfigurationError."""
    schedulers(chosen)
    Site.load(chosen.site_file)
    Catalogue.load(chosen.models_file)


def _fresh_key(chosen: Settings) -> str:
    """A user key for whoever reads the screen; the one of the last `up` is revoked, for nobody can read it any more."""
    keys = Keys(chosen.database_url)
    try:
        for key in keys.list():
            if key.name == UP_KEY and key.revoked_at is None:
                keys.revoke(key.id)
        return keys.create(UP_KEY, "user")[1]
    finally:
        keys.close()


def _print_invitation(found: presence.Presence, model: str, key: str) -> None:
    plain = "no NGINX here: the gateway itself listens at the address; only apps need NGINX\n"
    print(
        f"""
{model} answers.
{plain if found.url == found.address else ""}
  address  {found.address}/v1
  key      {key}

  curl {found.address}/v1/chat/completions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Name three rivers in Europe."}}]}}'

Ctrl-C stops all of it.""",
        flush=True,
    )


def _stay_while_served(found: presence.Presence) -> None:
    while not process_is_gone(found.pid):
        time.sleep(0.5)
    say("the gateway has ended")


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGINT both interrupt; SIGINT, too, since a shell starts what is in the background with it ignored.

    A second one within PATIENCE_S is the same wish; after that it leaves at once, whatever is still being stopped.
    """
    first: list[float] = []

    def interrupt(*_: object) -> None:
        first.append(time.monotonic())
        if len(first) == 1 or first[-1] - first[0] > PATIENCE_S:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
