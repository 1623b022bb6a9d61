"""launch, ps, events, logs, scale, drain, restart, stop: deployments from the command line."""

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from engine import presence
from engine.capacity import Cards
from engine.client import EngineClient
from engine.commands import request
from engine.errors import ConfigurationError, EngineError, UnknownName
from engine.fleet import store
from engine.fleet.deployments import Deployment
from engine.fleet.lock import process_is_gone
from engine.fleet.status import status_json
from engine.launching import describe, operator, stop_and_wait, wait_ready
from engine.terminal import Json, ago, print_json, print_table, say, settings

Name = Annotated[str, typer.Argument(help="The deployment's name.")]
Timeout = Annotated[float, typer.Option(help="Give up waiting after this many seconds.")]

STOP_TIMEOUT_S = 900.0
MOST_LINES = 10000
FOLLOWED_LINES = 1000


@request.with_launch_options
def launch(
    wanted: dict[str, Any],
    wait: Annotated[bool, typer.Option(help="Wait until every replica answers.")] = False,
    timeout_s: Timeout = 3600.0,
    as_json: Json = False,
) -> None:
    """Launch a model, or with --app NAME -- COMMAND a web app.

    Without a gateway on this ENGINE_HOME this process runs one and stays; Ctrl-C then leaves the jobs for the next to
    take over.
    """
    own = presence.find(settings().home) is None
    with presence.gateway(settings(), say) as found, operator(found) as client:
        launched = client.launch(**wanted)
        row = launched
        if wait or own:
            row = {**wait_ready(client, launched["name"], timeout_s, say), "access_token": launched["access_token"]}
        if as_json:
            print_json(row)
        else:
            _print_launched(row)
        if own:
            _stay(launched["name"], found)


def ps(as_json: Json = False) -> None:
    """List deployments and their replicas."""
    rows = _rows()
    if as_json:
        print_json(rows)
        return
    print_table(
        ("NAME", "KIND", "MODEL", "ENGINE", "STAGE", "READY", "SLOTS", "URL"),
        [_deployment_cells(row) for row in rows],
        "no deployments; `engine launch smollm2-135m` starts one, `engine models` lists what there is",
    )
    replicas = [(row["name"], replica) for row in rows for replica in row["replicas"]]
    if replicas:
        print()
        head = ("REPLICA", "JOB", "JOB STATE", "STAGE", "NODE", "ENDPOINT", "IN FLIGHT", "ENDS IN", "REASON")
        print_table(head, [_replica_cells(name, replica) for name, replica in replicas], "")
    for row in rows:
        if row.get("card_ignored"):
            print(f"\n{row['name']}: {row['card_ignored']}")


def events(
    name: Annotated[str | None, typer.Argument(help="One deployment; all without it.")] = None,
    limit: Annotated[int, typer.Option(help="How many of the last events.", min=1, max=MOST_LINES)] = 50,
    as_json: Json = False,
) -> None:
    """Tell what happened, oldest first."""
    found = presence.find(settings().home)
    if found:
        with operator(found) as client:
            lines = client.events(name, limit)
    else:
        names = [name] if name else list(store.load_all(settings().home))
        read = [event for each in names for event in store.read_events(settings().home, each, limit)]
        lines = store.plain(sorted(read, key=lambda event: event.at)[-limit:])
    if as_json:
        print_json(lines)
        return
    for event in lines:
        replica = "" if event["index"] is None else f"/{event['index']}"
        print(f"{event['at'][:19]}  {event['deployment']}{replica}  {event['kind']}: {event['message']}")
    if not lines:
        print("nothing has happened yet")


