from dataclasses import replace
from datetime import UTC, datetime

import pytest

from engine.capacity import CapacityCard, Cards, setup, slots
from engine.catalogue import ModelSpec, Resources
from engine.errors import ConfigurationError
from tests.fakes import deployment


def of(engine: str, arguments: dict[str, str] | None = None, **model_arguments: str):
    spec = ModelSpec(id="m", engine=engine, source="hub:a/b", arguments=model_arguments)
    return replace(deployment("d"), engine=engine, model=spec, arguments=arguments or {})


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (of("simulator"), 4),
        (of("simulator", {"capacity": "9"}), 9),
        (of("llamacpp"), 4),
        (of("llamacpp", {"parallel": "2"}), 2),
        (of("vllm"), 256),
        (of("vllm", max_num_seqs="64"), 64),
        (of("vllm", {"max-num-seqs": "32"}, max_num_seqs="64"), 32),
        (of("tgi"), 128),
        (of("sglang", {"max_running_requests": "48"}), 48),
        (of("vllm", {"max_num_seqs": "many"}), 256),
        (of("simulator", {"capacity": "0"}), 1),
        (of("another"), 64),
    ],
)
def test_without_a_card_the_engines_arguments_tell(asked, expected):
    assert slots(asked, None) == expected


def test_a_card_tells_better(tmp_path):
    asked = of("vllm")
    card = CapacityCard(setup(asked), 97, 12.5, 3000.0, 4.0, "sweep-1", datetime(2026, 1, 1, tzinfo=UTC))
    path = card.save(tmp_path)
    assert path.parent == tmp_path / "capacity" and CapacityCard.load(path) == card
    cards = Cards(tmp_path)
    assert cards.slots(asked) == 256
    cards.refresh()
    assert cards.slots(asked) == 97 and cards.all() == (card,)
    replace(card, slots=50).save(tmp_path)
    cards.refresh()
    assert cards.slots(asked) == 50
    path.unlink()
    cards.refresh()
    assert cards.slots(asked) == 256


@pytest.mark.parametrize(
    "other",
    [
        of("vllm", {"max_num_seqs": "32"}),
        of("sglang"),
        replace(of("vllm"), resources=Resources(gpus=1, gpu_type="a100")),
        replace(of("vllm"), resources=Resources(cpus=8)),
    ],
)
def test_a_card_belongs_to_its_model_arguments_and_gpu(tmp_path, other):
    CapacityCard(setup(of("vllm")), 97).save(tmp_path)
    cards = Cards(tmp_path)
    cards.refresh()
    assert cards.find(of("vllm")) and cards.find(replace(of("vllm"), name="other"))
    assert cards.find(other) is None


def test_what_is_no_card_is_told_and_left_aside(tmp_path, caplog):
    path = CapacityCard(setup(of("vllm")), 97).save(tmp_path)
    path.write_text("{}")
    cards = Cards(tmp_path)
    cards.refresh()
    cards.refresh()
    assert cards.all() == () and len(caplog.records) == 1 and str(path) in caplog.text
    CapacityCard(setup(of("vllm")), 0).save(tmp_path)
    with pytest.raises(ConfigurationError, match="at least 1"):
        CapacityCard.load(path)


def test_a_card_bounds_nginx_and_one_of_another_setup_is_ignored_with_a_word(tmp_path):
    asked = of("vllm", max_num_seqs="64")
    CapacityCard(setup(asked), 60).save(tmp_path)
    cards = Cards(tmp_path)
    cards.refresh()
    assert (cards.max_conns(asked), cards.ignored(asked)) == (240, "")
    other = replace(of("vllm", max_num_seqs="32"), resources=Resources(gpus=1, gpu_type="a100"))
    assert (cards.max_conns(other), cards.slots(other)) == (0, 32)
    word = cards.ignored(other)
    assert "ignored" in word and "max_num_seqs" in word and "gpu_type" in word and "precision" not in word
    assert cards.ignored(of("sglang")) == ""
