"""The real Slurm that integration tests share, and what it says when one of them fails."""

from collections.abc import Generator, Iterator

import pytest

from tests.cluster import Cluster
from tests.cluster import cluster as brought_up


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for the session; a test that stops a part of it starts that again."""
    with brought_up(tmp_path_factory.mktemp("slurm") / "cluster") as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    running = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(running, Cluster):
        report.sections.append(("the cluster", running.state()))
    return report