def logs(
    name: Name,
    replica: Annotated[int | None, typer.Option(help="Index of the replica; the newest attempt without it.")] = None,
    lines: Annotated[int, typer.Option(help="How many of the last lines.", min=1, max=MOST_LINES)] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Print the tail of a replica's log."""
    with operator(_required_gateway()) as client:
        seen = client.log(name, replica, max(lines, FOLLOWED_LINES) if follow else lines).splitlines()
        text = "\n".join(seen[-lines:])
        if as_json:
            print_json({"name": name, "replica": replica, "log": text})
            return
        print(text, flush=True)
        while follow:
            time.sleep(1.0)
            now = client.log(name, replica, FOLLOWED_LINES).splitlines()
            for line in _newer(seen, now):
                print(line, flush=True)
            seen = now


def scale(name: Name, replicas: Annotated[int, typer.Argument(min=0)], as_json: Json = False) -> None:
    """Change the wanted number of replicas; surplus ones drain first."""
    _tell(name, lambda client: client.scale(name, replicas), as_json)


def drain(name: Name, replica: Annotated[int, typer.Argument(min=0)], as_json: Json = False) -> None:
    """Let one replica end its requests; another takes its place."""
    _tell(name, lambda client: client.drain(name, replica), as_json)


def restart(name: Name, as_json: Json = False) -> None:
    """Replace every replica, new ones first."""
    _tell(name, lambda client: client.restart(name), as_json)


def stop(
    names: Annotated[list[str] | None, typer.Argument(help="The deployments' names.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every deployment.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until the last job has ended.")] = True,
    timeout_s: Timeout = STOP_TIMEOUT_S,
) -> None:
    """Drain deployments, end their jobs and forget them.

    Their folders go to history/.
    """
    if bool(names) == everything:
        raise ConfigurationError("give the names of deployments, or --all")
    _require_known(*(names or []))
    with presence.gateway(settings(), say) as found, operator(found) as client:
        chosen = names or [row["name"] for row in client.deployments()]
        if wait:
            stop_and_wait(client, chosen, timeout_s, say)
        else:
            for name in chosen:
                client.stop(name)
        say(f"stopped: {', '.join(chosen) or 'nothing was running'}")


def _rows() -> list[dict[str, Any]]:
    found = presence.find(settings().home)
    if found:
        with operator(found) as client:
            return list(client.deployments())
    statuses = store.load_all(settings().home)
    if statuses:
        say("no gateway is running on this ENGINE_HOME: this is what was last known")
    cards = Cards(settings().home)
    cards.refresh()
    return [{**status_json(one, lambda endpoint: 0, ""), **_slots(one.deployment, cards)} for one in statuses.values()]


def _slots(deployment: Deployment, cards: Cards) -> dict[str, Any]:
    """As the gateway tells it: the slots of one replica, and whether a sweep found them."""
    if deployment.kind != "model":
        return {}
    measured = cards.find(deployment) is not None
    return {"slots": cards.slots(deployment), "measured": measured, "card_ignored": cards.ignored(deployment)}


def _required_gateway() -> presence.Presence:
    found = presence.find(settings().home)
    if not found:
        raise EngineError(
            f"no gateway answers for ENGINE_HOME {settings().home}; start one with `engine serve`, or read the files "
            f"in {settings().home / 'deployments'}/NAME/logs"
        )
    return found


def _require_known(*names: str) -> None:
    """Before anything is started or stopped because of a name that was mistyped."""
    known = store.load_all(settings().home)
    for name in names:
        if name not in known:
            raise UnknownName("deployment", name, known)


def _tell(name: str, ask: Callable[[EngineClient], dict[str, Any]], as_json: bool) -> None:
    _require_known(name)
    with presence.gateway(settings(), say) as found, operator(found) as client:
        row = ask(client)
        if as_json:
            print_json(row)
        else:
            print(describe(row))


def _stay(name: str, found: presence.Presence) -> None:
    say(f"this process keeps {name} up; Ctrl-C leaves its jobs running, `engine serve` takes them over")
    try:
        while not process_is_gone(found.pid):
            time.sleep(1.0)
        raise EngineError(f"the gateway (process {found.pid}) has ended; its log: {settings().home / 'serve.log'}")
    except KeyboardInterrupt:
        say("left")


def _print_launched(row: dict[str, Any]) -> None:
    print(describe(row))
    print(f"address  {row['url'] or '-'}")
    print(f"token    {row['access_token']}")


def _deployment_cells(row: dict[str, Any]) -> tuple[object, ...]:
    slots = f"{row['slots']}{' (measured)' if row['measured'] else ''}" if "slots" in row else "-"
    return (
        *(row["name"], row["kind"], row["model"] or "-", _engine(row)),
        *(row["stage"], _ready(row), slots, row["url"] or "-"),
    )


def _replica_cells(name: str, replica: dict[str, Any]) -> tuple[object, ...]:
    return (
        f"{name}/{replica['index']}",
        replica["job_id"] or "-",
        replica["job_state"] or "-",
        replica["stage"] if replica["in_rotation"] or replica["stage"] != "ready" else "silent",
        replica["node"] or "-",
        replica["endpoint"] or "-",
        replica["in_flight"],
        ago(replica["expires_at"]),
        replica["reason"],
    )


def _engine(row: dict[str, Any]) -> str:
    return f"{row['engine']} (simulated)" if row["simulated"] else str(row["engine"])


def _ready(row: dict[str, Any]) -> str:
    return f"{row['ready']}/{row['wanted']}"


def _newer(seen: list[str], now: list[str]) -> list[str]:
    """The lines of `now` after what was seen: the longest overlap of its end with the beginning of `now` is skipped."""
    for size in range(min(len(seen), len(now)), 0, -1):
        if seen[-size:] == now[:size]:
            return now[size:]
    return now
