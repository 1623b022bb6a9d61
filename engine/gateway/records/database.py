"""The database of the gateway by SQLAlchemy's URL: SQLite by default, PostgreSQL for those who have one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from engine.errors import ConfigurationError, DatabaseError

CONNECT_TIMEOUT_S = 5
BACKENDS = ("sqlite", "postgresql")
# The tables of what was used and when, which one hand writes together.
records = sa.MetaData()


def connect(url: str, metadata: sa.MetaData) -> sa.Engine:
    """An engine with the tables of `metadata`: made where they are missing, new columns added where they are older.

    `sqlite:///PATH` makes the folder; `postgresql://…` is spoken by psycopg. Raises ConfigurationError for another kind
    of database, SQLAlchemyError for one that does not answer.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "postgresql":
        arguments = {"connect_timeout": CONNECT_TIMEOUT_S}
        engine = sa.create_engine(parsed, pool_pre_ping=True, pool_size=2, connect_args=arguments)
    else:
        if parsed.database not in (None, "", ":memory:"):
            path = Path(str(parsed.database))
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)  # SQLite gives its other files the mode of this one
        engine = sa.create_engine(parsed)
        sa.event.listen(engine, "connect", _sqlite_settings)
    try:
        _bring_up_to_date(engine, metadata)
    except (sa.exc.OperationalError, sa.exc.ProgrammingError, sa.exc.IntegrityError):
        _bring_up_to_date(engine, metadata)  # another process may have made the same table in the same moment
    return engine


@contextmanager
def told(what: str, url: str) -> Iterator[None]:
    """Makes a DatabaseError of whatever the database raises, without its password."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, OSError) as error:
        shown = sa.make_url(url).render_as_string(hide_password=True)
        raise DatabaseError(f"the {what} database {shown} failed: {str(error).splitlines()[0]}") from error


def add(connection: sa.Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Adds the numbers of `rows` to those that stand under the same primary key, or begins with them."""
    if not rows:
        return
    connection.execute(_adding(table, connection.dialect.name), list(rows))


@cache
def _adding(table: sa.Table, dialect: str) -> Any:
    insert = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    keys = [column.name for column in table.primary_key]
    # A column that is younger than its row holds nothing there.
    sums = {c.name: sa.func.coalesce(c, 0) + insert.excluded[c.name] for c in table.columns if c.name not in keys}
    return insert.on_conflict_do_update(index_elements=keys, set_=sums)


def backend(url: str) -> str:
    """`sqlite` or `postgresql`."""
    return _parsed(url).get_backend_name()


def _parsed(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise ConfigurationError("ENGINE_DATABASE_URL is no URL such as sqlite:///PATH or postgresql://…") from error
    if parsed.get_backend_name() not in BACKENDS:
        raise ConfigurationError(f"ENGINE_DATABASE_URL is for {parsed.get_backend_name()}; {' or '.join(BACKENDS)}")
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def _bring_up_to_date(engine: sa.Engine, metadata: sa.MetaData) -> None:
    metadata.create_all(engine)
    there = sa.inspect(engine)
    for table in metadata.sorted_tables:
        known = {column["name"] for column in there.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                kind = column.type.compile(engine.dialect)
                with engine.begin() as connection:
                    connection.execute(sa.text(f'ALTER TABLE "{table.name}" ADD COLUMN "{column.name}" {kind}'))


def _sqlite_settings(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA busy_timeout=5000")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
