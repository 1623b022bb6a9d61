"""Slurm: a thin shell around sbatch, squeue, scancel, scontrol and sacct. What they print is read in parse.py."""

import os
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

from engine.errors import SchedulerError, SchedulerUnreachable, SubmitFailed
from engine.fleet.run import Completed, Run, run
from engine.fleet.schedulers import accounting, parse
from engine.fleet.schedulers.calls import CallLog
from engine.fleet.schedulers.jobs import Job, Node

# What Slurm's commands say when slurmctld or its network is away, whatever they were asked.
_UNREACHABLE = (
    "Unable to contact slurm controller",
    "Unable to establish controller machine",
    "Unable to establish control machine address",
    "Socket timed out",
    "Connection refused",
    "Connection timed out",
    "Zero Bytes were transmitted",
    "temporarily unable to accept job",
    "Communication connection failure",
    "Unexpected message received",
    "Protocol authentication error",
    "Munge encode failed",
    "No route to host",
    "Unable to process configuration file",
    "DNS SRV lookup failed",
)
_GONE = ("Invalid job id", "already completing or completed", "Job/step already completing", "already finished")
# What people set for themselves: it would filter squeue's answer and overrule the options in our scripts.
_OVERRIDES = re.compile(r"(SBATCH|SQUEUE|SCANCEL|SINFO|SACCT)_\w+")
# Of a job in which the engine itself may run: its children's jobs are others.
_OUTER_JOB = re.compile(r"SLURM_(?!CONF$|CLUSTERS$|JWT$)\w+")
# Where the script leaves these to the user's default, they are the user's.
_DEFAULTS = ("account", "partition", "qos", "reservation")


