"""keys create, list, revoke: who may use the gateway."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import StrEnum
from typing import Annotated, Any

import typer

from engine.gateway.keys import NO_LIMITS, Key, Keys, Limits
from engine.settings import require_local_disk
from engine.terminal import Json, print_json, print_table, settings

app = typer.Typer(help="Who may use the gateway.")


class Role(StrEnum):
    admin = "admin"
    user = "user"


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Whose key it is.")],
    role: Annotated[Role, typer.Option(help="admin may launch and stop; user may ask models.")] = Role.user,
    models: Annotated[str, typer.Option(help="The models it opens, with commas between; without: all.")] = "",
    rpm: Annotated[int | None, typer.Option(min=1, help="Requests per minute.")] = None,
    tokens_per_day: Annotated[int | None, typer.Option(min=1, help="Prompt and completion, per day in UTC.")] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="Requests at the same time.")] = None,
    as_json: Json = False,
) -> None:
    """Make a key; it is shown this once. A running gateway takes it at once."""
    opened = tuple(model.strip() for model in models.split(",") if model.strip())
    with _keys() as keys:
        key, secret = keys.create(name, role.value, Limits(opened, rpm, tokens_per_day, parallel))
    if as_json:
        limits = {"limits": _row(key)["limits"]} if key.limits is not NO_LIMITS else {}
        print_json({"id": key.id, "name": key.name, "role": key.role, **limits, "key": secret})
    else:
        print(secret)


@app.command()
def limit(
    id: Annotated[str, typer.Argument(help="As `keys list` shows it.")],
    models: Annotated[str | None, typer.Option(help="The models it opens, with commas between; empty: all.")] = None,
    rpm: Annotated[int | None, typer.Option(min=0, help="Requests per minute; 0 for no limit.")] = None,
    tokens_per_day: Annotated[int | None, typer.Option(min=0, help="Prompt and completion; 0 for no limit.")] = None,
    parallel: Annotated[int | None, typer.Option(min=0, help="Requests at the same time; 0 for no limit.")] = None,
) -> None:
    """Change what a key may do; what is not given stays. A running gateway goes by it within a second."""
    rates = {"requests_per_minute": rpm, "tokens_per_day": tokens_per_day, "parallel": parallel}
    given: dict[str, Any] = {name: value or None for name, value in rates.items() if value is not None}
    if models is not None:
        given["models"] = tuple(model.strip() for model in models.split(",") if model.strip())
    with _keys() as keys:
        changed = keys.limit(id, lambda before: replace(before, **given))
    print(f"{changed.name}: {_limits(changed.limits)}")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List keys, never their secrets."""
    with _keys() as keys:
        found = keys.list()
    if as_json:
        print_json([_row(key) for key in found])
        return
    rows = [(key.id, key.name, key.role, _limits(key.limits), key.created_at, key.revoked_at or "-") for key in found]
    head = ("ID", "NAME", "ROLE", "LIMITS", "CREATED", "REVOKED")
    print_table(head, rows, "no keys; `engine keys create --name NAME` makes one")


@app.command()
def revoke(id: Annotated[str, typer.Argument(help="As `keys list` shows it.")]) -> None:
    """End a key's validity; a running gateway refuses it within a second."""
    with _keys() as keys:
        print(f"revoked: {keys.revoke(id).name}")


def _row(key: Key) -> dict[str, Any]:
    row = asdict(key)
    return {**row, "limits": {**row["limits"], "models": list(key.limits.models)}}


def _limits(limits: Limits) -> str:
    rates = (
        (limits.requests_per_minute, "a minute"),
        (limits.tokens_per_day, "tokens a day"),
        (limits.parallel, "parallel"),
    )
    return ", ".join([*limits.models, *(f"{value} {what}" for value, what in rates if value is not None)]) or "-"


@contextmanager
def _keys() -> Iterator[Keys]:
    chosen = settings()
    require_local_disk(chosen.local)
    chosen.local.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys = Keys(chosen.database_url)
    try:
        yield keys
    finally:
        keys.close()
