"""The command line: exit codes, one line of error on stderr, and how options become a request."""

import asyncio
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine.__main__ import main
from engine.commands import request
from engine.errors import ConfigurationError
from engine.fleet import store
from engine.fleet.deployments import Event
from engine.fleet.request import LaunchRequest
from engine.gateway.records.recording import Recorder
from engine.settings import Settings
from tests import fakes


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, without a gateway; nothing of the caller's environment."""
    for name in [name for name in os.environ if name.startswith("ENGINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ENGINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ENGINE_SCHEDULER", "local")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def failed(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that was printed on stderr."""
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("engine: ") and err.count("\n") == 1, (out, err)
    return err


WRONG_USE = {
    "no such command": (["lunch"], "No such command"),
    "no such option": (["ps", "--jsn"], "--json"),
    "a missing argument": (["scale", "sim"], "Missing argument 'replicas'"),
    "a number that is none": (["scale", "sim", "two"], "Invalid value for 'replicas'"),
    "a negative number": (["scale", "sim", "--", "-1"], "Invalid value for 'replicas'"),
    "no model": (["render"], "give one model's id"),
    "two models": (["render", "a", "b"], "give one model's id"),
    "an unknown model": (["render", "lama"], "unknown model 'lama'"),
    "an option without a value": (["render", "simulator", "--set", "capacity"], "'capacity' is not KEY=VALUE"),
    "an app without a command": (["render", "--app", "web"], "app 'web' needs its command: --app web -- COMMAND"),
    "a bad name": (["render", "simulator", "--name", "A B"], "a deployment's name"),
    "a bad time limit": (
        ["render", "simulator", "--time-limit", "soon"],
        "time_limit: 'soon' is no time limit; write HH:MM:SS",
    ),
    "stop without a name": (["stop"], "give the names of deployments, or --all"),
    "stop with a name and --all": (["stop", "sim", "--all"], "give the names of deployments, or --all"),
    "stop of an unknown name": (["stop", "smi"], "unknown deployment 'smi'; known: none yet"),
    "scale of an unknown name": (["scale", "smi", "2"], "unknown deployment 'smi'"),
    "drain of an unknown name": (["drain", "smi", "0"], "unknown deployment 'smi'"),
    "restart of an unknown name": (["restart", "smi"], "unknown deployment 'smi'"),
    "events of an unknown name": (["events", "smi"], "unknown deployment 'smi'"),
    "a key for nobody": (["keys", "create", "--name", ""], "a key's name has 1 to 100"),
    "a key without a name": (["keys", "create"], "--name"),
    "a role that is none": (["keys", "create", "--name", "x", "--role", "king"], "'--role': 'king' is not one of"),
    "a key that is not there": (["keys", "revoke", "abc"], "unknown key 'abc'"),
    "keys alone": (["keys"], "Missing command"),
    "no lines of a log": (["logs", "sim", "--lines", "0"], "Invalid value for '--lines'"),
    "a port that is none": (["serve", "--port", "0"], "it must be a port"),
    "a scheduler that is none": (["serve", "--scheduler", "pbs"], "it must be one of auto, slurm, local"),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG_USE.values(), ids=WRONG_USE)
def test_wrong_use_is_told_in_one_line_and_ends_with_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert main(arguments) == 2
    assert words in failed(capsys)
    assert not (home / "serve.log").exists(), "a gateway was started for nothing"


def test_what_fails_ends_with_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["logs", "sim"]) == 1
    assert "no gateway answers for ENGINE_HOME" in failed(capsys)
    monkeypatch.setenv("ENGINE_HOME", "/proc/engine")
    assert main(["render", "simulator"]) == 1
    assert "/proc/engine" in failed(capsys)


def test_help_and_nothing_end_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["launch", "--help"]):
        assert main(arguments) == 0
        assert "Usage" in capsys.readouterr().out


def test_a_wrong_environment_is_wrong_use(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ENGINE_PORT", "http")
    assert main(["ps"]) == 2
    assert "ENGINE_PORT is 'http'" in failed(capsys)


@pytest.mark.parametrize("command", (["serve"], ["up"], ["render", "simulator"]))
def test_a_broken_site_is_told_before_anything_starts(
    command: list[str], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "site.toml").write_text("[partition.gpu]")
    assert main(command) == 2
    assert "site.toml: unknown key 'partition'; did you mean 'partitions'?" in failed(capsys)
    assert not (home / "serve.log").exists()


def test_ps_and_events_without_a_gateway_tell_what_was_last_known(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ps", "--json"]) == 0 and json.loads(capsys.readouterr().out) == []
    store.create(home, fakes.deployment())
    store.append_events(home, [Event(datetime(2026, 11, 25, tzinfo=UTC), "sim", "launched", "1 × simulator")])
    assert main(["ps", "--json"]) == 0
    out, err = capsys.readouterr()
    assert [row["name"] for row in json.loads(out)] == ["sim"] and "last known" in err
    assert main(["events"]) == 0
    assert capsys.readouterr().out == "2026-11-25T00:00:00  sim  launched: 1 × simulator\n"
    assert main(["events", "sim", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["kind"] == "launched"


def test_keys_are_made_shown_once_listed_and_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "create", "--name", "demo", "--role", "user", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert set(made) == {"id", "name", "role", "key"} and (made["name"], made["role"]) == ("demo", "user")
    assert main(["keys", "list", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)[0]["id"] == made["id"] and made["key"] not in out
    assert main(["keys", "revoke", made["id"]]) == 0
    assert capsys.readouterr().out == "revoked: demo\n"


def test_a_script_is_rendered_and_nothing_submitted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["render", "simulator", "--name", "sim", "--set", "capacity=4", "--cpus", "2", "--sbatch", "nice=7"]) == 0
    )
    script = capsys.readouterr().out
    assert "--capacity" in script and "#SBATCH --cpus-per-task=2" in script and "#SBATCH --nice=7" in script
    assert not (home / "deployments").exists()


def test_models_and_doctor_speak_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    assert "simulator" in {row["engine"] for row in json.loads(capsys.readouterr().out)}
    assert main(["doctor", "--json"]) == 0
    assert {"python", "ENGINE_HOME"} <= {check["check"] for check in json.loads(capsys.readouterr().out)}


def test_doctor_ends_with_1_where_something_is_wrong(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.parent.joinpath("site.toml").write_text("colour = 'red'\n")
    assert main(["doctor"]) == 1
    assert "colour" in capsys.readouterr().out


def wanted(**given: Any) -> dict[str, Any]:
    nothing = {"words": None, "app": "", "arguments": None, "environment": None, "directives": None}
    return request._wanted({**nothing, **given})


def test_options_become_the_fields_of_a_request() -> None:
    made = wanted(
        words=["simulator"], name="sim", replicas=2, arguments=["capacity=4", "path=a=b"], gpus=0, exclusive=None
    )
    assert made == {
        "model": "simulator",
        "name": "sim",
        "replicas": 2,
        "arguments": {"capacity": "4", "path": "a=b"},
        "environment": {},
        "directives": {},
        "gpus": 0,
    }
    LaunchRequest(**made)


def test_an_app_is_its_command() -> None:
    made = wanted(words=["python3", "-m", "http.server", "--bind", "x"], app="web")
    assert (made["name"], made["command"]) == ("web", ["python3", "-m", "http.server", "--bind", "x"])


@pytest.mark.parametrize("text", ["capacity", "=4", ""])
def test_a_pair_without_its_key_or_sign_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not KEY=VALUE"):
        wanted(words=["simulator"], arguments=[text])


def test_the_options_of_an_app_come_after_two_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "--app", "web", "--", "python3", "-m", "http.server", "--bind", "0"]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("http.server", "--bind"))


def test_limits_of_a_key_are_taken_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    limits = ["--models", "sim, llama", "--rpm", "60", "--tokens-per-day", "1000", "--parallel", "2"]
    assert main(["keys", "create", "--name", "demo", *limits, "--json"]) == 0
    expected = {"models": ["sim", "llama"], "requests_per_minute": 60, "tokens_per_day": 1000, "parallel": 2}
    assert json.loads(capsys.readouterr().out)["limits"] == expected
    assert main(["keys", "list"]) == 0
    assert "sim, llama, 60 a minute, 1000 tokens a day, 2 parallel" in capsys.readouterr().out
    assert main(["keys", "create", "--name", "demo", "--rpm", "0"]) == 2


def test_a_keys_limits_are_changed_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "create", "--name", "demo", "--rpm", "5", "--parallel", "2", "--json"]) == 0
    id = json.loads(capsys.readouterr().out)["id"]
    assert main(["keys", "limit", id, "--rpm", "0", "--models", "llama, phi"]) == 0
    assert capsys.readouterr().out == "demo: llama, phi, 2 parallel\n"
    assert main(["keys", "limit", "none", "--rpm", "1"]) == 2
    assert "unknown key 'none'" in failed(capsys)


def test_usage_without_a_gateway_is_read_from_the_database(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "create", "--name", "demo", "--json"]) == 0
    key_id = json.loads(capsys.readouterr().out)["id"]
    assert main(["usage"]) == 0
    assert "nobody has asked anything yet" in capsys.readouterr().out

    async def use() -> None:
        recorder = Recorder(Settings.from_env(os.environ).database_url)
        recorder.record(key_id, "sim", 200, 0.5, None, 10, 5)
        await recorder.stop()

    asyncio.run(use())
    assert main(["usage", "--from", "2026-01-01", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["key"], row["model"], row["requests"], row["total_tokens"]) == ("demo", "sim", 1, 15)
    assert main(["usage", "--to", "2026-01-01", "--csv"]) == 0
    assert (
        capsys.readouterr().out == "day,key_id,key,model,requests,errors,prompt_tokens,completion_tokens,total_tokens\n"
    )
    assert main(["usage"]) == 0
    assert "demo" in capsys.readouterr().out
