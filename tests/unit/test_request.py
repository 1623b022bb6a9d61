"""Requests to launch: what is refused, with which words, and where the defaults come from."""

from dataclasses import fields
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from engine.catalogue import Catalogue, Resources
from engine.errors import ConfigurationError, UnknownName
from engine.fleet.deployments import Deployment
from engine.fleet.request import NAME, LaunchRequest, compose
from engine.fleet.schedulers.local import cpus_here
from engine.site import Placement, Site

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
CATALOGUE = Catalogue.load(None)
SITE = Site(placement=Placement(partition="gpu", account="uni", directives={"mail-type": "FAIL"}), drain_timeout_s=77)


def composed(**wanted: object) -> Deployment:
    engines = ("vllm", "llamacpp", "simulator")
    request = LaunchRequest(**wanted)
    return compose(request, catalogue=CATALOGUE, site=SITE, engines=engines, schedulers=("slurm", "local"), now=NOW)


def test_what_is_left_out_comes_from_the_catalogue_and_the_site() -> None:
    made = composed(model="llama-3.1-8b")
    assert (made.name, made.kind, made.engine, made.scheduler) == ("llama-3.1-8b", "model", "vllm", "slurm")
    assert made.resources == CATALOGUE.find("llama-3.1-8b").resources
    assert (made.placement, made.drain_timeout_s) == (SITE.placement, 77)
    assert (made.replicas, made.max_replicas, made.created_at) == (1, 1, NOW)


def test_what_is_given_wins() -> None:
    made = composed(
        model="llama-3.1-8b", name="mine", replicas=3, gpus=2, time_limit="2:00:00", partition="small", account="",
        directives={"nice": "5"}, drain_timeout_s=0, scheduler="local",
    )  # fmt: skip
    assert (made.name, made.replicas, made.max_replicas, made.scheduler) == ("mine", 3, 3, "local")
    assert (made.resources.gpus, made.resources.time_limit, made.drain_timeout_s) == (2, "2:00:00", 0)
    assert (made.placement.partition, made.placement.account) == ("small", "")
    assert made.placement.directives == {"mail-type": "FAIL", "nice": "5"}


def test_an_app_has_its_name_as_path() -> None:
    made = composed(command=["python3", "-m", "http.server"], name="web")
    assert (made.kind, made.engine, made.path, made.model) == ("app", "app", "/web/", None)
    assert made.command == ("python3", "-m", "http.server") and made.resources == Resources()
    assert composed(command=["true"], name="web", path="/").path == "/"


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"model": "simulator", "command": ["true"]},
        {"model": "simulator", "replicas": -1},
        {"model": "simulator", "replicas": 3, "max_replicas": 2},
        {"model": "simulator", "gpus": "many"},
        {"model": "simulator", "time_limit": "soon"},
        {"model": "simulator", "time_limit": "1:00:00\n#SBATCH --x"},
        {"model": "simulator", "partition": "a\nb"},
        {"model": "simulator", "arguments": {"x": "a\x00b"}},
        {"model": "simulator", "mem_gb": float("nan")},
        {"model": "simulator", "mem_gb": float("inf")},
        {"model": "simulator", "colour": "red"},
        {"command": ["x"] * 257},
        {"command": ["a\nb"]},
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(wanted: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LaunchRequest(**wanted)


@pytest.mark.parametrize("name", ["A", "a b", "-a", "a-", "..", "a/b", "a\n", "ä", "a" * 63, "a:b", "*"])
def test_a_name_that_could_not_be_a_folder_a_path_and_a_job_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="a deployment's name has 1 to 62"):
        composed(model="simulator", name=name)


@pytest.mark.parametrize(
    "path", ["web", "/web", "/Web/", "/../", "//", "/a/\n", "/a b/", "/v1/", "/api/x/", "/deployments/"]
)
def test_a_path_that_cannot_be_or_is_the_engines_own_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="path"):
        composed(command=["true"], name="web", path=path)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"model": "lama-3.1-8b"}, "unknown model 'lama-3.1-8b'; known: llama-3.1-8b"),
        ({"model": "simulator", "engine": "vlm"}, "unknown inference engine 'vlm'; known: vllm"),
        ({"model": "simulator", "scheduler": "pbs"}, "unknown scheduler 'pbs'; known: local, slurm"),
    ],
)
def test_an_unknown_name_lists_what_would_work(wanted: dict[str, object], words: str) -> None:
    with pytest.raises(UnknownName) as caught:
        composed(**wanted)
    assert str(caught.value).startswith(words)


def test_an_app_without_a_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="name ''"):
        composed(command=["true"])


def test_every_model_of_the_catalogue_can_be_launched_under_its_own_name() -> None:
    assert [row.id for row in CATALOGUE.rows if not NAME.fullmatch(row.id)] == []


def test_each_resource_and_placement_can_be_asked_for() -> None:
    offered = set(LaunchRequest.model_fields)
    assert {field.name for kind in (Resources, Placement) for field in fields(kind)} <= offered


def test_one_machine_gives_the_cpus_that_it_has_unless_told_otherwise() -> None:
    assert composed(model="llama-3.1-70b", scheduler="local").resources.cpus == min(16, cpus_here())
    assert composed(model="llama-3.1-70b", scheduler="local", cpus=999).resources.cpus == 999
    assert composed(model="llama-3.1-70b", scheduler="slurm").resources.cpus == 16
