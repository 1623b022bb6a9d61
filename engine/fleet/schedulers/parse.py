"""Pure parsers of what Slurm's commands print. Recorded examples lie in tests/data/slurm."""

import json
import re
from datetime import UTC, datetime
from typing import Any

from engine.fleet.schedulers.jobs import WAITING, Job, Node

SEPARATOR = "\x1f"  # a comment may hold any printable sign
SQUEUE_FORMAT = SEPARATOR.join(["%i", "%j", "%T", "%r", "%N", "%u", "%P", "%b", "%k", "%Q", "%V", "%S", "%e"])
COLUMNS = SQUEUE_FORMAT.count(SEPARATOR) + 1
SACCT_FORMAT = "JobID,JobName,State,Reason,NodeList,User,Partition,AllocTRES,Comment,Submit,Start,End,ExitCode"
_EMPTY = frozenset({"", "N/A", "n/a", "(null)", "None", "NONE", "Unknown", "None assigned"})


def parse_squeue(text: str) -> list[Job]:
    """Jobs from `SLURM_TIME_FORMAT=%s squeue -h -r -t all -o SQUEUE_FORMAT`.

    Other jobs of this user may have line ends or separators in their names and comments: those are passed over. Ours
    have none. Raises ValueError where the text is no such list, or breaks off.
    """
    rows = [line.split(SEPARATOR) for line in text.removesuffix("\n").split("\n")] if text else []
    if rows and (len(rows[0]) == 1 or not text.endswith("\n")):
        raise ValueError(f"no list of jobs, or not all of it: {text[-200:]!r}")
    return [_squeue_job(row) for row in rows if len(row) == COLUMNS and row[0][:1].isdecimal()]


def parse_sacct(text: str) -> list[Job]:
    """Jobs from `SLURM_TIME_FORMAT=%s sacct -n -P -X -D --delimiter=SEPARATOR --format=SACCT_FORMAT`.

    A requeued job has a line for each run; the last one counts.
    """
    jobs = (_sacct_job(line.split(SEPARATOR)) for line in text.splitlines() if line)
    return list({job.id: job for job in jobs}.values())


def parse_squeue_json(text: str, user: str = "") -> list[Job]:
    """Jobs, of all users or of one (a name or a number), from `squeue --json`.

    Slurm 22 prints plain values, newer ones `{"set", "infinite", "number"}` and lists of states.
    """
    rows = json.loads(text)["jobs"]
    return [_json_job(row) for row in rows if user in ("", row.get("user_name"), str(_number(row.get("user_id"))))]


def parse_scontrol_jobs(text: str) -> list[Job]:
    """Jobs from `SLURM_TIME_FORMAT=%s scontrol show job -o`: the only place of the exit code without accounting."""
    return [_scontrol_job(line) for line in text.splitlines() if line.startswith("JobId=")]


def parse_nodes(text: str) -> list[Node]:
    """Nodes from `scontrol show node -d -o`."""
    return [_node(line) for line in text.splitlines() if line.startswith("NodeName=")]


def parse_expected_start(text: str) -> datetime | None:
    """The time in what `sbatch --test-only` says on stderr; None when it names none."""
    found = re.search(r" to start at (\S+)", text)
    return _time(found[1]) if found else None


def parse_job_id(text: str) -> str:
    """`31` from what `sbatch --parsable` prints: `31`, or `31;cluster`; warnings may stand before it."""
    last = text.strip().splitlines()[-1] if text.strip() else ""
    job_id = last.split(";")[0].strip()
    if not job_id.isdecimal():
        raise ValueError(f"no job id in {text!r}")
    return job_id


def _squeue_job(values: list[str]) -> Job:
    id_, name, state, reason, nodes, user, partition, gres, comment, priority, submit, start, end = values
    return _job(id_, name, state, reason, nodes, user, partition, gres, comment, submit, start, end, priority=priority)


def _sacct_job(values: list[str]) -> Job:
    id_, name, state, reason, nodes, user, partition, tres, comment, submit, start, end, exit_code = values
    gres = _gres_of_tres(tres)
    return _job(id_, name, state, reason, nodes, user, partition, gres, comment, submit, start, end, exit_code)


def _scontrol_job(line: str) -> Job:
    def value(key: str) -> str:
        return _field(line, key)

    array = value("ArrayJobId")
    return _job(
        f"{array}_{value('ArrayTaskId')}" if array else value("JobId"),
        value("JobName"), value("JobState"), value("Reason"), value("NodeList"), value("UserId").split("(")[0],
        value("Partition"), value("TresPerNode"), value("Comment"), value("SubmitTime"), value("StartTime"),
        value("EndTime"), value("ExitCode"), value("Priority"),
    )  # fmt: skip


