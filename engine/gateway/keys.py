"""API keys: stored hashed, known to the hot path by one dict lookup."""

import asyncio
import hashlib
import json
import logging
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from engine.errors import ConfigurationError, EngineError, UnknownName
from engine.gateway.records.database import connect, told

ROLES = ("admin", "user")
PREFIX = "sk-engine-"
LENGTH = len(PREFIX) + 43
REFRESH_S = 0.5

log = logging.getLogger("engine.keys")
metadata = sa.MetaData()
table = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("revoked_at", sa.String(32)),
    sa.Column("models", sa.Text),
    sa.Column("requests_per_minute", sa.BigInteger),
    sa.Column("tokens_per_day", sa.BigInteger),
    sa.Column("parallel", sa.BigInteger),
    sa.Column("changed_at", sa.String(32)),
)


@dataclass(frozen=True)
class Limits:
    """What a key may do: the models it opens (empty: all), by deployment or catalogue id, and its rates.

    None is no limit. A day is UTC's, tokens are prompt and completion together.
    """

    models: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_day: int | None = None
    parallel: int | None = None

    def allow(self, *names: str) -> bool:
        """Whether a model with one of these names is open to the key."""
        return not self.models or any(name in self.models for name in names)


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Key:
    """One key without its secret; times are ISO 8601, UTC."""

    id: str
    name: str
    role: str
    created_at: str = ""
    revoked_at: str | None = None
    limits: Limits = NO_LIMITS


def digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


