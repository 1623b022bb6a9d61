import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from engine.catalogue import Resources
from engine.errors import ConfigurationError, UnknownName
from engine.settings import ROOT
from engine.site import EngineSite, Partition, Placement, Site, choose_gpu, choose_partition

GPUS = {"t4": 16.0, "a100": 80.0, "a30": 24.0}
SITE = Site(
    gpu_types=GPUS,
    partitions={
        "cpu": Partition(max_time="7-00:00:00"),
        "small": Partition(gpu_types=("t4", "a30"), max_time="1-00:00:00"),
        "large": Partition(gpu_types=("a100",), max_time="2-00:00:00"),
    },
)


def loaded(tmp_path: Path, text: str) -> Site:
    path = tmp_path / "site.toml"
    path.write_text(text)
    return Site.load(path)


def test_without_a_file_there_are_defaults() -> None:
    assert Site.load(None) == Site()


def test_the_example_says_what_the_defaults_are() -> None:
    assert Site.load(ROOT / "site.example.toml") == Site()


def test_the_example_names_every_key() -> None:
    text = (ROOT / "site.example.toml").read_text()
    for kind in (Site, Placement, Partition, EngineSite):
        for item in fields(kind):
            assert re.search(rf"\b{item.name}\b", text), item.name


def test_the_examples_examples_are_valid_too(tmp_path: Path) -> None:
    text = re.sub(r"^# (?=\[|[a-z_A-Z0-9-]+ = )", "", (ROOT / "site.example.toml").read_text(), flags=re.MULTILINE)
    tomllib.loads(text)
    site = loaded(tmp_path, text)
    assert site.gpu_types["a100"] == 80
    assert site.partitions["gpu"].max_time == "2-00:00:00"
    assert site.engines["vllm"].environment == {"VLLM_LOGGING_LEVEL": "WARNING"}
    assert site.placement.directives["mail-type"] == "FAIL"
    assert site.port_range == (20000, 29999)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml cannot be read: No such file"):
        Site.load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[partition.gpu]", "unknown key 'partition'; did you mean 'partitions'?"),
        ("modlues = []", "unknown key 'modlues'; did you mean 'modules'?"),
        ('[placement]\npartiton = "x"', "unknown key 'placement.partiton'; did you mean 'partition'?"),
        ('drain_timeout_s = "300s"', "drain_timeout_s is '300s': it must be a valid integer"),
        ('[gpu_types]\na100 = "80 GB"', "gpu_types.a100 is '80 GB': it must be a valid number"),
        ('[partitions.x]\nmax_time = "long"', "partitions.x.max_time is 'long': time limit 'long': write HH:MM:SS"),
        ('[partitions.x]\ngpu_types = ["h100"]', "partitions.x.gpu_types names 'h100'; [gpu_types] lists: none"),
        ('[placement]\ncontainer = "podman"', "placement.container is 'podman': it must be '', 'none', 'apptainer'"),
        ('[placement]\npartition = "a b"', "placement.partition is 'a b'"),
        ('[placement]\naccount = "a\\n#SBATCH --uid=0"', "placement.account is"),
        ('[environment]\n"A B" = "x"', "environment.A B is"),
        ('binds = ["data"]', "binds.0 is 'data': a bind is /PATH"),
        ("port_range = [80, 90]", "port_range.0 is 80: it must be greater than or equal to 1024"),
        ('python = ["python3"]', "python is ['python3']: it must be a valid string"),
        ("drain_timeout_s = -1", "drain_timeout_s is -1"),
        ("python =", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_with_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "site.toml")) and said in message and "\n" not in message


def test_an_empty_program_means_the_default(tmp_path: Path) -> None:
    assert loaded(tmp_path, 'engine_python = ""\npython = ""').engine_python == Site().engine_python


@pytest.mark.parametrize(("vram_gb", "chosen"), [(0, "t4"), (16, "t4"), (17, "a30"), (24, "a30"), (40, "a100")])
def test_the_smallest_gpu_that_suffices_is_chosen(vram_gb: float, chosen: str) -> None:
    assert choose_gpu(SITE, Resources(gpus=1, vram_gb=vram_gb)) == chosen


def test_a_partition_narrows_the_choice() -> None:
    assert choose_gpu(SITE, Resources(gpus=1, vram_gb=10), "large") == "a100"


def test_a_given_gpu_type_is_kept() -> None:
    assert choose_gpu(SITE, Resources(gpus=1, vram_gb=10, gpu_type="a30")) == "a30"


def test_without_gpus_no_type_is_chosen_and_without_a_list_any_will_do() -> None:
    assert choose_gpu(SITE, Resources(vram_gb=10)) == ""
    assert choose_gpu(Site(), Resources(gpus=1, vram_gb=1000)) == ""
    assert choose_gpu(Site(), Resources(gpus=1, gpu_type="h100")) == "h100"


@pytest.mark.parametrize(
    ("resources", "partition", "said"),
    [
        (Resources(gpus=1, vram_gb=81), "", "a GPU with 81 GB of VRAM; site.toml has t4 (16 GB), a30 (24 GB), a100"),
        (Resources(gpus=1, vram_gb=40), "small", "partition small has t4 (16 GB), a30 (24 GB)"),
        (Resources(gpus=1, vram_gb=40, gpu_type="t4"), "", "needs a t4 with 40 GB of VRAM; site.toml has t4 (16 GB)"),
        (Resources(gpus=1, gpu_type="a100"), "small", "needs a a100 with 0 GB of VRAM; partition small has t4"),
    ],
)
def test_when_no_gpu_suffices_it_is_told_what_there_is(resources: Resources, partition: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        choose_gpu(SITE, resources, partition)
    assert said in str(caught.value)


def test_an_unknown_gpu_type_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="known: a100, a30, t4"):
        choose_gpu(SITE, Resources(gpus=1, gpu_type="h100"))


@pytest.mark.parametrize(
    ("resources", "chosen"),
    [
        (Resources(), "cpu"),
        (Resources(gpus=1, vram_gb=10), "small"),
        (Resources(gpus=1, vram_gb=10, time_limit="2-00:00:00"), "large"),
        (Resources(gpus=1, gpu_type="a100"), "large"),
        (Resources(time_limit="30-00:00:00"), ""),
    ],
)
def test_a_partition_is_chosen_by_gpu_and_time(resources: Resources, chosen: str) -> None:
    assert choose_partition(SITE, Placement(), resources) == chosen


def test_a_given_partition_is_checked_where_the_site_lists_them() -> None:
    assert choose_partition(Site(), Placement(partition="any"), Resources()) == "any"
    assert choose_partition(SITE, Placement(partition="large"), Resources(gpus=1)) == "large"
    with pytest.raises(UnknownName, match="known: cpu, large, small"):
        choose_partition(SITE, Placement(partition="any"), Resources())
    with pytest.raises(ConfigurationError, match=r"longer than partition small allows \(1-00:00:00\)"):
        choose_partition(SITE, Placement(partition="small"), Resources(gpus=1, time_limit="3-00:00:00"))
