"""nginx.conf for the one address, rendered from templates/nginx (pure: values in, text out)."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from engine.errors import ConfigurationError
from engine.fleet.deployments import Status
from engine.fleet.hosts import Endpoint

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,60}[a-z0-9])?")
PATH = re.compile(r"/([a-z0-9][a-z0-9._-]*/)*")
TOKEN = re.compile(r"[A-Za-z0-9_-]{8,256}")
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}")
FOLDER = re.compile(r"(/[A-Za-z0-9._+@=,~-]+)+")
CONTROL_PATHS = ("/api/", "/docs", "= /openapi.json", "= /health", "= /metrics")
# llama.cpp closes a connection after each stream although it says keep-alive (measured): such a one is not used again.
CLOSES_CONNECTIONS = frozenset({"llamacpp"})


def nginx(
    statuses: Sequence[Status],
    *,
    home: Path,
    host: str,
    port: int,
    gateway: str | None,
    templates: Path,
    max_conns: Mapping[str, int] | None = None,
    retry_after_s: int = 5,
    workers: str = "auto",
) -> str:
    """The whole configuration. `gateway` is its HOST:PORT, or None where none runs; `home` is NGINX's own folder.

    `max_conns` bounds the requests that a deployment's replica gets from NGINX; there is no queue: others get 502.
    Raises ConfigurationError for a value that must not reach the file.
    """
    ordered = sorted(statuses, key=lambda status: status.deployment.name)
    deployments = [_deployment(i, status, (max_conns or {})) for i, status in enumerate(ordered)]
    _check_paths(deployments)
    template = _environment(templates).get_template("nginx.conf.j2")
    return template.render(
        home=_checked(FOLDER, str(home), "its folder (choose another ENGINE_HOME)"),
        listen=_address(host, port),
        gateway=_gateway(gateway) if gateway else None,
        deployments=deployments,
        root_app=any(d["app"] and d["path"] == "/" for d in deployments),
        control_paths=CONTROL_PATHS,
        retry_after_s=int(retry_after_s),
        workers=_checked(re.compile(r"auto|[1-9][0-9]{0,2}"), workers, "worker_processes"),
    )


def excerpt(text: str, name: str) -> str:
    """The blocks of a configuration that are about one deployment: its upstream and its locations, with every secret
    blotted out.
    """
    about = re.compile(rf"(?<![A-Za-z0-9._-]){re.escape(name)}(?![A-Za-z0-9._-])|_{re.escape(name)}[ ;{{/]")
    blocks = [block for block in _blocks(text) if about.search(block)]
    return re.sub(r"Bearer [A-Za-z0-9_-]{8,}", "Bearer …", "\n".join(blocks))


def _blocks(text: str) -> list[str]:
    """`upstream` and `location` blocks, which hold no such block themselves."""
    found: list[str] = []
    lines: list[str] | None = None
    depth = 0
    for line in text.splitlines():
        if lines is None and line.strip().startswith(("upstream ", "location ")):
            lines, depth = [], 0
        if lines is not None:
            lines.append(line)
            # Braces inside of quotes are those of JSON answers, which come in pairs.
            depth += line.count("{") - line.count("}")
            if depth <= 0:
                found.append(textwrap.dedent("\n".join(lines)) + "\n")
                lines = None
    return found


def _environment(templates: Path) -> Environment:
    return Environment(
        loader=FileSystemLoader(templates / "nginx"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def _deployment(i: int, status: Status, max_conns: Mapping[str, int]) -> dict[str, Any]:
    asked = status.deployment
    name = _checked(NAME, asked.name, "deployment name")
    app = asked.kind == "app"
    endpoints = sorted({(r.endpoint.host, r.endpoint.port): r.endpoint for r in status.serving if r.endpoint}.items())
    limit = max(0, int(max_conns.get(name, 0)))
    return {
        "name": name,
        "app": app,
        "path": _checked(PATH, asked.path, f"path of {name}") if app else "",
        "strip_path": asked.strip_path,
        "upstream": f"{'app' if app else 'deployment'}_{name}",
        "variable": f"engine_key_{i}",
        "servers": [{"address": _endpoint(endpoint), "max_conns": limit} for _, endpoint in endpoints],
        "keepalive": asked.engine not in CLOSES_CONNECTIONS,
        "access_token": "" if app else _secret(status.access_token, f"access token of {name}"),
        "replica_key": "" if app else _secret(status.replica_key, f"replica key of {name}"),
    }


def _check_paths(deployments: Sequence[Mapping[str, Any]]) -> None:
    taken: dict[str, str] = {}
    for d in deployments:
        if not d["app"]:
            continue
        if d["path"].startswith(("/v1/", "/api/", "/docs/", "/deployments/", "/health/", "/metrics/")):
            raise ConfigurationError(f"the path {d['path']} of {d['name']} belongs to the engine itself")
        if d["path"] in taken:
            raise ConfigurationError(f"the path {d['path']} is wanted by both {taken[d['path']]} and {d['name']}")
        taken[d["path"]] = d["name"]


def _checked(form: re.Pattern[str], value: str, what: str) -> str:
    if not form.fullmatch(value):
        raise ConfigurationError(f"nginx.conf: {what} is {value!r}, which must match {form.pattern}")
    return value


def _secret(value: str, what: str) -> str:
    if not TOKEN.fullmatch(value):
        raise ConfigurationError(f"nginx.conf: the {what} must match {TOKEN.pattern}; its file was changed by hand")
    return value


def _endpoint(endpoint: Endpoint) -> str:
    return _address(endpoint.host, endpoint.port)


def _address(host: str, port: int) -> str:
    _checked(HOST, host, "host")
    if not 0 < int(port) < 65536:
        raise ConfigurationError(f"nginx.conf: {port} is not a port")
    return f"[{host}]:{int(port)}" if ":" in host else f"{host}:{int(port)}"


def _gateway(address: str) -> str:
    host, _, port = address.rpartition(":")
    return _address(host.strip("[]"), int(port) if port.isdecimal() else 0)