def _json_job(row: dict[str, Any]) -> Job:
    states = row["job_state"] if isinstance(row["job_state"], list) else [row["job_state"]]
    task = _number(row.get("array_task_id"))
    submit, start, end = (str(_number(row.get(key)) or "") for key in ("submit_time", "start_time", "end_time"))
    return _job(
        str(row["job_id"]) if task is None else f"{_number(row['array_job_id'])}_{task}",
        row.get("name", ""), "COMPLETING" if "COMPLETING" in states else states[0], row.get("state_reason", ""),
        row.get("nodes", ""), row.get("user_name", ""), row.get("partition", ""), row.get("tres_per_node", ""),
        row.get("comment", ""), submit, start, end, _json_exit_code(row.get("exit_code")),
        str(_number(row.get("priority")) or ""),
    )  # fmt: skip


def _job(
    id_: str, name: str, state: str, reason: str, nodes: str, user: str, partition: str, gres: str, comment: str,
    submit: str, start: str, end: str, exit_code: str = "", priority: str = "",
) -> Job:  # fmt: skip
    state = state.split(" ")[0].rstrip("+")  # sacct: "CANCELLED by 0"
    # Of a waiting job Slurm shows as start what it expects; only a job that ran has started.
    waiting = state in WAITING
    return Job(
        id=id_, name=name, state=state, reason=_text(reason), nodes=_text(nodes), user=user, partition=partition,
        gres=_text(gres).replace("gres:", "").replace("gres/", ""), comment=_text(comment),
        priority=int(priority) if priority.isdecimal() else None, submitted_at=_time(submit),
        started_at=None if waiting else _time(start), ends_at=None if waiting else _time(end), exit_code=exit_code,
        expected_start_at=_time(start) if waiting else None,
    )  # fmt: skip


def _node(line: str) -> Node:
    def number(key: str) -> int:
        text = _field(line, key)
        return int(text) if text.isdecimal() else 0

    reason = re.search(r"\sReason=(.*)", line)
    return Node(
        name=_field(line, "NodeName"),
        state=_field(line, "State"),
        partitions=tuple(filter(None, _field(line, "Partitions").split(","))),
        cpus=number("CPUEfctv") or number("CPUTot"),
        cpus_used=number("CPUAlloc"),
        mem_gb=number("RealMemory") / 1024,
        mem_gb_used=number("AllocMem") / 1024,
        gpus=gpus_of(_field(line, "Gres")),
        gpus_used=gpus_of(_field(line, "GresUsed")),
        reason=re.sub(r" \[[^]]*@[^]]*\]\s*$", "", reason[1]) if reason else "",
    )


def gpus_of(gres: str) -> dict[str, int]:
    """GPUs by type from `gpu:a100:4(S:0-1),gpu:2`; those without a type count as `gpu`, and none are left out."""
    found: dict[str, int] = {}
    for kind, count in re.findall(r"(?:^|,)(?:gres[:/])?gpu(?::([^:=,()]+))?[:=](\d+)(?=[(,]|$)", gres):
        found[kind or "gpu"] = found.get(kind or "gpu", 0) + int(count)
    return {kind: count for kind, count in found.items() if count}


def _field(line: str, key: str) -> str:
    found = re.search(rf"(?:^|\s){key}=(.*?)(?=\s+[A-Za-z][\w:/.&-]*=|\s*$)", line)
    return _text(found[1]) if found else ""


def _text(value: str) -> str:
    return "" if value in _EMPTY else value


def _time(text: str) -> datetime | None:
    """Epoch seconds, or local time without a zone where Slurm does not know SLURM_TIME_FORMAT."""
    if text.isdecimal():
        return datetime.fromtimestamp(int(text), UTC) if int(text) else None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def _gres_of_tres(tres: str) -> str:
    typed = re.findall(r"gres/(gpu:[^=,]+)=(\d+)", tres)
    plain = re.findall(r"gres/(gpu)=(\d+)", tres)
    return ",".join(f"{kind}:{count}" for kind, count in typed or plain)


def _number(value: Any) -> int | None:
    if isinstance(value, dict):
        return value.get("number") if value.get("set") and not value.get("infinite") else None
    return value if isinstance(value, int) else None


def _json_exit_code(value: Any) -> str:
    """`code:signal`; Slurm 22 gives wait(2)'s status, newer ones its parts."""
    if isinstance(value, dict) and "return_code" in value:
        return f"{_number(value['return_code']) or 0}:{_number(value.get('signal', {}).get('id')) or 0}"
    status = _number(value)
    return "" if status is None else f"{status >> 8}:{status & 127}"
