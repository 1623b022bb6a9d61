"""Sets of laws: those that come along, those that operators write, those of a request."""

from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigurationError, UnknownName
from engine.settings import ROOT
from engine.workflows.laws import Law, LawSet, choose, load_laws

OURS = ROOT / "templates" / "laws"


def test_the_sets_that_come_along_are_there_and_whole() -> None:
    found = load_laws(OURS)
    assert {"default", "logical-rigour", "informal-language", "no-unsupported-claims"} <= set(found)
    assert "answer-in-the-questions-language" in found and len(found["default"].laws) == 3
    assert all(law.text and law.name for one in found.values() for law in one.laws)


def test_a_law_of_the_default_set_is_the_same_as_in_the_set_of_its_own() -> None:
    found = load_laws(OURS)
    assert all(found[law.name].laws == (law,) for law in found["default"].laws)


def test_the_hash_tells_versions_apart_and_goes_by_what_is_judged() -> None:
    one = LawSet("a", "A", (Law("x", "Be brief."),))
    assert one.hash == LawSet("b", "B", (Law("x", "Be brief."),)).hash and len(one.hash) == 12
    assert one.hash != LawSet("a", "A", (Law("x", "Be very brief."),)).hash
    assert one.as_json()["hash"] == one.hash


def test_a_file_of_an_operator_is_a_set(tmp_path: Path) -> None:
    (tmp_path / "haus.toml").write_text(
        'title = "Haus"\n[[laws]]\nname = "kurz"\ntext = """\nKurz, größer als nie.\n"""'
    )
    assert load_laws(tmp_path)["haus"].laws == (Law("kurz", "Kurz, größer als nie."),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'title' is missing"),
        ('title = "x"\nlaws = []', "laws"),
        ('title = "x"\n[[laws]]\nname = "a"', "text' is missing"),
        ('title = "x"\n[[laws]]\nname = "a"\ntext = "  "', "text"),
        ('title = "x"\n[[laws]]\nname = "a b"\ntext = "c"', "name"),
        ('title = "x"\n[[laws]]\nname = "a"\ntxt = "c"\ntext = "d"', "did you mean 'text'"),
        ('title = "x"\n[[laws]]\nname = "a"\ntext = "c"\n[[laws]]\nname = "a"\ntext = "d"', "two laws have the name"),
        ("title = ", "not valid TOML"),
    ],
)
def test_a_broken_file_is_one_clear_line_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "broken.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"broken\.toml") as caught:
        load_laws(tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_set_is_chosen_by_its_name_or_made_of_a_request() -> None:
    known = load_laws(OURS)
    assert choose("default", known) is known["default"]
    made = choose([{"name": "brief", "text": "Be brief."}], known)
    assert made.name == "inline" and made.laws == (Law("brief", "Be brief."),)


def test_an_unknown_set_is_told_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="logical-rigour"):
        choose("logical-rigor", load_laws(OURS))


@pytest.mark.parametrize(
    "laws",
    [[], [{}], ["a"], [{"name": "a"}], 7, None, [{"name": "a", "text": "b", "c": 1}], [{"name": "a", "text": "b"}] * 2],
)
def test_laws_that_are_none_are_refused(laws: Any) -> None:
    with pytest.raises(ConfigurationError):
        choose(laws, {})
