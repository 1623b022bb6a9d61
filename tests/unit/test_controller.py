"""The controller on a scheduler that refuses, hangs and forgets: nothing is lost, nothing is submitted twice."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.catalogue import Catalogue
from engine.errors import ConfigurationError, Conflict, SchedulerError, SchedulerUnreachable, SubmitFailed, UnknownName
from engine.fleet import store
from engine.fleet.controller import Controller
from engine.fleet.deployments import Replica, Status, folder, to_json
from engine.fleet.derive import UNNAMED_GRACE, Mark
from engine.fleet.hosts import HostFile
from engine.fleet.plan import GIVE_UP_AFTER
from engine.fleet.request import LaunchRequest
from engine.fleet.schedulers.jobs import Job
from engine.settings import Settings
from engine.site import Site
from tests.fake_scheduler import FakeScheduler

INTERVAL = timedelta(seconds=15)


class World:
    """One ENGINE_HOME, its clock, its scheduler and its controller, which can be started anew."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now = datetime(2026, 11, 25, 12, tzinfo=UTC)
        self.scheduler = FakeScheduler(lambda: self.now)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.beats = 0
        self.controller = self.start()

    def start(self) -> Controller:
        settings = Settings(home=self.home, local=self.home / "local")
        self.controller = Controller(
            settings, Site(), Catalogue.load(None), {"slurm": self.scheduler}, now=lambda: self.now
        )
        self.controller._roster.load()
        self.look()
        return self.controller

    def look(self, after: timedelta = INTERVAL) -> Status | None:
        """Time passes, squeue is asked once, and the controller does what follows."""
        self.now += after
        looks = self.scheduler.looks
        self.controller.tick()
        deadline = time.monotonic() + 5
        while self.scheduler.looks == looks and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.002)
        self.controller.tick()
        return self.status

    @property
    def status(self) -> Status | None:
        assert self.controller.snapshot
        return self.controller.snapshot.statuses.get("sim")

    @property
    def replicas(self) -> tuple[Replica, ...]:
        return self.status.replicas if self.status else ()

    def launch(self, replicas: int = 1, **more: object) -> Status:
        return self.controller.launch(LaunchRequest(model="simulator", name="sim", replicas=replicas, **more))

    def serve(self, *job_ids: str) -> None:
        """The jobs run and have written their host files."""
        for job_id in job_ids:
            mark = Mark.read(self.scheduler.queue[job_id].comment)
            assert mark
            self.scheduler.become(job_id, "RUNNING", started_at=self.now, nodes="n1")
            self.beats += 1
            host, port, now = *self.server.getsockname(), self.now
            file = HostFile("sim", mark.index, mark.attempt, job_id, "ready", host, port, "n1", now, now, now,
                            self.beats, 3600.0)  # fmt: skip
            (folder(self.home, "sim").hosts / f"{job_id}.json").write_text(to_json(file))

    def serving(self, replicas: int) -> None:
        self.launch(replicas)
        self.serve(*self.scheduler.queue)
        self.look()
        assert len(self.status.serving) == replicas if self.status else False

    def kinds(self) -> list[str]:
        return [event.kind for event in self.controller.events("sim", 1000)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.server.close()


def raising(error: Exception, on: Callable[[int], bool] = lambda call: True) -> Callable[[Path], None]:
    calls = iter(range(1, 1000))

    def submit(script: Path) -> None:
        if on(next(calls)):
            raise error

    return submit


def test_a_launch_submits_each_replica_and_is_ready_when_they_answer(world: World) -> None:
    world.launch(2)
    assert [replica.job_id for replica in world.replicas] == ["101", "102"]
    world.serve("101", "102")
    world.look()
    assert world.status and len(world.status.serving) == 2
    assert folder(world.home, "sim").hosts_file.read_text() == f"127.0.0.1:{world.server.getsockname()[1]}\n"
    assert world.kinds() == ["launched", "submitted", "submitted", "started", "ready", "started", "ready"]


def test_a_refused_launch_leaves_nothing(world: World) -> None:
    world.scheduler.submitting = raising(SubmitFailed("sbatch: error: invalid partition"))
    with pytest.raises(SubmitFailed, match="invalid partition"):
        world.launch()
    assert world.look() is None and not folder(world.home, "sim").root.exists()
    world.scheduler.submitting = None
    assert world.launch().replicas[0].attempt == 2


def test_where_the_second_submission_is_refused_the_first_is_cancelled(world: World) -> None:
    world.scheduler.submitting = raising(SubmitFailed("QOSMaxSubmitJobPerUserLimit"), on=lambda call: call == 2)
    with pytest.raises(SubmitFailed):
        world.launch(3)
    assert world.scheduler.of("cancel") == [("cancel", "101")]
    world.look()
    assert world.scheduler.of("cancel") == [("cancel", "101")]


def test_a_first_one_that_could_not_be_cancelled_is_ended_as_an_orphan(world: World) -> None:
    def unreachable(verb: str, job_id: str) -> None:
        world.scheduler.asking = lambda verb, job_id: None
        raise SchedulerUnreachable("scancel: no answer")

    world.scheduler.submitting = raising(SubmitFailed("no"), on=lambda call: call == 2)
    world.scheduler.asking = unreachable
    with pytest.raises(SubmitFailed):
        world.launch(2)
    assert world.scheduler.queue["101"].state == "PENDING"
    world.look()
    assert world.scheduler.queue["101"].state == "CANCELLED"


def test_an_orphan_is_ended_even_when_its_name_is_in_use_again(world: World) -> None:
    world.scheduler.submitting = raising(SubmitFailed("no"), on=lambda call: call == 2)
    world.scheduler.asking = lambda verb, job_id: (_ for _ in ()).throw(SchedulerUnreachable("no answer"))
    with pytest.raises(SubmitFailed):
        world.launch(2)
    world.scheduler.submitting, world.scheduler.asking = None, lambda verb, job_id: None
    world.launch()
    world.look()
    assert world.scheduler.queue["101"].state == "CANCELLED"
    assert [(replica.job_id, replica.stage) for replica in world.replicas] == [("102", "queued")]


def test_any_other_failure_of_a_launch_leaves_nothing_either(world: World) -> None:
    world.scheduler.submitting = raising(OSError("No space left on device"), on=lambda call: call == 2)
    with pytest.raises(OSError, match="No space"):
        world.launch(2)
    assert world.look() is None and world.scheduler.queue["101"].state == "CANCELLED"


def test_a_submission_without_an_answer_is_found_by_its_mark(world: World) -> None:
    def hang(script: Path) -> None:
        world.scheduler.add(script)
        raise SchedulerUnreachable("sbatch gave no answer within 20 s")

    world.scheduler.submitting = hang
    assert world.launch().replicas[0].job_id == ""
    world.look()
    assert world.replicas[0].job_id == "101"
    assert len(world.scheduler.of("submit")) == 1
    assert world.kinds() == ["launched", "unsure", "found"]


def test_a_submission_that_never_arrived_is_made_again_once_that_is_sure(world: World) -> None:
    world.scheduler.submitting = raising(SchedulerUnreachable("no answer"), on=lambda call: call == 1)
    world.launch()
    world.look()
    assert len(world.scheduler.of("submit")) == 1
    world.look(UNNAMED_GRACE + INTERVAL)
    assert world.scheduler.of("submit") == [("submit", "0-1.slurm"), ("submit", "0-2.slurm")]


def test_a_crash_between_record_and_job_id_loses_no_job(world: World) -> None:
    def crash(script: Path) -> None:
        world.scheduler.add(script)
        raise KeyboardInterrupt

    world.scheduler.submitting = crash
    with pytest.raises(KeyboardInterrupt):
        world.launch()
    world.scheduler.submitting = None
    world.start()
    assert [(replica.job_id, replica.attempt) for replica in world.replicas] == [("101", 1)]
    assert len(world.scheduler.of("submit")) == 1


def test_a_controller_that_starts_anew_takes_over_what_runs(world: World) -> None:
    world.serving(2)
    before = world.replicas
    world.start()
    assert [replica.job_id for replica in world.replicas] == [replica.job_id for replica in before]
    assert world.status and len(world.status.serving) == 2 and len(world.scheduler.of("submit", "cancel")) == 2


def test_a_job_whose_record_was_lost_is_adopted(world: World) -> None:
    world.serving(1)
    folder(world.home, "sim").replicas.unlink()
    world.start()
    assert [replica.job_id for replica in world.replicas] == ["101"] and len(world.scheduler.of("submit")) == 1


def test_later_refusals_back_off_and_end_in_giving_up(world: World) -> None:
    world.serving(1)
    world.scheduler.submitting = raising(SubmitFailed("account expired"))
    world.scheduler.become("101", "NODE_FAIL")
    for _ in range(40):
        world.look()
    assert world.status and "account expired" in world.status.gave_up
    assert len(world.scheduler.of("submit")) == 1 + GIVE_UP_AFTER
    assert world.kinds().count("gave-up") == 1
    world.scheduler.submitting = None
    world.controller.restart("sim")
    assert world.status and world.status.gave_up == "" and world.replicas[-1].job_id == "102"


def test_a_drain_is_published_before_the_sidecar_is_signalled(world: World) -> None:
    world.serving(2)
    seen: list[tuple[str, int, str]] = []

    def watch(verb: str, job_id: str) -> None:
        assert world.status
        hosts = folder(world.home, "sim").hosts_file.read_text()
        seen.append((verb, len(world.status.serving), hosts))

    world.scheduler.asking = watch
    world.controller.scale("sim", 0)
    assert [(verb, serving) for verb, serving, _ in seen] == [("signal", 1), ("signal", 0)]
    assert seen[-1][2] == ""


def test_scaling_down_drains_and_a_second_look_signals_nobody_again(world: World) -> None:
    world.serving(3)
    world.controller.scale("sim", 1)
    world.look()
    assert world.scheduler.of("signal", "cancel") == [("signal", "103"), ("signal", "102")]
    for job_id in ("102", "103"):
        world.scheduler.become(job_id, "COMPLETED")
    world.look()
    assert [replica.job_id for replica in world.replicas] == ["101"]
    assert not list(folder(world.home, "sim").hosts.glob("10[23].json"))


def test_a_stop_drains_then_archives_and_the_name_is_free_again(world: World) -> None:
    world.serving(1)
    world.controller.stop("sim")
    with pytest.raises(Conflict, match="being stopped"):
        world.controller.restart("sim")
    with pytest.raises(Conflict, match="being stopped"):
        world.controller.scale("sim", 2)
    world.scheduler.become("101", "COMPLETED")
    assert world.look() is None
    assert world.kinds()[-2:] == ["ended", "gone"]
    # squeue still shows the former job, with the same index.
    world.launch()
    world.look()
    assert [(replica.job_id, replica.stage) for replica in world.replicas] == [("102", "queued")]


def test_a_silent_scheduler_is_asked_nothing_and_ends_nothing(world: World) -> None:
    world.serving(2)
    world.scheduler.silent = True
    world.look()
    before = len(world.scheduler.asked)
    world.controller.scale("sim", 1)
    for _ in range(30):
        world.serve("101", "102")
        world.look()
    assert len(world.scheduler.asked) == before and len(world.replicas) == 2
    assert world.controller.snapshot and "slurm" in world.controller.snapshot.scheduler_silent_since
    world.scheduler.silent = False
    world.look()
    assert len(world.scheduler.of("signal", "cancel")) == 1
    assert world.status and len(world.status.serving) == 1


def test_an_answer_that_cannot_be_read_is_as_good_as_none_and_the_next_one_counts(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.serving(1)
    jobs, world.scheduler.jobs = world.scheduler.jobs, lambda: 1 // 0  # type: ignore[method-assign, assignment]
    world.now += INTERVAL
    for _ in range(3):
        world.controller.tick()
        time.sleep(0.005)
    assert world.status and len(world.status.serving) == 1
    for _ in range(3):
        world.now += INTERVAL
        world.controller.tick()
        time.sleep(0.005)
    assert caplog.text.count("could not be read") == 1
    world.controller.tick()
    world.scheduler.jobs = jobs  # type: ignore[method-assign]
    world.look()
    assert world.controller.snapshot and world.controller.snapshot.scheduler_silent_since == {}


def test_a_scancel_that_is_refused_stops_no_other_deployments(world: World) -> None:
    world.controller.launch(LaunchRequest(model="simulator", name="first"))
    world.launch()

    def refuse(verb: str, job_id: str) -> None:
        if job_id == "101":
            raise SchedulerError("scancel 101 failed: Access/permission denied")

    world.scheduler.asking = refuse
    world.controller.stop("first")
    world.scheduler.become("102", "FAILED")
    world.look()
    assert [replica.job_id for replica in world.replicas] == ["103"]


def test_a_scheduler_that_lets_us_wait_in_vain_is_not_asked_for_more_until_it_has_told_its_jobs(world: World) -> None:
    world.serving(2)
    world.scheduler.submitting = raising(SchedulerUnreachable("sbatch gave no answer within 20 s"))
    before = len(world.scheduler.of("submit"))
    world.controller.scale("sim", 50)
    world.controller.tick()
    assert len(world.scheduler.of("submit")) == before + 1
    world.look()
    assert before + 2 <= len(world.scheduler.of("submit")) <= before + 3
    world.scheduler.submitting = None
    world.look()
    world.look(UNNAMED_GRACE)
    world.look()
    assert len(world.replicas) == 50 and all(replica.job_id for replica in world.replicas)


def test_a_clock_that_is_set_back_keeps_nobody_waiting(world: World) -> None:
    world.serving(2)
    world.scheduler.become("101", "FAILED")
    world.look(-timedelta(hours=1))
    assert [replica.job_id for replica in world.replicas] == ["102", "103"]


def test_a_deployment_that_cannot_be_read_stops_no_other_and_its_jobs_live(world: World) -> None:
    world.controller.launch(LaunchRequest(model="simulator", name="bad"))
    world.serving(1)
    folder(world.home, "bad").deployment.write_text('{"name": "ba')
    world.start()
    world.look()
    assert world.status and len(world.status.serving) == 1
    assert world.scheduler.of("cancel") == []
    with pytest.raises(Conflict, match="'bad' that cannot be read"):
        world.controller.launch(LaunchRequest(model="simulator", name="bad"))


def test_a_lost_record_of_replicas_is_made_anew_from_the_jobs(world: World) -> None:
    world.serving(2)
    world.scheduler.become("102", "FAILED")
    world.look()
    folder(world.home, "sim").replicas.write_text('{"replicas": [')
    world.start()
    world.look()
    assert sorted((replica.job_id, replica.attempt) for replica in world.replicas) == [("101", 1), ("103", 3)]
    world.scheduler.become("103", "FAILED")
    world.look()
    assert max(replica.attempt for replica in world.replicas) == 4


def test_a_folder_that_cannot_be_written_to_stops_nothing_and_is_saved_once_it_can(world: World) -> None:
    world.controller.launch(LaunchRequest(model="simulator", name="away"))
    world.serving(2)
    root = folder(world.home, "away").root
    root.rename(world.home / "elsewhere")
    world.scheduler.become("101", "FAILED")
    world.scheduler.become("102", "FAILED")
    world.look()
    assert [replica.job_id for replica in world.replicas] == ["103", "104"]
    assert world.controller.snapshot
    assert all(
        replica.live is False or not replica.job_id for replica in world.controller.snapshot.statuses["away"].replicas
    )
    (world.home / "elsewhere").rename(root)
    world.look()
    assert world.controller._roster["away"].replicas == store.load(world.home, "away").replicas


def test_squeue_is_asked_once_per_interval_however_often_the_controller_looks(world: World) -> None:
    world.serving(1)
    before = world.scheduler.looks
    for _ in range(140):
        world.now += timedelta(seconds=1)
        world.controller.tick()
        time.sleep(0.0005)
    assert 8 <= world.scheduler.looks - before <= 10
    assert world.controller.squeue_calls == world.scheduler.looks


def test_an_orphan_is_cancelled_once_per_answer_and_others_jobs_never(world: World) -> None:
    mark = Mark.read("engine:" + (world.home / "home.id").read_text().strip() + ":gone:0:1")
    assert mark
    jobs = {
        "1": Job("1", "gone-0", "RUNNING", comment=str(mark)),
        "2": Job("2", "theirs", "RUNNING", comment=""),
        "3": Job("3", "gone-0", "RUNNING", comment=str(replace(mark, home_id="ffffffff"))),
    }
    world.scheduler.queue.update(jobs)
    world.look()
    for _ in range(5):
        world.controller.tick()
    assert world.scheduler.of("cancel") == [("cancel", "1")]


def test_a_second_controller_on_the_same_home_is_told_who_holds_it(world: World) -> None:
    (world.home / "controller.lock").write_text(f'{{"host": "{socket.gethostname()}", "pid": 1, "started": "0"}}')
    started = Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]
    lock = f'{{"host": "{socket.gethostname()}", "pid": 1, "started": "{started}"}}'
    (world.home / "controller.lock").write_text(lock)
    with pytest.raises(Conflict, match=f"another controller serves .*: process 1 on {socket.gethostname()}"):
        world.controller.run()


def test_it_runs_until_it_is_shut_down_and_leaves_no_lock(world: World) -> None:
    thread = threading.Thread(target=world.controller.run)
    thread.start()
    deadline = time.monotonic() + 5
    while not (world.home / "controller.lock").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    world.controller.shut_down()
    thread.join(5)
    assert not thread.is_alive() and not (world.home / "controller.lock").exists()


def test_what_does_not_exist_is_an_error_that_names_the_known(world: World) -> None:
    world.launch()
    asked: list[Callable[[], object]] = [
        lambda: world.controller.stop("smi"),
        lambda: world.controller.scale("smi", 1),
        lambda: world.controller.restart("smi"),
        lambda: world.controller.log("smi", None, 10),
        lambda: world.controller.events("smi", 10),
    ]
    for ask in asked:
        with pytest.raises(UnknownName, match="unknown deployment 'smi'; known: sim"):
            ask()
    for ask_replica in (lambda: world.controller.drain("sim", 7), lambda: world.controller.log("sim", 7, 10)):
        with pytest.raises(UnknownName, match="unknown replica '7'; known: 0"):
            ask_replica()


def test_a_name_or_path_that_is_taken_is_a_conflict(world: World) -> None:
    world.launch()
    with pytest.raises(Conflict, match="'sim' exists"):
        world.launch()
    world.controller.launch(LaunchRequest(command=["true"], name="one", path="/web/"))
    with pytest.raises(Conflict, match="'/web/' is taken"):
        world.controller.launch(LaunchRequest(command=["true"], name="two", path="/web/"))


def test_a_deployment_whose_scheduler_is_not_here_waits_for_it(world: World) -> None:
    world.serving(1)
    here = FakeScheduler(lambda: world.now)
    settings = Settings(home=world.home, local=world.home / "local")
    other = Controller(settings, Site(), Catalogue.load(None), {"local": here}, now=lambda: world.now)
    other._roster.load()
    other.tick()
    other.stop("sim")
    other.tick()
    assert other.snapshot and len(other.snapshot.statuses["sim"].replicas) == 1 and here.asked == []
    with pytest.raises(ConfigurationError, match="unknown scheduler 'slurm'; known: local"):
        other.launch(LaunchRequest(model="simulator", name="new", scheduler="slurm"))


def test_the_log_is_that_of_the_newest_attempt(world: World) -> None:
    world.launch(2)
    for job_id in ("101", "102"):
        (folder(world.home, "sim").logs / f"{job_id}.out").write_text(f"one of {job_id}\ntwo of {job_id}\n")
    assert world.controller.log("sim", None, 1) == "two of 102"
    assert world.controller.log("sim", 0, 5) == "one of 101\ntwo of 101"


def test_rendering_submits_and_keeps_nothing(world: World) -> None:
    script = world.controller.render(LaunchRequest(model="simulator", name="sim"))
    assert script.startswith("#!/bin/bash") and world.look() is None and world.scheduler.of("submit") == []


def test_a_launch_that_is_asked_again_with_its_number_launches_nothing(world: World) -> None:
    first = world.launch(request_id="r1")
    again = world.launch(request_id="r1")
    assert again.deployment == first.deployment and len(world.scheduler.jobs()) == 1
    with pytest.raises(Conflict):
        world.launch(request_id="r2")
    with pytest.raises(Conflict):
        world.launch()
