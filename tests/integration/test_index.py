"""An index on a real Chroma with the real embedder: built beside the old one, read while it changes, hard to break."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ConfigurationError, Conflict, IndexMissing, IndexRejected
from engine.settings import ROOT
from rag.evaluate.beir import Dataset, Query
from rag.evaluate.regression import regression_check
from rag.extract.page import Block, Page
from rag.index.building import Built, build
from rag.index.cache import EmbeddingCache
from rag.index.embed import E5
from rag.index.generations import Generations
from rag.index.probing import off_topic
from rag.retrieve.generation import Generation
from rag.retrieve.retriever import Retriever

SITE = "https://www.hs.example"


def page(path: str, title: str, *texts: str, language: str = "de", twin: str = "") -> Page:
    blocks = tuple(
        Block("heading", text[1:], 2) if text.startswith("#") else Block("contact" if "@" in text else "text", text)
        for text in texts
    )
    twins = {"en" if language == "de" else "de": f"{SITE}{twin}"} if twin else {}
    return Page(f"{SITE}{path}", title, language, blocks, date(2026, 10, 1), urls=(f"{SITE}{path}",), twins=twins)


PAGES = (
    page(
        "/rueckmeldung/",
        "Rückmeldung",
        "Wer weiterstudieren möchte, überweist den Semesterbeitrag von 85 Euro bis zum 15. Juli.",
        "#Zu spät",
        "Nach dem 15. Juli wird eine Säumnisgebühr von 25 Euro fällig, und die Frist endet am 31. Juli endgültig.",
        twin="/en/re-registration/",
    ),
    page(
        "/en/re-registration/",
        "Re-registration",
        "To continue your studies, transfer the semester contribution of 85 euros by 15 July.",
        language="en",
        twin="/rueckmeldung/",
    ),
    page(
        "/bibliothek/",
        "Hochschulbibliothek",
        "Die Bibliothek ist montags bis freitags von 8 bis 22 Uhr und samstags von 9 bis 16 Uhr geöffnet.",
        "#Ausleihe",
        "Bücher werden für 28 Tage ausgeliehen; zweimal lässt sich die Frist verlängern, wenn niemand sie vormerkt.",
        "Theke der Bibliothek\nRaum B 012\nTelefon: +49 841 1234\nbibliothek@hs.example",
    ),
    page(
        "/pruefungsamt/",
        "Prüfungsamt",
        "Das Prüfungsamt nimmt Anträge auf Rücktritt von einer Prüfung mit ärztlichem Attest entgegen.",
        "Prüfungsamt\nRaum A 210\nTelefon: +49 841 9876\npruefungsamt@hs.example",
    ),
)


@pytest.fixture(scope="module")
def embedder() -> E5:
    return E5(threads=1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingCache:
    return EmbeddingCache(tmp_path_factory.mktemp("embeddings") / "embeddings.db")


@pytest.fixture
def generations(tmp_path: Path) -> Generations:
    return Generations(tmp_path / "index")


@pytest.fixture
def index(generations: Generations, embedder: E5, cache: EmbeddingCache) -> Callable[..., Built]:
    def make(*pages: Page, **options: object) -> Built:
        return build(generations, pages or PAGES, embedder, cache, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory, embedder: E5, cache: EmbeddingCache) -> Iterator[Retriever]:
    folder = tmp_path_factory.mktemp("shared") / "index"
    build(Generations(folder), PAGES, embedder, cache)
    opened = Retriever.open(folder)
    yield opened
    opened.close()


def test_a_passage_is_found_with_its_source(retriever: Retriever) -> None:
    found = retriever.search("Was kostet es, wenn ich mich verspätet zurückmelde?")
    first = found.passages[0]
    assert "25 Euro" in first.text
    assert (first.url, first.title, first.heading_path) == (f"{SITE}/rueckmeldung/", "Rückmeldung", ("Zu spät",))
    assert (first.language, first.date, first.kind) == ("de", date(2026, 10, 1), "text")
    assert first.twins == {"en": f"{SITE}/en/re-registration/"}
    assert first.twin_dates == {"en": date(2026, 10, 1)}
    assert found.gate.answers


@pytest.mark.parametrize("way", ["hybrid", "rrf", "dense", "lexical"])
def test_each_way_finds_the_page_in_the_questions_language(retriever: Retriever, way: str) -> None:
    german = retriever.search("Wie lange darf ich Bücher ausleihen?", way=way)  # type: ignore[arg-type]
    assert german.passages[0].url == f"{SITE}/bibliothek/"
    english = retriever.search("How do I transfer the semester contribution?", way=way)  # type: ignore[arg-type]
    assert english.passages[0].url == f"{SITE}/en/re-registration/"
    assert all(0 <= passage.score <= 1 for passage in german.passages)


def test_a_question_in_one_language_finds_a_page_that_is_only_in_the_other(retriever: Retriever) -> None:
    found = retriever.search("How long may I keep borrowed books?")
    assert found.passages[0].url == f"{SITE}/bibliothek/"


def test_what_the_pages_cannot_answer_is_refused(retriever: Retriever) -> None:
    for question in ("Wie viele Zähne hat ein Hai?", "What is the best recipe for pizza dough?"):
        assert not retriever.search(question).gate.answers


def test_at_most_two_passages_come_from_a_page_and_its_twin(retriever: Retriever) -> None:
    found = retriever.search("Semesterbeitrag bis 15. Juli überweisen", limit=10)
    pages = [passage.url for passage in found.passages]
    assert sum("registration" in url or "rueckmeldung" in url for url in pages) <= 2


def test_the_nearest_contact_cards_are_found(retriever: Retriever) -> None:
    cards = retriever.contacts("Ich war bei der Prüfung krank, wohin mit dem Attest?")
    assert "pruefungsamt@hs.example" in cards[0].text
    assert {card.kind for card in cards} == {"contact"}


def test_odd_questions_are_answered_by_something(retriever: Retriever) -> None:
    for question in ("", "?", "\0", "🦈", "x" * 20_000, "die der das"):
        assert retriever.search(question).passages is not None
    with pytest.raises(ConfigurationError, match="way is 'best'"):
        retriever.search("Frist", way="best")  # type: ignore[arg-type]


def test_without_an_index_the_error_names_the_command_that_builds_one(tmp_path: Path) -> None:
    with pytest.raises(IndexMissing, match="python -m rag build"):
        Retriever.open(tmp_path)


def test_only_changed_text_is_embedded_again(index: Callable[..., Built]) -> None:
    first = index()
    again = index()
    changed = index(
        replace(PAGES[0], blocks=(*PAGES[0].blocks, Block("heading", "Neu", 2), Block("text", "Ganz neu. " * 30))),
        *PAGES[1:],
    )
    assert again.embedded == 0
    assert changed.embedded == 1
    assert (first.name, again.name, changed.name) == ("g0001", "g0002", "g0003")


def test_a_reader_goes_over_to_a_new_generation_and_back(index: Callable[..., Built], generations: Generations) -> None:
    index()
    reader = Retriever.open(generations.folder)
    question = "Wie lange ist die Bibliothek offen?"
    assert reader.search(question).passages[0].url == f"{SITE}/bibliothek/"

    index(PAGES[0], PAGES[3], shrink=True)
    assert f"{SITE}/bibliothek/" not in [passage.url for passage in reader.search(question).passages]

    assert generations.rollback() == "g0001"
    assert reader.search(question).passages[0].url == f"{SITE}/bibliothek/"
    with pytest.raises(IndexRejected, match="oldest"):
        generations.rollback()
    reader.close()


def test_a_broken_new_generation_leaves_a_reader_with_the_old_one(
    index: Callable[..., Built], generations: Generations
) -> None:
    index()
    reader = Retriever.open(generations.folder)
    index()
    (generations.path("g0002") / "vectors.npy").write_bytes(b"broken")
    assert reader.search("Wo ist das Prüfungsamt?").passages[0].url == f"{SITE}/pruefungsamt/"
    assert reader.generation == "g0001"
    reader.close()


def test_old_generations_go_but_not_one_that_is_read(index: Callable[..., Built], generations: Generations) -> None:
    index()
    held = Generation.open_current(generations)
    for _ in range(3):
        index(keep=2)
    assert generations.names() == ["g0001", "g0003", "g0004"]
    held.close()
    assert generations.prune(2) == ["g0001"]


def test_a_site_that_shrank_by_half_is_not_believed(index: Callable[..., Built], generations: Generations) -> None:
    index()
    with pytest.raises(IndexRejected, match="did the site answer"):
        index(PAGES[1])
    with pytest.raises(IndexRejected, match="holds any text"):
        index(replace(PAGES[1], blocks=()))
    assert generations.current() == "g0001"
    assert generations.names() == ["g0001"]


def test_a_generation_that_answers_worse_is_not_made_current(
    index: Callable[..., Built], generations: Generations, embedder: E5, cache: EmbeddingCache
) -> None:
    questions = Dataset(
        "questions",
        PAGES,
        (Query("q1", "Wie lange ist die Bibliothek offen?", "de", "", "answerable"),),
        {"q1": {"library": 1}},
        {"library": f"{SITE}/bibliothek/"},
    )
    check = regression_check(questions, generations, embedder, cache)
    index(check=check)
    with pytest.raises(IndexRejected, match=r"nDCG@10 0.000 on questions, less than the current one's 1.000"):
        index(PAGES[0], PAGES[1], PAGES[3], check=check)
    assert generations.current() == "g0001"


def test_two_builds_at_once_are_one_too_many(index: Callable[..., Built], generations: Generations) -> None:
    with generations.writing(), pytest.raises(Conflict, match="another process builds"):
        index()


def test_many_threads_search_while_generations_change(index: Callable[..., Built], generations: Generations) -> None:
    index()
    reader = Retriever.open(generations.folder)
    stop = threading.Event()
    wrong: list[object] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                if reader.search("Wo ist das Prüfungsamt?").passages[0].url != f"{SITE}/pruefungsamt/":
                    wrong.append("another page")
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        index(keep=1)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert reader.generation == "g0004"
    reader.close()


# A process that builds an index of the pages given on stdin; "slow" waits for ever after the first batch of embeddings.
BUILDER = """
import json, sys, time
from pathlib import Path
from rag.extract.page import Block, Page
from rag.index.building import build
from rag.index.cache import EmbeddingCache
from rag.index.embed import E5
from rag.index.generations import Generations

