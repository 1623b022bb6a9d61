import asyncio
import sqlite3
import subprocess
import sys
import time

import pytest

from engine.errors import ConfigurationError, EngineError, UnknownName
from engine.gateway.keys import LENGTH, NO_LIMITS, PREFIX, Key, Keys, Limits, digest


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'local' / 'engine.db'}"


@pytest.fixture
def keys(url):
    made = Keys(url)
    yield made
    made.close()


async def test_a_new_key_is_known_by_its_secret_alone(keys):
    key, secret = keys.create("demo", "user")
    assert secret.startswith(PREFIX) and len(secret) == LENGTH
    assert keys.known(secret.encode()) == key
    assert (await keys.verify(b"sk-engine-" + b"x" * 43)) is None
    assert (await keys.verify(b"")) is None


def test_no_secret_is_stored(keys, url):
    _, secret = keys.create("demo", "admin")
    path = url.removeprefix("sqlite:///")
    dump = "\n".join(sqlite3.connect(path).iterdump())
    assert secret not in dump and secret[len(PREFIX) :] not in dump
    assert sqlite3.connect(path).execute("pragma journal_mode").fetchone() == ("wal",)


def test_the_database_is_for_its_owner_alone(tmp_path):
    keys = Keys(f"sqlite:///{tmp_path / 'new' / 'engine.db'}")
    keys.create("demo", "user")
    assert [path.name for path in (tmp_path / "new").iterdir() if path.stat().st_mode & 0o077] == []
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    keys.close()


def test_a_database_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="key database"):
        Keys(f"sqlite:///{tmp_path / 'file' / 'engine.db'}")


async def test_a_key_of_another_process_works_at_once(keys, url):
    code = f"from engine.gateway.keys import Keys; print(Keys({url!r}).create('other', 'user')[1])"
    command = [sys.executable, "-c", code]
    ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, timeout=30)
    secret = ran.stdout
    found = await keys.verify(secret.strip().encode())
    assert found is not None and found.name == "other"
    assert keys.known(secret.strip().encode()) == found


async def test_a_key_that_another_process_revokes_stops_within_a_second(keys, url):
    key, secret = keys.create("demo", "user")
    keys.start()
    other = Keys(url)
    try:
        await asyncio.sleep(0.1)
        other.revoke(key.id)
        begun = time.monotonic()
        while await keys.verify(secret.encode()):
            assert time.monotonic() - begun < 1
            await asyncio.sleep(0.02)
    finally:
        other.close()
        await keys.stop()


async def test_a_revoked_key_stops_at_once_here_and_stays_listed(keys):
    key, secret = keys.create("demo", "user")
    assert keys.revoke(key.id).revoked_at
    assert await keys.verify(secret.encode()) is None
    assert [(k.name, bool(k.revoked_at)) for k in keys.list()] == [("demo", True)]
    assert keys.revoke(key.id).revoked_at == keys.list()[0].revoked_at


def test_revoking_what_is_unknown_names_the_known(keys):
    key, _ = keys.create("demo", "user")
    with pytest.raises(UnknownName, match=key.id):
        keys.revoke("nothing")


@pytest.mark.parametrize(("name", "role"), [("demo", "root"), ("", "user"), ("a\nb", "user"), ("x" * 101, "user")])
def test_wrong_names_and_roles_are_refused(keys, name, role):
    with pytest.raises(ConfigurationError):
        keys.create(name, role)


async def test_guessing_keys_grows_nothing_without_bound(url):
    keys = Keys(url, strangers_most=20)
    for number in range(60):
        guess = PREFIX + str(number).rjust(LENGTH - len(PREFIX), "g")
        assert await keys.verify(guess.encode()) is None
    assert len(keys._strangers) == 20 and not keys._valid
    keys.close()


async def test_the_operators_secret_is_an_admin_without_a_database_row(keys):
    keys.add_fixed("secret-of-this-start", Key("operator", "operator", "admin"))
    keys.refresh()
    found = await keys.verify(b"secret-of-this-start")
    assert found is not None and found.role == "admin" and keys.list() == []


async def test_a_database_that_fails_is_told_and_known_keys_go_on(keys, url):
    _, secret = keys.create("demo", "user")
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("drop table keys")
    assert await keys.verify(secret.encode())
    with pytest.raises(EngineError, match="key database"):
        await keys.verify((PREFIX + "y" * 43).encode())


LIMITS = Limits(("sim", "llama-3.1-8b"), 60, 100_000, 4)


async def test_limits_are_kept_with_the_key_and_known_to_another_process(keys, url):
    key, secret = keys.create("limited", "user", LIMITS)
    plain, _ = keys.create("plain", "user", Limits())
    assert key.limits == LIMITS and plain.limits is NO_LIMITS
    other = Keys(url)
    try:
        assert [k.limits for k in other.list()] == [LIMITS, NO_LIMITS]
        assert (await other.verify(secret.encode())).limits == LIMITS
    finally:
        other.close()
    assert LIMITS.allow("other", "sim") and not LIMITS.allow("other") and NO_LIMITS.allow("other")


@pytest.mark.parametrize(
    "limits", [Limits(parallel=0), Limits(requests_per_minute=-1), Limits(tokens_per_day=2**60), Limits(("",))]
)
def test_limits_that_cannot_be_are_refused(keys, limits):
    with pytest.raises(ConfigurationError):
        keys.create("demo", "user", limits)


async def test_a_database_of_before_there_were_limits_is_brought_up_to_date(tmp_path):
    path = tmp_path / "old.db"
    secret = PREFIX + "o" * 43
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE keys (id VARCHAR(16) PRIMARY KEY, name VARCHAR(100) NOT NULL, role VARCHAR(16) NOT NULL, "
            "hash VARCHAR(64) NOT NULL UNIQUE, created_at VARCHAR(32) NOT NULL, revoked_at VARCHAR(32))"
        )
        row = ("abc", "old", "user", digest(secret.encode()).hex(), "2026-01-01T00:00:00Z", None)
        connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)", row)
    connection.close()
    for _ in range(2):
        keys = Keys(f"sqlite:///{path}")
        found = await keys.verify(secret.encode())
        assert found is not None and found.name == "old" and found.limits is NO_LIMITS
        keys.create("new", "user", LIMITS)
        keys.close()


def test_another_kind_of_database_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="sqlite or postgresql"):
        Keys("mysql://user@localhost/engine")
    with pytest.raises(ConfigurationError, match="no URL"):
        Keys("engine.db")
