"""API keys: stored hashed, known to the hot path by one dict lookup."""

import asyncio
import hashlib
import logging
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from engine.errors import ConfigurationError, EngineError, UnknownName

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
)


@dataclass(frozen=True)
class Key:
    """One key without its secret; times are ISO 8601, UTC."""

    id: str
    name: str
    role: str
    created_at: str = ""
    revoked_at: str | None = None


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
        self._url = sa.make_url(url).render_as_string(hide_password=True)
        with self._told():
            self._engine = _connect(url)
        self._lock = threading.Lock()
        self._valid: dict[bytes, Key] = {}
        self._fixed: dict[bytes, Key] = {}
        self._strangers: dict[bytes, None] = {}
        self._state: tuple[Any, ...] = ()
        # Of our own: the loop's common threads may all wait for a scheduler that hangs.
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="keys")
        self._refreshing: asyncio.Task[None] | None = None

    def create(self, name: str, role: str) -> tuple[Key, str]:
        """Makes a key; its secret is told here once and never again."""
        if role not in ROLES:
            raise ConfigurationError(f"role is {role!r}; it must be one of {', '.join(ROLES)}")
        if not name.strip() or len(name) > 100 or not name.isprintable():
            raise ConfigurationError(f"a key's name has 1 to 100 printable characters, not {name!r}")
        secret = PREFIX + secrets.token_urlsafe(32)
        key = Key(id=secrets.token_hex(6), name=name, role=role, created_at=_now())
        hashed = digest(secret.encode())
        with self._lock, self._told(), self._engine.begin() as connection:
            connection.execute(
                table.insert().values(id=key.id, name=name, role=role, hash=hashed.hex(), created_at=key.created_at)
            )
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

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise EngineError(f"the key database {self._url} failed: {str(error).splitlines()[0]}") from error

    async def _refresh_for_ever(self) -> None:
        while True:
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads, self.refresh)
            except EngineError as error:
                log.warning("keys in memory stay as they are: %s", error)
            await asyncio.sleep(REFRESH_S)


# Keys are only ever added and revoked, never deleted, so these tell whether anything changed.
_STATE = sa.select(
    sa.func.count(), sa.func.count(table.c.revoked_at), sa.func.max(table.c.created_at), sa.func.max(table.c.revoked_at)
).select_from(table)


def _connect(url: str) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
        path = Path(str(parsed.database))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)  # SQLite gives its other files the mode of this one
    engine = sa.create_engine(parsed)
    if parsed.get_backend_name() == "sqlite":
        sa.event.listen(engine, "connect", _sqlite_settings)
    metadata.create_all(engine)
    return engine


def _sqlite_settings(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA busy_timeout=5000")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _key(row: Any) -> Key:
    return Key(row.id, row.name, row.role, row.created_at, row.revoked_at)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