def progress(done, whole):
    print(done, flush=True)
    while "slow" in sys.argv:
        time.sleep(1)

folder = Path(sys.argv[1])
pages = [
    Page(f"https://a.example/{one}", f"Seite {one}", "de", (Block("text", f"Raum {one} liegt im Haus {one}."),))
    for one in range(40)
]
cache = EmbeddingCache(folder / "embeddings.db")
built = build(Generations(folder / "index"), pages, E5(1), cache, progress=progress, shrink=True)
print(json.dumps({"embedded": built.embedded, "name": built.name}))
"""


def builder(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", BUILDER, str(folder), *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def test_a_build_that_is_killed_leaves_the_current_generation_and_what_it_embedded(
    tmp_path: Path, generations: Generations, index: Callable[..., Built]
) -> None:
    index()
    reader = Retriever.open(generations.folder)
    killed = builder(tmp_path, "slow")
    assert killed.stdout
    assert killed.stdout.readline() == "32\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait(10)
    killed.stdout.close()

    assert (generations.folder / "generations" / ".building").is_dir()
    assert reader.search("Wo ist das Prüfungsamt?").passages[0].url == f"{SITE}/pruefungsamt/"

    output, _ = builder(tmp_path).communicate(timeout=120)
    assert json.loads(output.splitlines()[-1]) == {"embedded": 8, "name": "g0002"}
    assert reader.search("In welchem Haus liegt Raum 17?").passages[0].url == "https://a.example/17"
    assert not (generations.folder / "generations" / ".building").exists()
    reader.close()


OFFLINE = """
import sys

def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise AssertionError(f"the network is asked: {event} {arguments}")

sys.addaudithook(hook)
from pathlib import Path
from tests.integration.test_index import PAGES
from rag.index.building import build
from rag.index.cache import EmbeddingCache
from rag.index.embed import E5
from rag.index.generations import Generations
from rag.retrieve.retriever import Retriever

folder = Path(sys.argv[1])
build(Generations(folder), PAGES, E5(), EmbeddingCache(folder / "embeddings.db"))
print(Retriever.open(folder).search("Wo ist das Prüfungsamt?").passages[0].url)
"""


def test_nothing_is_downloaded_at_run_time(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(tmp_path / "index")],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"{SITE}/pruefungsamt/"), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_the_embeddings_that_come_with_the_product_are_the_models_own(embedder: E5, cache: EmbeddingCache) -> None:
    sample = list(off_topic()[::25])
    shipped = cache.queries(embedder, off_topic(), progress=lambda done, whole: pytest.fail(f"{whole} are not shipped"))
    assert np.allclose(shipped[::25], embedder.queries(sample), atol=2e-3)
