"""Ranking without an index: words, fusion, spread, and the gate."""

from pathlib import Path

import numpy as np
import pytest

from rag.retrieve import lexical
from rag.retrieve.fusion import fuse, stretched
from rag.retrieve.gate import Evidence, Probes, calibrate
from rag.retrieve.spread import spread
from rag.retrieve.words import words_of

TEXTS = [
    ("Die Rückmeldung zum Wintersemester erfolgt bis 15. Juli.", "de"),
    ("Der Prüfungsausschuss entscheidet über die Anerkennung von Leistungen.", "de"),
    ("Students re-register by paying the semester fee.", "en"),
    ("Die Bibliothek hat montags geöffnet. Das Parkhaus auch.", "de"),
]


@pytest.fixture(scope="module")
def index() -> lexical.Lexical:
    return lexical.build(TEXTS)


@pytest.mark.parametrize(
    ("question", "best"),
    [
        ("Wann muss ich mich rueckmelden?", 0),
        ("RÜCKMELDUNGEN", 0),
        ("Ausschuss für Prüfungen", 1),
        ("who registers students", 2),
        ("Bibliotheken am Montag", 3),
    ],
)
def test_words_are_found_in_other_forms_and_inside_compounds(index: lexical.Lexical, question: str, best: int) -> None:
    assert int(np.argmax(index.scores(question))) == best


def test_an_index_is_the_same_after_it_was_saved(index: lexical.Lexical, tmp_path: Path) -> None:
    lexical.save(index, tmp_path / "lexical.npz")
    again = lexical.load(tmp_path / "lexical.npz")
    question = "Rückmeldung Prüfungsausschuss library"
    assert again.scores(question).tolist() == index.scores(question).tolist()
    assert again.coverage(question, [0]) == index.coverage(question, [0])


def test_coverage_counts_rare_words_and_only_in_the_texts_given(index: lexical.Lexical) -> None:
    assert index.coverage("Wann ist die Rückmeldung?", [0]) == 1.0
    assert index.coverage("Wann ist die Rückmeldung?", [1, 2]) < 0.5
    assert index.coverage("Wie backe ich Sauerteigbrot?", [0, 1, 2, 3]) < 0.2
    assert index.coverage("wie ist das", [0]) == 0.0


def test_an_empty_index_answers_nothing() -> None:
    empty = lexical.build([])
    assert empty.scores("Rückmeldung").tolist() == []
    assert empty.coverage("Rückmeldung", []) == 0.0


def test_hyphenated_words_are_searched_whole_and_in_parts() -> None:
    assert words_of("E-Mail-Adresse für Café") == ["e", "mail", "adresse", "emailadresse", "fuer", "cafe"]


def scores(*values: float) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.asarray(values, np.float32)


def test_scores_are_stretched_over_zero_to_one() -> None:
    assert stretched(scores(0.80, 0.85, 0.90)).tolist() == pytest.approx([0, 0.5, 1], abs=1e-5)
    assert stretched(scores(0.8, 0.8)).tolist() == [0, 0]


def test_words_count_more_in_the_questions_language_and_less_in_the_other() -> None:
    dense, words = scores(0.9, 0.8, 0.8), scores(0, 10, 10)
    fused = fuse(dense, words, np.asarray([True, True, False]), np.zeros(3, bool), "hybrid")
    assert fused.tolist() == pytest.approx([0.6, 0.4, 0.15])


def test_a_page_that_exists_in_the_questions_language_stands_back_for_its_twin() -> None:
    dense = scores(0.9, 0.9, 0.7)
    fused = fuse(dense, dense, np.asarray([False, True, True]), np.asarray([True, False, False]), "dense")
    assert fused[0] < fused[1]


def test_ranks_keep_the_order_of_either_side() -> None:
    fused = fuse(scores(0.9, 0.8, 0.7), scores(3, 2, 0), np.ones(3, bool), np.zeros(3, bool), "rrf")
    assert np.argsort(-fused).tolist() == [0, 1, 2]
    assert float(fused.max()) <= 1.0


def test_few_chunks_of_one_page_and_no_copies_are_shown() -> None:
    near, far = [1.0, 0.0], [0.0, 1.0]
    vectors = np.asarray([near, near, near, far, near], np.float32)
    chosen = spread(scores(1.0, 0.99, 0.98, 0.9, 0.5), vectors, [1, 1, 1, 2, 3], 4)
    assert chosen[0] == 0
    assert chosen[1] == 3
    assert sorted(chosen) == [0, 1, 3, 4]


def test_the_gate_lets_few_foreign_questions_pass_and_what_is_known() -> None:
    foreign = [Evidence(0.79 + step / 1000, 0.2, 0.80, 0.85) for step in range(40)]
    calibration = calibrate(foreign)
    assert sum(calibration.gate(one).answers for one in foreign) == 4
    assert calibration.gate(Evidence(0.86, 0.7, 0.88, 0.80)).answers


def test_each_kind_of_evidence_moves_the_gate() -> None:
    plain = Evidence(0.85, 0.5, 0.85, 0.85)
    for better in (
        Evidence(0.86, 0.5, 0.85, 0.85),
        Evidence(0.85, 0.6, 0.85, 0.85),
        Evidence(0.85, 0.5, 0.86, 0.85),
        Evidence(0.85, 0.5, 0.85, 0.84),
    ):
        assert better.sum > plain.sum


def test_a_question_is_not_compared_with_itself() -> None:
    probes = Probes(own=np.eye(4, dtype=np.float32), foreign=np.eye(4, dtype=np.float32)[:2])
    assert probes.likeness(np.eye(4, dtype=np.float32)[0]) == (0.0, 0.0)
