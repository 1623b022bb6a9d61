"""keys create, list, revoke: who may use the gateway."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from engine.commands.output import Json, print_json, print_table, settings
from engine.gateway.keys import Keys
from engine.settings import require_local_disk

app = typer.Typer(help="Who may use the gateway.")


class Role(StrEnum):
    admin = "admin"
    user = "user"


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Whose key it is.")],
    role: Annotated[Role, typer.Option(help="admin may launch and stop; user may ask models.")] = Role.user,
    as_json: Json = False,
) -> None:
    """Make a key; it is shown this once. A running gateway takes it at once."""
    with _keys() as keys:
        key, secret = keys.create(name, role.value)
    if as_json:
        print_json({"id": key.id, "name": key.name, "role": key.role, "key": secret})
    else:
        print(secret)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List keys, never their secrets."""
    with _keys() as keys:
        found = keys.list()
    if as_json:
        print_json([{name: value for name, value in asdict(key).items() if name != "hash"} for key in found])
        return
    rows = [(key.id, key.name, key.role, key.created_at, key.revoked_at or "-") for key in found]
    print_table(
        ("ID", "NAME", "ROLE", "CREATED", "REVOKED"), rows, "no keys; `engine keys create --name NAME` makes one"
    )


@app.command()
def revoke(id: Annotated[str, typer.Argument(help="As `keys list` shows it.")]) -> None:
    """End a key's validity; a running gateway refuses it within a second."""
    with _keys() as keys:
        print(f"revoked: {keys.revoke(id).name}")


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
