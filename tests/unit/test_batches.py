"""Batches on disk: what is checked, what survives a stop, who sees what."""

import io
import json
import time
from dataclasses import replace

import pytest

from engine.errors import ConfigurationError, Conflict, UnknownName
from engine.gateway.advanced.batch_store import BatchStore
from engine.gateway.advanced.batches import DAY_S, InvalidInput, items

CHAT = "/v1/chat/completions"


def line(custom_id: str, **more: object) -> bytes:
    body = {"model": "sim", "messages": [{"role": "user", "content": "hello"}]}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body, **more}).encode() + b"\n"


def result(custom_id: str, status: int = 200) -> dict[str, object]:
    response = {"status_code": status, "request_id": "r", "body": {}}
    return {"id": "x", "custom_id": custom_id, "response": response, "error": None}


@pytest.fixture
def store(tmp_path):
    return BatchStore(tmp_path)


def made(store, *lines: bytes):
    file = store.add_file("me", "in.jsonl", io.BytesIO(b"".join(lines)))
    return store.create("me", file.id, CHAT)


def test_good_lines_become_items_and_empty_lines_do_not_count():
    found = items([line("a"), b"\n", line("b")], CHAT)
    assert [item.custom_id for item in found] == ["a", "b"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (b"{nonsense\n", "line 2"),
        (b"[1]\n", "must be an object"),
        (line("a"), "was there before"),
        (line(""), "custom_id"),
        (line("b", url="/v1/embeddings"), "url"),
        (line("b", method="GET"), "method"),
        (line("b", body={"messages": []}), "model"),
        (line("b", body={"model": "sim", "stream": True}), "cannot stream"),
        (b"\xff\xfe\n", "line 2"),
    ],
)
def test_a_wrong_line_is_named_with_its_number(wrong, words):
    with pytest.raises(InvalidInput, match=words) as raised:
        items([line("a"), wrong], CHAT)
    assert raised.value.errors[0]["line"] == 2


def test_an_empty_file_is_no_batch():
    with pytest.raises(InvalidInput, match="no line"):
        items([b"\n"], CHAT)


def test_results_survive_a_stop_and_a_torn_line_is_done_again(store):
    batch = made(store, line("a"), line("b"), line("c"))
    results = store.results(batch)
    results.write(result("a"))
    results.write(result("b", 400))
    results.close()
    with (store.folder(batch) / "output.jsonl").open("ab") as file:
        file.write(b'{"custom_id": "c", "resp')
    again = store.results(batch)
    assert again.done == {"a", "b"} and (again.completed, again.failed) == (1, 1)
    again.write(result("c"))
    again.close()
    written = (store.folder(batch) / "output.jsonl").read_bytes().splitlines()
    assert [json.loads(row)["custom_id"] for row in written] == ["a", "c"]


def test_only_one_process_runs_a_batch(store):
    batch = made(store, line("a"))
    held = store.lock(batch)
    assert held is not None and store.lock(batch) is None
    held.close()
    again = store.lock(batch)
    assert again is not None
    again.close()


def test_a_key_sees_its_own_and_an_admin_sees_all(store):
    batch = made(store, line("a"))
    assert store.batches("other") == [] and store.files("other") == []
    for find in (store.batch, store.cancel):
        with pytest.raises(UnknownName):
            find(batch.id, "other")
    with pytest.raises(UnknownName):
        store.content(batch.input_file_id, "other")
    assert store.batch(batch.id, None) == batch and len(store.files(None)) == 1


@pytest.mark.parametrize("id", ["", "../../etc/passwd", "file-x", "file-" + "0" * 24, "batch_" + "g" * 24])
def test_an_id_that_is_none_is_unknown(store, id):
    with pytest.raises(UnknownName):
        store.file(id, None)
    with pytest.raises(UnknownName):
        store.batch(id, None)


def test_the_input_of_a_running_batch_stays(store):
    batch = made(store, line("a"))
    with pytest.raises(Conflict, match="cancel"):
        store.delete_file(batch.input_file_id, "me")
    store.cancel(batch.id, "me")
    assert store.batch(batch.id, "me").status == "cancelling"


def test_an_unknown_endpoint_is_refused(store):
    file = store.add_file("me", "in.jsonl", io.BytesIO(line("a")))
    with pytest.raises(ConfigurationError, match="endpoint"):
        store.create("me", file.id, "/v1/images")


def test_what_is_older_than_it_is_kept_is_removed(store):
    batch = made(store, line("a"))
    store.save(replace(batch, status="completed", created_at=int(time.time()) - 31 * DAY_S))
    store.forget_old()
    assert store.batches(None) == [] and len(store.files(None)) == 1
    assert not store.folder(batch).exists()


def test_only_results_that_are_there_are_published(store):
    batch = made(store, line("a"))
    results = store.results(batch)
    results.write(result("a"))
    results.close()
    id = store.publish(batch, "output.jsonl")
    assert id and store.content(id, "me").read_bytes().count(b"\n") == 1
    assert store.publish(batch, "errors.jsonl") is None
