"""Metrics against a known implementation, and folders as people write them."""

import json
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ConfigurationError
from rag.evaluate.beir import load
from rag.evaluate.metrics import METRICS, auroc, interval, mean, of_query


def test_metrics_are_right_by_hand() -> None:
    scores = of_query(["a", "b", "c"], {"b": 1, "x": 1})
    assert scores["mrr@10"] == 0.5
    assert scores["recall@5"] == 0.5
    assert scores["ndcg@10"] == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))
    assert of_query([], {"b": 1}) == {"ndcg@10": 0, "recall@5": 0, "mrr@10": 0}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_metrics_agree_with_ranx() -> None:
    from ranx import Qrels, Run, evaluate

    random = np.random.default_rng(3)
    documents = [f"d{number}" for number in range(30)]
    qrels = {
        f"q{number}": {str(one): int(random.integers(1, 4)) for one in random.choice(documents, 4, replace=False)}
        for number in range(40)
    }
    ranked = {query: [str(one) for one in random.permutation(documents)[:20]] for query in qrels}
    run = {query: {one: float(20 - place) for place, one in enumerate(of)} for query, of in ranked.items()}
    theirs = evaluate(Qrels(qrels), Run(run), list(METRICS))
    ours = mean([of_query(ranked[query], qrels[query]) for query in qrels])
    assert ours == pytest.approx({name: float(value) for name, value in theirs.items()}, abs=1e-9)


def test_an_interval_holds_the_mean_and_narrows_with_more_queries() -> None:
    few, many = interval([0, 1] * 10), interval([0, 1] * 500)
    assert few[0] < 0.5 < few[1]
    assert many[1] - many[0] < (few[1] - few[0]) / 3


def test_auroc_is_the_chance_to_tell_two_apart() -> None:
    assert auroc([3, 4], [1, 2]) == 1.0
    assert auroc([1, 2], [1, 2]) == 0.5
    assert auroc([1], [2]) == 0.0


def folder(tmp_path: Path, queries: list[dict[str, object]], qrels: str, name: str = "qrels.tsv") -> Path:
    documents = [
        {
            "_id": "d1",
            "title": "Rückmeldung",
            "text": "Bis 15. Juli.\n## Gebühr\n85 Euro",
            "metadata": {"language": "de"},
        },
        {"_id": "d2", "title": "Library", "text": "The library opens at eight in the morning."},
    ]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(qrels)
    return tmp_path


def test_a_folder_is_read_with_its_languages_and_unanswerable_questions(tmp_path: Path) -> None:
    queries: list[dict[str, object]] = [
        {"_id": "q1", "text": "Wann muss ich zahlen?", "metadata": {"language": "de", "split": "test"}},
        {"_id": "q2", "text": "When does the library open?", "metadata": {"split": "calibration"}},
        {"_id": "q3", "text": "Wie hoch ist der Mount Everest?", "metadata": {"kind": "far", "split": "test"}},
        {"_id": "q4", "text": "Where can I park a boat?"},
    ]
    dataset = load(folder(tmp_path, queries, "query-id\tcorpus-id\tscore\nq1\td1\t2\nq2\td2\t1\nq4\td2\t0\n"))
    assert [query.kind for query in dataset.queries] == ["answerable", "answerable", "far", "unanswerable"]
    assert [query.language for query in dataset.queries] == ["de", "en", "de", "en"]
    assert [page.language for page in dataset.pages] == ["de", "en"]
    assert dataset.relevant == {"q1": {"d1": 2}, "q2": {"d2": 1}, "q4": {}}
    assert [query.id for query in dataset.chosen("test").queries] == ["q1", "q3"]


def test_a_query_of_another_split_is_not_unanswerable(tmp_path: Path) -> None:
    queries: list[dict[str, object]] = [{"_id": "q1", "text": "Wann?"}, {"_id": "q2", "text": "Wo?"}]
    dataset = load(folder(tmp_path, queries, "q1\td1\t1\n", "qrels/test.tsv"))
    assert [query.id for query in dataset.queries] == ["q1"]


@pytest.mark.parametrize(
    ("break_", "words"),
    [
        ("queries.jsonl", "queries.jsonl cannot be read"),
        ("qrels.tsv", "neither qrels.tsv nor"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, break_: str, words: str) -> None:
    (folder(tmp_path, [{"_id": "q1", "text": "Wann?"}], "q1\td1\t1\n") / break_).unlink()
    with pytest.raises(ConfigurationError, match=words):
        load(tmp_path)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    made = folder(tmp_path, [{"_id": "q1"}], "q1\td1\t1\n")
    with pytest.raises(ConfigurationError, match=r"queries.jsonl line 1: text"):
        load(made)
