"""What the real vLLM was seen to do is printed after the tests."""

import pytest

LINES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LINES] = []


@pytest.fixture
def saw(request: pytest.FixtureRequest) -> list[str]:
    """Lines for the report."""
    return request.config.stash[LINES]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[LINES]:
        terminalreporter.section("a real vLLM")
        for line in config.stash[LINES]:
            terminalreporter.write_line(line)
