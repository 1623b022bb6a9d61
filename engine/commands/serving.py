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

from engine import own_apps, presence
from engine.catalogue import Catalogue
from engine.client import EngineClient
from engine.errors import Conflict, EngineError
from engine.fleet.lock import process_is_gone
from engine.gateway.keys import Keys
from engine.launching import operator, stop_and_wait, wait_ready
from engine.serve import Supervisor
from engine.settings import SCHEDULERS, Settings
from engine.site import Site
from engine.terminal import Json, print_json, print_table, say, settings
from engine.worker import schedulers

DEFAULT_MODEL = "smollm2-135m"
UP_KEY = "made-by-up"
APPS_TIMEOUT_S = 120.0
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
    apps: Annotated[bool, typer.Option(help="With the apps that are installed: chatbot and admin console.")] = True,
) -> None:
    """Serve one model at one address, with chatbot and admin console; Ctrl-C stops all of it."""
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
            launched = _launch_apps(found, client, chosen) if apps else []
            started += [app.name for app in launched]
            wait_ready(client, model, timeout_s, say)
            _print_invitation(found, model, _fresh_key(chosen, UP_KEY, "user"))
            _print_apps(found, client, chosen, launched)
            _stay_while_served(found)
        except KeyboardInterrupt:
            say("stopping what was started")
        finally:
            if started and presence.find(chosen.home):
                stop_and_wait(client, started, DOWN_TIMEOUT_S, say)


def apps(as_json: Json = False) -> None:
    """Launch the chatbot and the admin console beside the gateway that runs.

    Those that run already stay as they are.
    """
    found = presence.find(settings().home)
    if not found:
        raise EngineError(f"no gateway answers for ENGINE_HOME {settings().home}; start one with `engine serve`")
    with operator(found) as client:
        launched = [app.name for app in _launch_apps(found, client, settings())]
        rows = [row for row in client.deployments() if row["name"] in {app.name for app in own_apps.OWN_APPS}]
    if as_json:
        print_json([{**row, "launched": row["name"] in launched} for row in rows])
    else:
        cells = [(row["name"], row["stage"], row["url"] or "-") for row in rows]
        print_table(("APP", "STAGE", "URL"), cells, "none of the apps is installed, or there is no NGINX")


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


def _launch_apps(found: presence.Presence, client: EngineClient, chosen: Settings) -> list[own_apps.OwnApp]:
    """Those that were not there yet. Only NGINX can join them at the one address."""
    if found.url == found.address:
        return []
    launched = own_apps.missing(client.deployments())
    for app in launched:
        key = _fresh_key(chosen, app.name, "user") if app.keyed else ""
        client.launch(**own_apps.launch_request(app, found.url, key))
    return launched


def _print_apps(
    found: presence.Presence, client: EngineClient, chosen: Settings, launched: list[own_apps.OwnApp]
) -> None:
    """Whether or not an app comes up, the model serves."""
    for app in launched:
        try:
            wait_ready(client, app.name, APPS_TIMEOUT_S, lambda line: None)
        except EngineError as error:
            say(f"the {app.title} is not up: {error}")
            continue
        key = "" if app.keyed else f"   log in with {_fresh_key(chosen, f'{UP_KEY}-{app.name}', 'admin')}"
        print(f"  {app.title:14} {found.address}{app.path}{key}", flush=True)


def _fresh_key(chosen: Settings, name: str, role: str) -> str:
    """A key for whoever reads the screen; the one of the last time is revoked, for nobody can read it any more."""
    keys = Keys(chosen.database_url)
    try:
        for key in keys.list():
            if key.name == name and key.revoked_at is None:
                keys.revoke(key.id)
        return keys.create(name, role)[1]
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