class Keys:
    """Keys in a database, and in memory those that are valid.

    A key made by another process works at once, for an unknown one is looked up; a revoked one stops within a second,
    for the memory is compared with the database every REFRESH_S. `create`, `list`, `revoke` and `refresh` block.
    """

    def __init__(self, url: str, *, strangers_most: int = 10_000) -> None:
        """`url` is SQLAlchemy's; `sqlite:///PATH` makes the folder if need be.

        `strangers_most` bounds how many wrong secrets are remembered so as not to be looked up twice.
        """
        self._strangers_most = strangers_most
        self.url = url
        with self._told():
            self._engine = connect(url, metadata)
        self._lock = threading.Lock()
        self._valid: dict[bytes, Key] = {}
        self._fixed: dict[bytes, Key] = {}
        self._strangers: dict[bytes, None] = {}
        self._state: tuple[Any, ...] = ()
        # Of our own: the loop's common threads may all wait for a scheduler that hangs.
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="keys")
        self._refreshing: asyncio.Task[None] | None = None

    def create(self, name: str, role: str, limits: Limits = NO_LIMITS) -> tuple[Key, str]:
        """Makes a key; its secret is told here once and never again. Raises ConfigurationError for what cannot be."""
        if role not in ROLES:
            raise ConfigurationError(f"role is {role!r}; it must be one of {', '.join(ROLES)}")
        if not name.strip() or len(name) > 100 or not name.isprintable():
            raise ConfigurationError(f"a key's name has 1 to 100 printable characters, not {name!r}")
        _check(limits)
        limits = NO_LIMITS if limits == NO_LIMITS else limits
        secret = PREFIX + secrets.token_urlsafe(32)
        key = Key(id=secrets.token_hex(6), name=name, role=role, created_at=_now(), limits=limits)
        hashed = digest(secret.encode())
        row = {"id": key.id, "name": name, "role": role, "hash": hashed.hex(), "created_at": key.created_at}
        row |= _columns(limits)
        with self._lock, self._told(), self._engine.begin() as connection:
            connection.execute(table.insert().values(**row))
        self._valid[hashed] = key
        return key, secret

    def list(self) -> list[Key]:
        """All keys ever made, revoked ones included, oldest first."""
        with self._told(), self._engine.connect() as connection:
            rows = connection.execute(sa.select(table).order_by(table.c.created_at, table.c.id))
            return [_key(row) for row in rows]

    def revoke(self, id: str) -> Key:
        """Ends a key for good; one that was revoked already stays as it is. Raises UnknownName."""
        with self._lock, self._told(), self._engine.begin() as connection:
            connection.execute(
                table.update().where(table.c.id == id, table.c.revoked_at.is_(None)).values(revoked_at=_now())
            )
            row = connection.execute(sa.select(table).where(table.c.id == id)).first()
            if row is not None:
                self._valid.pop(bytes.fromhex(row.hash), None)
        if row is None:
            raise UnknownName("key", id, [key.id for key in self.list() if key.revoked_at is None])
        return _key(row)

    def limit(self, id: str, change: Callable[[Limits], Limits]) -> Key:
        """Gives a key other limits, made of those that it had; raises UnknownName, and ConfigurationError for what
        cannot be or a revoked key.
        """
        with self._lock, self._told(), self._engine.begin() as connection:
            row = connection.execute(sa.select(table).where(table.c.id == id)).first()
            if row is not None and row.revoked_at is None:
                limits = change(_key(row).limits)
                _check(limits)
                connection.execute(table.update().where(table.c.id == id).values(**_columns(limits), changed_at=_now()))
                row = connection.execute(sa.select(table).where(table.c.id == id)).one()
                self._valid[bytes.fromhex(row.hash)] = _key(row)
        if row is None:
            raise UnknownName("key", id, [key.id for key in self.list() if key.revoked_at is None])
        if row.revoked_at is not None:
            raise ConfigurationError(f"key {row.name!r} is revoked; make a new one")
        return _key(row)

    def add_fixed(self, secret: str, key: Key) -> None:
        """Takes a secret that stands in no database: the operator's token of this start."""
        self._fixed[digest(secret.encode())] = key

    def known(self, secret: bytes) -> Key | None:
        """The valid key of a secret, from memory alone."""
        hashed = digest(secret)
        return self._valid.get(hashed) or self._fixed.get(hashed)

    async def verify(self, secret: bytes) -> Key | None:
        """The valid key of a secret; one that is not in memory is looked up in the database, in a thread."""
        key = self.known(secret)
        if key is not None or len(secret) != LENGTH or not secret.startswith(PREFIX.encode()):
            return key
        hashed = digest(secret)
        if hashed in self._strangers:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._look_up, hashed)

    def refresh(self) -> None:
        """Brings the memory up to date; reads the table only when a key was made or revoked since."""
        with self._lock, self._told(), self._engine.connect() as connection:
            state = tuple(connection.execute(_STATE).one())
            if state == self._state:
                return
            rows = connection.execute(sa.select(table).where(table.c.revoked_at.is_(None)))
            self._valid = {bytes.fromhex(row.hash): _key(row) for row in rows}
            self._state = state

    def start(self) -> None:
        """Begins to refresh in the background; needs a running loop."""
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh_for_ever())

    async def stop(self) -> None:
        task, self._refreshing = self._refreshing, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def close(self) -> None:
        self._threads.shutdown()
        self._engine.dispose()

    def _look_up(self, hashed: bytes) -> Key | None:
        wanted = sa.select(table).where(table.c.hash == hashed.hex(), table.c.revoked_at.is_(None))
        # Under the lock, or a refresh in between could drop a revoked key that is then put back here.
        with self._lock, self._told(), self._engine.connect() as connection:
            row = connection.execute(wanted).first()
            if row is not None:
                return self._valid.setdefault(hashed, _key(row))
            while len(self._strangers) >= self._strangers_most:
                self._strangers.pop(next(iter(self._strangers)), None)
            self._strangers[hashed] = None
        return None

    def _told(self) -> AbstractContextManager[None]:
        return told("key", self.url)

    async def _refresh_for_ever(self) -> None:
        while True:
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, self.refresh)
            except EngineError as error:
                log.warning("keys in memory stay as they are: %s", error)
            await asyncio.sleep(REFRESH_S)


# Keys are added, limited and revoked, never deleted, so these tell whether anything changed.
_STATE = sa.select(
    sa.func.count(),
    sa.func.count(table.c.revoked_at),
    *(sa.func.max(table.c[name]) for name in ("created_at", "revoked_at", "changed_at")),
).select_from(table)


def _check(limits: Limits) -> None:
    for name in ("requests_per_minute", "tokens_per_day", "parallel"):
        value = getattr(limits, name)
        if value is not None and not 1 <= value < 2**53:
            raise ConfigurationError(f"{name} is {value}; it must be 1 or more, or nothing for no limit")
    if not all(0 < len(model) <= 200 and model.isprintable() for model in limits.models):
        raise ConfigurationError(f"models are {list(limits.models)!r}; each must be the name of a model")


def _columns(limits: Limits) -> dict[str, Any]:
    return asdict(limits) | {"models": json.dumps(limits.models) if limits.models else None}


def _key(row: Any) -> Key:
    models = tuple(json.loads(row.models)) if row.models else ()
    limits = Limits(models, row.requests_per_minute, row.tokens_per_day, row.parallel)
    return Key(row.id, row.name, row.role, row.created_at, row.revoked_at, NO_LIMITS if limits == NO_LIMITS else limits)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
