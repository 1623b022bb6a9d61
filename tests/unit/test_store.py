"""Deployments on disk: what is saved, what is kept of the past, and what a damaged folder does."""

import json
import stat
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.errors import UnknownName
from engine.fleet import store
from engine.fleet.deployments import Event, Failure, Replica, Status, create_whole, folder, write_atomically
from engine.fleet.hosts import Endpoint, Timing
from tests import fakes

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def event(name: str = "sim", message: str = "hello", at: datetime = NOW) -> Event:
    return Event(at, name, "submitted", message)


def test_what_is_saved_is_loaded_again(tmp_path: Path) -> None:
    created = store.create(tmp_path, fakes.deployment(arguments={"capacity": "4"}))
    replica = Replica(
        0, 1, 1, job_id="7", endpoint=Endpoint("n1", 9000, "secret"), timing=Timing(1.0, 0.1), ready_at=NOW
    )
    status = replace(
        created, replicas=(replica,), failures=(Failure(0, 1, NOW, True, "x"),), next_attempt=2, gave_up="y"
    )
    store.save(tmp_path, status)
    loaded = store.load_all(tmp_path)["sim"]
    without_key = replace(replica, endpoint=Endpoint("n1", 9000))
    assert loaded == replace(status, replicas=(without_key,))
    assert "secret" not in folder(tmp_path, "sim").replicas.read_text()


def test_secrets_are_for_the_owner_alone_and_stay_the_same(tmp_path: Path) -> None:
    status = store.create(tmp_path, fakes.deployment())
    place = folder(tmp_path, "sim")
    for path in (place.replica_key, place.access_token):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert store.load_all(tmp_path)["sim"].replica_key == status.replica_key != status.access_token
    assert (place.root / "replica.py").is_file()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("deployment.json", "{"),
        ("deployment.json", '{"name": "other"}'),
        ("deployment.json", "\xff"),
        ("access.token", ""),
        ("replica.key", 'x"; return 200; #'),
    ],
)
def test_a_damaged_deployment_is_told_of_and_the_others_are_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, content: str
) -> None:
    for name in ("bad", "sim"):
        store.create(tmp_path, fakes.deployment(name))
    (tmp_path / "deployments" / "bad" / file).write_bytes(content.encode("latin-1"))
    assert list(store.load_all(tmp_path)) == ["sim"]
    assert "deployments/bad" in caplog.text
    assert store.names(tmp_path) == ["bad", "sim"]


def test_a_record_of_an_older_version_is_read_with_defaults(tmp_path: Path) -> None:
    store.create(tmp_path, fakes.deployment())
    path = folder(tmp_path, "sim").deployment
    fields = json.loads(path.read_text())
    del fields["first_attempt"]
    path.write_text(json.dumps(fields))
    assert store.load_all(tmp_path)["sim"].deployment.first_attempt == 1


def test_a_name_used_again_counts_its_attempts_on(tmp_path: Path) -> None:
    first = store.create(tmp_path, fakes.deployment())
    store.archive(tmp_path, replace(first, next_attempt=4), NOW)
    second = store.create(tmp_path, fakes.deployment())
    assert (second.next_attempt, second.deployment.first_attempt) == (4, 4)
    store.remove(tmp_path, replace(second, next_attempt=6))
    assert store.create(tmp_path, fakes.deployment()).next_attempt == 6
    assert store.create(tmp_path, fakes.deployment("other")).next_attempt == 1


def test_a_stopped_deployment_goes_to_history_without_its_secrets(tmp_path: Path) -> None:
    for minute in (0, 1):
        status = store.create(tmp_path, fakes.deployment())
        store.append_events(tmp_path, [event(message=f"run {minute}")])
        kept = store.archive(tmp_path, status, NOW + timedelta(minutes=minute))
        assert not (kept / "replica.key").exists() and not (kept / "access.token").exists()
    assert store.load_all(tmp_path) == {}
    assert [each.message for each in store.read_events(tmp_path, "sim", 9)] == ["run 1"]


def test_history_is_bounded(tmp_path: Path) -> None:
    for minute in range(store.HISTORY_KEPT + 2):
        store.archive(tmp_path, store.create(tmp_path, fakes.deployment()), NOW + timedelta(minutes=minute))
    kept = sorted(path.name for path in (tmp_path / "history").iterdir())
    assert len(kept) == store.HISTORY_KEPT and "T120200" in kept[0]


def test_events_of_a_stopped_deployment_are_not_those_of_one_whose_name_ends_alike(tmp_path: Path) -> None:
    for minute, name in enumerate(["sim", "my-sim"]):
        status = store.create(tmp_path, fakes.deployment(name))
        store.append_events(tmp_path, [event(name, f"of {name}")])
        store.archive(tmp_path, status, NOW + timedelta(minutes=minute))
    assert [each.message for each in store.read_events(tmp_path, "sim", 9)] == ["of sim"]
    assert [each.message for each in store.read_events(tmp_path, "my-sim", 9)] == ["of my-sim"]


def test_events_of_a_name_that_never_was_are_an_error_that_names_the_known(tmp_path: Path) -> None:
    store.create(tmp_path, fakes.deployment())
    store.append_events(tmp_path, [event()])
    with pytest.raises(UnknownName, match=r"'smi'.*known: sim"):
        store.read_events(tmp_path, "smi", 9)


def test_a_torn_line_of_events_is_skipped(tmp_path: Path) -> None:
    store.create(tmp_path, fakes.deployment())
    store.append_events(tmp_path, [event(message="whole")])
    with folder(tmp_path, "sim").events.open("a") as file:
        file.write('{"at": "2026')
    assert [each.message for each in store.read_events(tmp_path, "sim", 9)] == ["whole"]


def test_the_last_events_are_read(tmp_path: Path) -> None:
    store.create(tmp_path, fakes.deployment())
    store.append_events(tmp_path, [event(message=str(n)) for n in range(10)])
    assert [each.message for each in store.read_events(tmp_path, "sim", 3)] == ["7", "8", "9"]
    assert store.read_events(tmp_path, "sim", 0) == []


def test_the_tail_of_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert store.tail(tmp_path / "none", 100, 5) == []


def test_a_home_keeps_its_mark_and_many_starters_agree_on_it(tmp_path: Path) -> None:
    found: list[str] = []
    start = threading.Barrier(8)

    def read() -> None:
        start.wait()
        found.append(store.home_id(tmp_path / "new"))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found[0]) == 8


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        write_atomically(tmp_path / "taken", "text")
    assert create_whole(tmp_path / "new", "text") and not create_whole(tmp_path / "new", "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "taken"]


def test_removing_what_never_submitted_leaves_no_deployment(tmp_path: Path) -> None:
    status: Status = store.create(tmp_path, fakes.deployment())
    store.remove(tmp_path, status)
    assert store.load_all(tmp_path) == {} and not folder(tmp_path, "sim").root.exists()


def test_what_was_given_in_the_environment_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    status = store.create(tmp_path, fakes.deployment(environment={"HF_TOKEN": "hf_secret"}))
    store.save(tmp_path, replace(status, deployment=replace(status.deployment, replicas=3)))
    for path in folder(tmp_path, "sim").root.rglob("*"):
        if path.is_file() and "hf_secret" in path.read_text():
            assert path.stat().st_mode & 0o077 == 0, path


def test_scripts_and_logs_are_for_their_owner_alone(tmp_path: Path) -> None:
    store.create(tmp_path, fakes.deployment())
    for path in (folder(tmp_path, "sim").scripts, folder(tmp_path, "sim").logs):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