class Slurm:
    """The scheduler contract (jobs.Scheduler) on a Slurm cluster, as the user `user` (a number or a name).

    `json` reads `squeue --json` instead of `squeue -o`: it brings exit codes, but Slurm 22 ignores its filters, so that
    every user's jobs travel. A submit that times out may have reached slurmctld all the same: the comment tells.
    """

    name = "slurm"

    def __init__(
        self,
        run: Run = run,
        user: str | None = None,
        timeout_s: float = 20.0,
        json: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.calls = CallLog()
        self._run, self._timeout_s, self._json, self._environ = self.calls.counted(run), timeout_s, json, environ
        self._user = user or str(os.getuid())
        self._accounting = True

    @staticmethod
    def available(run: Run = run, timeout_s: float = 10.0) -> bool:
        """Whether there is an sbatch and slurmctld answers sinfo."""
        try:
            return all(run(argv, timeout_s).returncode == 0 for argv in (["sbatch", "--version"], ["sinfo", "-h"]))
        except (TimeoutError, OSError):
            return False

    def submit(self, script: Path) -> str:
        # sbatch hands its environment to the job: the C locale that we run commands in is not for it.
        foreign = ["LC_ALL", *filter(_OUTER_JOB.fullmatch, self._environ)]
        foreign += self._overrides(_defaults(script))
        answer = self._run_or_raise(["sbatch", "--parsable", str(script)], _without(foreign))
        if answer.returncode != 0:
            raise SubmitFailed(f"sbatch refused {script}: {_last_line(answer)}")
        try:
            return parse.parse_job_id(answer.stdout)
        except ValueError as error:
            raise SchedulerUnreachable(f"sbatch {script} answered without a job id: {answer.stdout!r}") from error

    def jobs(self) -> list[Job]:
        if self._json:
            text = self._answer(["squeue", "-t", "all", "-u", self._user, "--json"])
            return parse.parse_squeue_json(text, self._user)
        columns = ["-o", parse.SQUEUE_FORMAT]
        return parse.parse_squeue(self._answer(["squeue", "-h", "-r", "-t", "all", "-u", self._user, *columns]))

    def ended_jobs(self, job_ids: Iterable[str]) -> list[Job]:
        """From accounting, or without it from slurmctld, which forgets a job some minutes after its end (MinJobAge)."""
        ids = list(job_ids)
        if not ids:
            return []
        found = self._sacct(ids) if self._accounting else None
        jobs = self._remembered(ids) if found is None else found
        return [job for job in jobs if job.ended]

    def signal(self, job_id: str, signal: str) -> None:
        self._scancel(["--batch", f"--signal={signal}", job_id])

    def cancel(self, job_id: str) -> None:
        self._scancel([job_id])

    def expected_start(self, script: Path) -> datetime | None:
        """Raises SubmitFailed where the job could never start."""
        clean = _without(self._overrides(_defaults(script)))
        answer = self._run_or_raise(["sbatch", "--test-only", str(script)], [*clean, "SLURM_TIME_FORMAT=%s"])
        if answer.returncode != 0:
            raise SubmitFailed(f"sbatch --test-only refused {script.name}: {_last_line(answer)}")
        return parse.parse_expected_start(answer.stderr + answer.stdout)

    def nodes(self) -> list[Node]:
        return parse.parse_nodes(self._answer(["scontrol", "show", "node", "-d", "-o"]))

    def runs(self, first: date, last: date) -> list[accounting.Run] | None:
        """What this user's jobs held between two days, both included; None where nothing is accounted."""
        command = ["sacct", "-n", "-P", "-X", "-D", "-u", self._user, f"--delimiter={parse.SEPARATOR}"]
        # sacct reads times in the zone of this machine: a day more at each end, which the reckoning cuts off.
        begin, end = first - timedelta(days=1), last + timedelta(days=2)
        window = ["-S", f"{begin.isoformat()}T00:00:00", "-E", f"{end.isoformat()}T00:00:00"]
        answer = self._ask([*command, *window, f"--format={accounting.FORMAT}"])
        return accounting.parse(answer.stdout) if answer.returncode == 0 else None

    def hostnames(self, nodes: str) -> list[str]:
        """The names in Slurm's short form: `n[1-3]` to n1, n2, n3."""
        return self._answer(["scontrol", "show", "hostnames", nodes]).split() if nodes else []

    def _sacct(self, ids: Sequence[str]) -> list[Job] | None:
        command = ["sacct", "-n", "-P", "-X", "-D", f"--delimiter={parse.SEPARATOR}", "-j", ",".join(ids)]
        try:
            answer = self._ask([*command, f"--format={parse.SACCT_FORMAT}"])
        except SchedulerUnreachable:
            return None  # slurmdbd is away; slurmctld may know
        if "accounting storage is disabled" in answer.stderr:
            self._accounting = False
        return parse.parse_sacct(answer.stdout) if answer.returncode == 0 else None

    def _remembered(self, ids: Sequence[str]) -> list[Job]:
        # One id at a time: a list is not understood, and all jobs of all users would be heavy on a big cluster.
        answers = (self._ask(["scontrol", "show", "job", "-o", job_id]) for job_id in ids)
        return [job for answer in answers if answer.returncode == 0 for job in parse.parse_scontrol_jobs(answer.stdout)]

    def _scancel(self, arguments: Sequence[str]) -> None:
        answer = self._ask(["scancel", *arguments])
        if answer.returncode != 0 and not any(words in answer.stderr for words in _GONE):
            raise SchedulerError(f"scancel {' '.join(arguments)} failed: {_last_line(answer)}")

    def _answer(self, argv: Sequence[str]) -> str:
        answer = self._ask(argv)
        if answer.returncode != 0:
            raise SchedulerUnreachable(f"{argv[0]} failed with {answer.returncode}: {_last_line(answer)}")
        return answer.stdout

    def _ask(self, argv: Sequence[str]) -> Completed:
        return self._run_or_raise(argv, [*_without(self._overrides()), "SLURM_TIME_FORMAT=%s"])

    def _overrides(self, kept: Container[str] = ()) -> list[str]:
        return [name for name in self._environ if _OVERRIDES.fullmatch(name) and name not in kept]

    def _run_or_raise(self, argv: Sequence[str], clean: Sequence[str]) -> Completed:
        asked = " ".join(argv[:6])
        try:
            answer = self._run([*clean, *argv], self._timeout_s)
        except (TimeoutError, OSError) as error:
            raise SchedulerUnreachable(f"`{asked}`: {error}; is slurmctld up (`scontrol ping`)?") from error
        if answer.returncode != 0 and any(words in answer.stderr for words in _UNREACHABLE):
            raise SchedulerUnreachable(f"`{asked}`: {_last_line(answer)}; is slurmctld up (`scontrol ping`)?")
        return answer


def _without(names: Iterable[str]) -> list[str]:
    """The command that runs another without these variables."""
    return ["env", *(word for name in names for word in ("-u", name))]


def _defaults(script: Path) -> set[str]:
    """Variables of sbatch(1) that hold where the script says nothing."""
    said = script.read_text() if script.is_file() else ""
    return {f"SBATCH_{option.upper()}" for option in _DEFAULTS if f"#SBATCH --{option}=" not in said}


def _last_line(answer: Completed) -> str:
    lines = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
    return lines[-1] if lines else f"no output, exit code {answer.returncode}"
