"""The real Slurm that integration tests share, and what it says when one of them fails."""

from collections.abc import Generator, Iterator

import pytest

from tests.cluster import Cluster, add_state
from tests.cluster import cluster as brought_up
from tests.serving import Engine, engine


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for the session; a test that stops a part of it starts that again."""
    with brought_up(tmp_path_factory.mktemp("slurm") / "cluster") as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return add_state(item, (yield))


@pytest.fixture(scope="session")
def slurm_environ(cluster: Cluster) -> Iterator[dict[str, str]]:
    """The environment of an engine on the cluster; squeue and its kin in the tests use it, too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield {**cluster.environment, "ENGINE_SCHEDULER": "slurm"}


@pytest.fixture(scope="session")
def slurm_session(tmp_path_factory: pytest.TempPathFactory, slurm_environ: dict[str, str]) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("engine") / "home", slurm_environ) as running:
        yield running


@pytest.fixture
def slurm_engine(slurm_session: Engine) -> Iterator[Engine]:
    """A gateway, controller and NGINX on the real Slurm; whatever a test launched is stopped after it."""
    yield slurm_session
    slurm_session.run("stop", "--all", check=False)
