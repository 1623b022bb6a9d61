"""engine.launch(): a model for as long as a block of Python runs."""

from pathlib import Path

import pytest

import engine
from engine.errors import GatewayError, NotReadyInTime, ReplicaFailed
from tests.serving import Engine

ARGUMENTS = {"capacity": "4", "latency_ms": "20"}
MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture
def settings(slurm_engine: Engine) -> engine.Settings:
    return engine.Settings.from_env(slurm_engine.environ)


def test_a_block_of_python_has_a_model_and_leaves_nothing(slurm_engine: Engine, settings: engine.Settings) -> None:
    said: list[str] = []
    with engine.launch(
        "simulator", name="block", replicas=2, arguments=ARGUMENTS, settings=settings, say=said.append
    ) as llm:
        assert llm.url == f"{slurm_engine.address}/deployments/block/v1"
        assert len(llm.endpoints) == 2
        with llm.client() as client:
            assert client.chat(llm.name, MESSAGES)["usage"]["completion_tokens"] > 0
            assert len(list(client.chat_stream(llm.name, MESSAGES))) > 3
    assert said[-1] == "block: 2 of 2 ready"
    assert slurm_engine.json("ps") == []


async def test_an_asynchronous_block_does_the_same(slurm_engine: Engine, settings: engine.Settings) -> None:
    async with (
        engine.launch("simulator", name="later", arguments=ARGUMENTS, settings=settings) as llm,
        llm.async_client() as client,
    ):
        assert (await client.chat(llm.name, MESSAGES))["object"] == "chat.completion"
        assert len([chunk async for chunk in client.chat_stream(llm.name, MESSAGES)]) > 3
    assert slurm_engine.json("ps") == []


def test_what_is_kept_outlives_its_block(slurm_engine: Engine, settings: engine.Settings) -> None:
    with engine.launch("simulator", name="kept", arguments=ARGUMENTS, settings=settings, keep=True):
        pass
    assert slurm_engine.row("kept")["ready"] == 1


def test_an_error_inside_the_block_reaches_the_caller_and_the_model_is_stopped(
    slurm_engine: Engine, settings: engine.Settings
) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        engine.launch("simulator", name="broken", arguments=ARGUMENTS, settings=settings),
    ):
        _ = 1 / 0
    assert slurm_engine.json("ps") == []


def test_what_does_not_come_up_says_why_and_is_cleared_away(slurm_engine: Engine, settings: engine.Settings) -> None:
    with (
        pytest.raises(ReplicaFailed, match="exit"),
        engine.launch("simulator", name="doomed", arguments={"exit_at_start": "3"}, settings=settings),
    ):
        pass
    slow = {"start_delay_s": "600"}
    with (
        pytest.raises(NotReadyInTime),
        engine.launch("simulator", name="slow", arguments=slow, settings=settings, timeout_s=3),
    ):
        pass
    with pytest.raises(GatewayError, match="unknown model"), engine.launch("nothing", settings=settings):
        pass
    assert slurm_engine.json("ps") == []


def test_without_a_gateway_one_runs_as_long_as_the_block(tmp_path: Path) -> None:
    settings = engine.Settings.from_env({"ENGINE_HOME": str(tmp_path / "own"), "ENGINE_SCHEDULER": "local"})
    with engine.launch("simulator", name="own", arguments=ARGUMENTS, settings=settings) as llm, llm.client() as client:
        assert client.chat(llm.name, MESSAGES)["object"] == "chat.completion"
    assert not (tmp_path / "own" / "gateway.json").exists()
