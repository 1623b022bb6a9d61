import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.catalogue import Resources
from engine.errors import ConfigurationError
from engine.fleet import nginx_conf
from engine.fleet.deployments import Deployment, Replica, Status
from engine.fleet.hosts import Endpoint

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "templates"
GOLDEN = ROOT / "tests" / "data" / "golden" / "nginx.conf"
AT = datetime(2026, 11, 25, tzinfo=UTC)


def deployment(name: str, kind: str = "model", **more: object) -> Deployment:
    return replace(Deployment(name, kind, "vllm", "local", Resources(), AT), **more)  # type: ignore[arg-type]


def ready(index: int, host: str, port: int) -> Replica:
    return Replica(index, index, 1, "ready", endpoint=Endpoint(host, port, "replica-key-1"), in_rotation=True)


def status(asked: Deployment, *replicas: Replica) -> Status:
    return Status(asked, replicas, access_token="access-token-1", replica_key="replica-key-1")


def rendered(*statuses: Status, gateway: str | None = "127.0.0.1:8000", **more: object) -> str:
    given = {"home": Path("/srv/engine/nginx"), "host": "0.0.0.0", "port": 8080, "templates": TEMPLATES, **more}
    return nginx_conf.nginx(statuses, gateway=gateway, **given)  # type: ignore[arg-type]


CLUSTER = (
    status(deployment("llama-3.1-8b"), ready(0, "10.0.0.1", 40001), ready(1, "localhost", 40002)),
    status(deployment("small", engine="llamacpp"), ready(0, "127.0.0.1", 40003)),
    status(deployment("loading"), replace(ready(0, "10.0.0.9", 40009), stage="loading", endpoint=None)),
    status(deployment("chatbot", "app", path="/"), ready(0, "127.0.0.1", 40004)),
    status(deployment("console", "app", path="/console/"), ready(0, "127.0.0.1", 40005)),
    status(deployment("demo", "app", path="/demo/", strip_path=True), ready(0, "fe80::1", 40006)),
    status(deployment("sleepy", "app", path="/sleepy/")),
)


def test_the_configuration_of_a_whole_cluster_is_the_golden_one() -> None:
    text = rendered(*CLUSTER)
    if os.environ.get("ENGINE_WRITE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_the_order_of_deployments_and_replicas_changes_nothing() -> None:
    assert rendered(*CLUSTER) == rendered(*(replace(s, replicas=s.replicas[::-1]) for s in reversed(CLUSTER)))


def test_a_replica_that_is_out_of_rotation_gets_no_requests() -> None:
    out = replace(ready(0, "10.0.0.1", 40001), in_rotation=False)
    text = rendered(status(deployment("a"), out, ready(1, "10.0.0.2", 40002)))
    assert "10.0.0.1" not in text and "server 10.0.0.2:40002" in text


def test_without_a_gateway_only_deployments_and_apps_are_served() -> None:
    text = rendered(*CLUSTER, gateway=None)
    assert "location /v1/" not in text and "location /deployments/small/v1/" in text


def test_only_v1_is_sent_again_to_the_next_worker() -> None:
    text = rendered()
    assert text.count("non_idempotent") == 1
    assert "non_idempotent" in text[text.index("location /v1/") : text.index("location /api/")]


def test_connections_are_bounded_only_where_asked() -> None:
    one = status(deployment("a"), ready(0, "10.0.0.1", 40001))
    assert "max_conns" not in rendered(one)
    assert "max_conns=20" in rendered(one, max_conns={"a": 20})


@pytest.mark.parametrize("name", ["a b", "a;", "a\n", "../a", "A", "a{", "$a", "ä", "", "a" * 80])
def test_a_name_that_is_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="name"):
        rendered(status(deployment(name)))


@pytest.mark.parametrize("path", ["/a b/", "/a", "a/", "/a/;}", "/../", "/a\n/", "//", "/$uri/", "/v1/", "/api/x/"])
def test_a_path_that_is_not_an_apps_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="path"):
        rendered(status(deployment("a", "app", path=path)))


@pytest.mark.parametrize("field", ["access_token", "replica_key"])
@pytest.mark.parametrize("secret", ["", "short", 'x" ""; } evil', "aaaaaaaa\n", "aaaa.*aaaa", "$http_cookie_"])
def test_a_key_with_other_characters_is_refused_and_not_shown(field: str, secret: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        rendered(replace(status(deployment("a")), **{field: secret}))  # type: ignore[arg-type]
    assert not secret or secret not in str(refused.value)


@pytest.mark.parametrize("host", ["h;", "h h", "", "-h", "h\n", "$host", "h/x"])
def test_a_host_that_is_more_than_a_host_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="host"):
        rendered(status(deployment("a"), ready(0, host, 1)))


def test_a_port_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="port"):
        rendered(status(deployment("a"), ready(0, "10.0.0.1", 70000)))


def test_a_folder_that_nginx_could_not_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="ENGINE_HOME"):
        rendered(home=Path("/srv/my engine/nginx"))


def test_two_apps_cannot_have_one_path() -> None:
    with pytest.raises(ConfigurationError, match="both one and two"):
        rendered(*(status(deployment(name, "app", path="/x/")) for name in ("one", "two")))


def test_an_excerpt_shows_one_deployment_and_none_of_its_secrets() -> None:
    found = [status(deployment("llama"), ready(0, "n1", 9000)), status(deployment("llama-2"), ready(0, "n2", 9001))]
    whole = nginx_conf.nginx(
        found, home=Path("/engine/nginx"), host="127.0.0.1", port=8080, gateway="127.0.0.1:8000", templates=TEMPLATES
    )
    shown = nginx_conf.excerpt(whole, "llama")
    assert "upstream deployment_llama {" in shown and "server n1:9000" in shown
    assert "location /deployments/llama/v1/" in shown
    assert "llama-2" not in shown and "n2:9001" not in shown
    assert "replica-key" not in shown and "access-token" not in shown
    assert nginx_conf.excerpt(whole, "nothing") == ""
