"""The console's screens on a fake gateway, run by Streamlit without a browser."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from apps.console import login
from apps.console.screens import SCREENS
from engine.settings import ROOT
from tests.unit import console_data as data
from tests.unit.console_data import FakeClient

APP = ROOT / "apps" / "console" / "app.py"
TIMEOUT_S = 60


def script(module: str) -> str:
    """A script that draws one screen for whoever is in the session."""
    return f"from apps.console import login\nfrom apps.console.screens import {module}\n{module}.draw(login.feed())\n"


def opened(module: str, client: FakeClient, **state: Any) -> AppTest:
    """A screen for the key that the client has."""
    app = AppTest.from_string(script(module), default_timeout=TIMEOUT_S)
    app.session_state["who"] = login.Who("id", "me", client.role)
    app.session_state["feed"] = login.Feed(client)
    for name, value in state.items():
        app.session_state[name] = value
    app.run()
    assert not app.exception, app.exception
    return app


def text(app: AppTest) -> str:
    """Everything that is written on a screen, in one piece."""
    kinds = ("markdown", "caption", "info", "warning", "error", "success", "title", "header", "subheader", "code")
    written = [str(element.value) for kind in kinds for element in getattr(app, kind)]
    html = [str(element.proto.body) for element in app.get("html")]
    return "\n".join([*written, *html])


def button(app: AppTest, label: str) -> Any:
    return next(one for one in app.button if one.label == label)


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def test_nobody_sees_anything_without_a_key(client: FakeClient) -> None:
    app = AppTest.from_file(str(APP), default_timeout=TIMEOUT_S)
    app.session_state["connect"] = lambda key: client
    app.run()
    assert [one.label for one in app.text_input] == ["Key"] and "Overview" not in text(app)
    client.denied = True
    app.text_input[0].input("sk-engine-wrong")
    button(app, "Log in").click().run()
    assert "unknown or revoked" in text(app)
    client.denied = False
    app.text_input[0].input("sk-engine-right")
    button(app, "Log in").click().run()
    assert app.title[0].value == "Overview" and "me (admin)" in text(app)
    assert "sk-engine-right" not in str(app.query_params)
    button(app, "Log out").click().run()
    assert [one.label for one in app.text_input] == ["Key"]


def test_a_revoked_key_leads_back_to_the_login(client: FakeClient) -> None:
    app = AppTest.from_file(str(APP), default_timeout=TIMEOUT_S)
    app.session_state["connect"] = lambda key: client
    app.run()
    app.text_input[0].input("k")
    button(app, "Log in").click().run()
    client.denied = True
    app.run()
    app.run()
    assert [one.label for one in app.text_input] == ["Key"] and "revoked" in text(app)


def test_the_overview_tells_health_numbers_and_what_needs_attention(client: FakeClient) -> None:
    told = {"level": "bad", "what": "broken failed: no file", "action": "read its log", "deployment": "broken"}
    client.told["overview"] = data.overview(attention=[told])
    shown = text(opened("overview", client))
    for part in ("answers", "broken failed: no file", "read its log", "310 ms", "a100: 8"):
        assert part in shown


def test_a_user_sees_the_models_and_the_own_key_and_nothing_else() -> None:
    client = FakeClient("user")
    client.told["models"] = {
        "data": [{"id": "llama", "stage": "ready", "reason": "", "load": 2, "queued": 0, "context": 8}]
    }
    shown = text(opened("overview", client))
    assert "llama" in shown and "Tokens used today" in shown and "NGINX" not in shown
    assert "GPU hours" not in str([one.options for one in opened("usage", client).get("button_group")])


def test_a_gateway_that_goes_away_leaves_the_last_data_and_comes_back(client: FakeClient) -> None:
    app = opened("deployments", client)
    client.away = True
    app.run()
    shown = text(app)
    assert "the gateway does not answer" in shown.lower() and "showing data of" in shown and len(app.dataframe) == 1
    client.away = False
    app.run()
    assert "does not answer" not in text(app)


def test_no_deployments_say_what_to_do(client: FakeClient) -> None:
    client.rows = []
    assert "open Launch" in text(opened("deployments", client))


def test_a_launch_is_checked_previewed_and_submitted_once(client: FakeClient) -> None:
    app = opened("launch", client)
    shown = text(app)
    assert "partition gpu-large has 4" in shown and "-#SBATCH --mem=1G" in shown and "+#SBATCH --mem=2G" in shown
    name = next(one for one in app.text_input if one.label == "Name")
    name.input("mine").run()
    button(app, "Launch").click().run()
    [(_, request)] = client.asked
    assert request["name"] == "mine" and request["model"] == "llama-3.1-8b" and len(request["request_id"]) == 16
    assert "Queued" in text(app) and "waits" in text(app)
    button(app, "Launch another").click().run()
    assert next(one for one in app.text_input if one.label == "Name").value == "llama-3.1-8b"


def test_a_launch_that_is_tried_again_has_the_same_number(client: FakeClient) -> None:
    app = opened("launch", client)
    answer = client.launch

    def lost(**request: Any) -> Any:
        answer(**request)
        client.away = True
        client._check()

    client.launch = lost  # type: ignore[method-assign]
    button(app, "Launch").click().run()
    assert "nothing listens there" in text(app).lower()
    client.away, client.launch = False, answer  # type: ignore[method-assign]
    app.run()
    button(app, "Launch").click().run()
    first, second = (request["request_id"] for _, request in client.asked)
    assert first == second


def test_a_launch_without_a_replica_does_not_claim_to_answer(client: FakeClient) -> None:
    client.rows = [data.row("asleep", count=0)]
    app = opened("launch", client, launched="asleep")
    assert "scale it up" in text(app) and "answers at" not in text(app)


def test_a_launch_that_cannot_be_says_why_and_offers_none(client: FakeClient) -> None:
    app = opened("launch", client)
    expander = next(one for one in app.text_area if one.label.startswith("Arguments"))
    expander.input("nonsense").run()
    assert "NAME=VALUE" in text(app) and button(app, "Launch").disabled


def detail(client: FakeClient, part: str = "Replicas", name: str = "llama") -> AppTest:
    return opened("deployments", client, deployment=name, **{f"part-{name}": part})


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("Replicas", "49"),
        ("Events", "answers"),
        ("Log", "ERROR: no such file"),
        ("Script", "#SBATCH --mem=1G"),
        ("Addresses", "n1:9000"),
        ("Settings", "max_num_seqs"),
        ("Try it", "A probe asks each replica itself"),
    ],
)
def test_each_part_of_a_deployment_is_drawn(client: FakeClient, part: str, words: str) -> None:
    assert words in text(detail(client, part))


def test_a_failed_deployment_tells_its_reason(client: FakeClient) -> None:
    assert "the model file /models/x.gguf does not exist" in text(detail(client, name="broken"))


def test_a_log_is_searched(client: FakeClient) -> None:
    app = detail(client, "Log")
    next(one for one in app.text_input if one.label == "Search").input("error").run()
    assert any("2  ERROR: no such file" in one.value for one in app.code)


def test_an_access_token_is_shown_only_when_asked_for(client: FakeClient) -> None:
    app = detail(client, "Addresses")
    assert "secret-token" not in text(app)
    app.toggle[0].set_value(True).run()
    assert "secret-token" in text(app)


def test_scaling_is_done_at_once_and_to_none_only_after_a_question(client: FakeClient) -> None:
    app = detail(client)
    next(one for one in app.number_input if one.label == "Replicas").set_value(3).run()
    button(app, "Scale").click().run()
    assert client.asked == [("scale", "llama", 3)]
    app = detail(client)
    next(one for one in app.number_input if one.label == "Replicas").set_value(0).run()
    button(app, "Scale").click().run()
    assert client.asked == [("scale", "llama", 3)]
    button(app, "Scale to 0").click().run()
    assert client.asked[-1] == ("scale", "llama", 0)


def test_a_deployment_is_stopped_only_when_its_name_was_typed(client: FakeClient) -> None:
    app = detail(client)
    button(app, "Stop").click().run()
    assert button(app, "Stop it").disabled and client.asked == []
    next(one for one in app.text_input if one.label == "Type llama to confirm").input("llama").run()
    button(app, "Stop it").click().run()
    assert client.asked == [("stop", "llama")]


def test_the_cluster_tells_nodes_jobs_and_calls(client: FakeClient) -> None:
    app = opened("cluster", client)
    assert "243 calls in the last hour" in text(app) and "gpu-large" in text(app)
    assert list(app.dataframe[1].value["What it means"]) == ["running on n1"]


def test_a_new_key_is_shown_once(client: FakeClient) -> None:
    app = opened("usage", client, **{"usage-part": "Keys"})
    next(one for one in app.text_input if one.label == "Whose it is").input("a tutor")
    button(app, "Make").click().run()
    assert client.asked[0][:2] == ("key_create", "a tutor") and any(one.value == "sk-engine-new" for one in app.code)
    button(app, "I have copied it").click().run()
    assert not any(one.value == "sk-engine-new" for one in app.code)


def test_a_key_is_revoked_after_a_question(client: FakeClient) -> None:
    app = opened("usage", client, **{"usage-part": "Keys"})
    button(app, "Revoke").click().run()
    assert client.asked == []
    button(app, "Revoke it").click().run()
    assert client.asked == [("key_revoke", "id-lecture")]


def test_usage_and_gpu_hours_are_drawn(client: FakeClient) -> None:
    app = opened("usage", client)
    assert "Prompt tokens" in text(app) and list(app.dataframe[0].value["Tokens"]) == [30]
    hours = opened("usage", client, **{"usage-part": "GPU hours"})
    assert "Tokens per GPU hour" in text(hours)
    client.told["gpu_hours"] = {"reason": "this Slurm keeps no accounts", "rows": []}
    assert "keeps no accounts" in text(opened("usage", client, **{"usage-part": "GPU hours"}))


def test_every_screen_is_in_the_menu_and_can_be_loaded() -> None:
    assert all(callable(import_module(screen.module).draw) for screen in SCREENS)
    assert len({screen.path for screen in SCREENS}) == len(SCREENS)
    files = {path.stem for path in (Path(APP).parent / "screens").glob("*.py")}
    assert {screen.module.rpartition(".")[2] for screen in SCREENS} <= files
