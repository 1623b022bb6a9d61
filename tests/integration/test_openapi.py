"""The description that the gateway gives of itself is true, and nothing that it allows breaks the gateway."""

import time

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup

from tests.integration.test_workflow_routes import Running
from tests.processes import simulator

load_all_checks()
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
WANTED = CHECKS.get_by_names(["not_a_server_error", "status_code_conformance", "content_type_conformance"])


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with simulator("--latency-ms", "1", "--capacity", "16", name="sim") as server:
        running = Running(tmp_path_factory.mktemp("openapi") / "home", ("sim", [server], {"capacity": "16"}))
        yield running
        running.stop()


EXAMPLES = 25
DEADLINE_S = 150.0


def test_no_request_breaks_the_gateway_or_gets_an_undocumented_answer(gateway):
    described = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    begun = time.monotonic()
    wrong: dict[str, str] = {}
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) > 35
    for operation in operations:
        assert time.monotonic() - begun < DEADLINE_S, "the API is too slow, or grew: give it more time"
        try:
            fuzz(operation, gateway.url)
        except (Exception, FailureGroup) as error:
            wrong[operation.label] = str(error)
    assert not wrong, "\n\n".join(f"{label}: {text}" for label, text in wrong.items())


def fuzz(operation, url: str) -> None:
    @hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
        phases=[hypothesis.Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @hypothesis.given(
        case=operation.as_strategy(generation_mode=MODES[0]) | operation.as_strategy(generation_mode=MODES[1])
    )
    def ask(case):
        body = case.body
        if isinstance(body, dict) and isinstance(body.get("model"), str) and len(body["model"]) % 2 == 0:
            body["model"] = "sim"  # so that half of what is well formed gets as far as the model
        case.call_and_validate(base_url=url, headers={"Authorization": "Bearer operator"}, checks=WANTED, timeout=30)

    ask()


def test_every_route_tells_its_errors_in_openais_shape(gateway):
    with gateway.http() as http:
        described = http.get("/openapi.json").json()
    assert {"/v1/bulk", "/v1/tribunal", "/v1/longprompt", "/v1/laws", "/v1/files", "/v1/batches"} <= described[
        "paths"
    ].keys()
    for path, methods in described["paths"].items():
        for method, told in methods.items():
            assert "401" in told["responses"] or path in ("/health", "/metrics"), (path, method)
            assert "HTTPValidationError" not in str(told), (path, method)
