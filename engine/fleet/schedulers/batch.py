"""The #SBATCH lines of a batch script, for the scheduler that runs without Slurm (sbatch(1))."""

import re
import shlex
from dataclasses import dataclass, field

from engine.errors import SubmitFailed
from engine.fleet.schedulers.parse import gpus_of

_SHORT = {"J": "job-name", "c": "cpus-per-task", "n": "ntasks", "N": "nodes", "t": "time", "o": "output", "D": "chdir",
          "p": "partition"}  # fmt: skip
_MEM_UNITS = {"K": 1 / 1024**2, "M": 1 / 1024, "G": 1.0, "T": 1024.0}


@dataclass(frozen=True)
class Request:
    """What a script asks for. `time_limit_s` 0 is without end; `signal` goes `signal_lead_s` before it.

    `output` holds Slurm's patterns (`%j`). Options that mean nothing on one machine (account …) are passed over.
    """

    name: str
    interpreter: tuple[str, ...]
    comment: str = ""
    partition: str = ""
    cpus: int = 1
    mem_gb: float = 0.0
    gpus: dict[str, int] = field(default_factory=dict)
    time_limit_s: int = 0
    output: str = "slurm-%j.out"
    append: bool = False
    signal: str = ""
    signal_lead_s: int = 60
    signal_shell_only: bool = False
    chdir: str = ""


def parse_script(text: str, name: str) -> Request:
    """Raises SubmitFailed, in sbatch's words where it has some, for what is no script or asks for the impossible."""
    first, *rest = text.splitlines() or [""]
    if not first.startswith("#!"):
        raise SubmitFailed(f"{name} does not look like a batch script: the first line must start with #!")
    options = _options(rest)
    if options.get("nodes", "1") not in ("1", "1-1"):
        raise SubmitFailed(f"{name} asks for {options['nodes']} nodes; the local scheduler has one: use Slurm")
    try:
        return _request(options, name, tuple(first[2:].split(None, 1)))
    except ValueError as error:
        raise SubmitFailed(f"{name}: {error}") from error


def fill(pattern: str, job_id: str, name: str, user: str) -> str:
    """An output pattern with %j, %A, %x, %u, %N and %% filled in."""
    values = {"j": job_id, "A": job_id, "x": name, "u": user, "N": "localhost", "%": "%"}
    return re.sub(r"%([%jAxuN])", lambda found: values[found[1]], pattern)


def seconds(time: str) -> int:
    """`90` (minutes), `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`; 0 for UNLIMITED."""
    if time.upper() in ("UNLIMITED", "INFINITE", "-1"):
        return 0
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", time):
        raise ValueError(f"invalid time limit {time!r}")
    days, _, clock = time.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days:
        hours, minutes, secs = (*parts, 0, 0)[:3]
    else:
        hours, minutes, secs = [(0, parts[0], 0), (0, *parts), tuple(parts)][len(parts) - 1]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + secs


def _request(options: dict[str, str], name: str, interpreter: tuple[str, ...]) -> Request:
    signal = re.fullmatch(r"(?:([BR]+):)?(?:SIG)?(\w+)(?:@(\d+))?", options.get("signal", "B:"))
    if "signal" in options and not signal:
        raise ValueError(f"invalid signal {options['signal']!r}")
    return Request(
        name=options.get("job-name", name),
        interpreter=interpreter,
        comment=options.get("comment", ""),
        partition=options.get("partition", ""),
        cpus=_count(options, "cpus-per-task") * _count(options, "ntasks"),
        mem_gb=_mem_gb(options.get("mem", "0")),
        gpus=_gpus(options),
        time_limit_s=seconds(options.get("time", "UNLIMITED")),
        output=options.get("output", "slurm-%j.out"),
        append=options.get("open-mode") == "append",
        signal=signal[2] if signal else "",
        signal_lead_s=int(signal[3] or 60) if signal else 60,
        signal_shell_only=bool(signal and "B" in (signal[1] or "")),
        chdir=options.get("chdir", ""),
    )


def _options(lines: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for line in lines:
        if line.startswith("#SBATCH"):
            options.update(_line(shlex.split(line[len("#SBATCH") :], comments=True)))
        elif line.strip() and not line.startswith("#"):
            break
    return options


def _line(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            key, equals, value = word[2:].partition("=")
        else:
            key, equals, value = _SHORT.get(word[1:2], word[1:2]), word[2:], word[2:].lstrip("=")
        if not equals and words and not words[0].startswith("-"):
            value = words.pop(0)
        found[key] = value
    return found


def _count(options: dict[str, str], key: str) -> int:
    value = options.get(key, "1")
    if not value.isdecimal() or int(value) < 1:
        raise ValueError(f"invalid --{key}={value}")
    return int(value)


def _mem_gb(text: str) -> float:
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", text.upper())
    if not found:
        raise ValueError(f"invalid --mem={text}")
    return int(found[1]) * _MEM_UNITS[found[2] or "M"]


def _gpus(options: dict[str, str]) -> dict[str, int]:
    for key in ("gpus-per-node", "gpus", "gpus-per-task"):
        if key in options:
            return gpus_of(",".join(f"gpu:{part}" for part in options[key].split(",")))
    gres = options.get("gres", "")
    return gpus_of(re.sub(r"\bgpu(:[^:,\d][^:,]*)?(?=,|$)", r"gpu\1:1", gres))
