"""status, cluster, queue, requests, gpu-hours, inspect, check: what the console shows, from the command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from engine import presence
from engine.client import EngineClient
from engine.commands import request
from engine.errors import EngineError, GatewayError
from engine.launching import operator
from engine.terminal import Json, ago, print_json, print_table, settings

Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="UTC.")]


class What(StrEnum):
    script = "script"
    hosts = "hosts"
    nginx = "nginx"
    probe = "probe"


def status(as_json: Json = False) -> None:
    """Tell how all of it is, and what needs attention."""
    with _gateway() as client:
        found = client.overview()
    if as_json:
        print_json(found)
        return
    rows = [("gateway", "answers", f"up {found['gateway']['uptime_s']:.0f} s at {found['gateway']['address']}")]
    rows += [(one["name"], "answers" if one["answers"] else "silent", one["trouble"]) for one in found["schedulers"]]
    rows.append(("nginx", _nginx(found["nginx"]), found["nginx"]["error"]))
    trouble = found["database"]["trouble"]
    rows.append(("database", "fails" if trouble else "answers", trouble or found["database"]["kind"]))
    rows += [(kind, ", ".join(f"{n} {word}" for word, n in found[kind].items()), "") for kind in ("models", "apps")]
    print_table(("PART", "STATE", "MORE"), rows, "")
    for one in found["attention"]:
        print(f"\n{one['level']}: {one['what']}\n  {one['action']}")


def cluster(as_json: Json = False) -> None:
    """List nodes, and whose their GPUs are."""
    with _gateway() as client:
        nodes, gpus = client.cluster(), client.gpus()
    if as_json:
        print_json({name: {"nodes": nodes[name], "gpus": gpus.get(name)} for name in nodes})
        return
    use = {(name, one["name"]): one for name, each in gpus.items() for one in each["nodes"]}
    head = ("SCHEDULER", "NODE", "STATE", "PARTITIONS", "CPUS", "GPUS", "OURS", "OTHERS'", "REASON")
    rows = [_node_cells(name, node, use.get((name, node["name"]), {})) for name, each in nodes.items() for node in each]
    print_table(head, rows, "no nodes")


def queue(as_json: Json = False) -> None:
    """List requests in flight and waiting, by deployment."""
    with _gateway() as client:
        found = client.queue()
    if as_json:
        print_json(found)
        return
    rows = [
        (one["name"], one["in_flight"], one["queued"], one["capacity"], "yes" if one["peak"] else "-") for one in found
    ]
    print_table(("NAME", "IN FLIGHT", "WAITING", "AT ONCE", "PEAK"), rows, "no models")


def requests(
    model: Annotated[str | None, typer.Option(help="Of this deployment alone.")] = None,
    key: Annotated[str | None, typer.Option(help="Of the key with this id alone.")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only what went wrong.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10000)] = 20,
    as_json: Json = False,
) -> None:
    """List the last requests, the latest first."""
    with _gateway() as client:
        found = client.requests(limit, model=model, key=key, outcome="error" if errors else None)
    if as_json:
        print_json(found)
        return
    head = ("AT", "KEY", "MODEL", "STATUS", "SECONDS", "TOKENS", "REPLICA", "ERROR")
    rows = [
        (one["at"], one["key"], one["model"] or "-", one["status"], f"{one['latency_s']:.3f}",
         one["prompt_tokens"] + one["completion_tokens"], one["replica"] or "-", one["error"] or "-")
        for one in found
    ]  # fmt: skip
    print_table(head, rows, "no requests")


def gpu_hours(first: Day = None, last: Day = None, as_json: Json = False) -> None:
    """GPU and CPU hours by day and deployment, from Slurm's accounting."""
    days = [day.date().isoformat() if day else None for day in (first, last)]
    with _gateway() as client:
        found = client.gpu_hours(*days)
    if as_json:
        print_json(found)
        return
    rows = [(row["day"], row["deployment"] or "-", row["gpu_hours"], row["cpu_hours"]) for row in found["rows"]]
    print_table(("DAY", "DEPLOYMENT", "GPU HOURS", "CPU HOURS"), rows, found["reason"] or "no job ran in this time")


def inspect(
    name: Annotated[str, typer.Argument(help="The deployment's name.")],
    what: What,
    replica: Annotated[int | None, typer.Option(help="Index of one replica.")] = None,
) -> None:
    """Print a deployment's script, hosts file or part of nginx.conf, or probe its replicas."""
    with _gateway() as client:
        match what:
            case What.script:
                print(client.script(name, replica), end="")
            case What.hosts:
                print(client.hosts(name)["text"], end="")
            case What.nginx:
                print(client.nginx(name), end="")
            case What.probe:
                print_json(client.probe(name, replica))


@request.with_launch_options
def check(wanted: dict[str, Any], as_json: Json = False) -> None:
    """Tell whether a launch fits the cluster and when it would start; nothing is submitted."""
    with _gateway() as client:
        fit = client.fit(**wanted)
        try:
            start = client.test_only(**wanted)
        except GatewayError as error:
            start = {"error": str(error)}
    if as_json:
        print_json({"fit": fit, "start": start})
        return
    print(fit["words"])
    at = start.get("expected_start_at")
    print(start.get("error") or (f"expected to start at {at} (in {ago(at)})" if at else "no time is known"))


@contextmanager
def _gateway() -> Iterator[EngineClient]:
    found = presence.find(settings().home)
    if not found:
        raise EngineError(f"no gateway answers for ENGINE_HOME {settings().home}; start one with `engine serve`")
    with operator(found) as client:
        yield client


def _nginx(state: dict[str, Any]) -> str:
    return "not used" if not state["wanted"] else "runs" if state["running"] else "down"


def _node_cells(scheduler: str, node: dict[str, Any], use: dict[str, Any]) -> tuple[object, ...]:
    return (
        scheduler,
        node["name"],
        node["state"],
        ",".join(node["partitions"]),
        f"{node['cpus_used']}/{node['cpus']}",
        _counts(node["gpus"]),
        _counts(use.get("ours", {})),
        _counts(use.get("others", {})),
        node["reason"] or "-",
    )


def _counts(gpus: dict[str, int]) -> str:
    return ",".join(f"{kind}:{n}" for kind, n in gpus.items()) or "-"
