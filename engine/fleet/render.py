"""Renders the .slurm script of a replica from templates/slurm (pure: values in, text out).

What a person typed reaches a script only in two ways: as an #SBATCH option, where it must be harmless by its form, or
through the filter `sh`, which makes one shell word of it on one line. Facts of an engine live in its template.
"""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from engine.catalogue import SOURCE, time_limit_s
from engine.errors import ConfigurationError, UnknownName
from engine.fleet.deployments import Deployment, Folder
from engine.site import EngineSite, Placement, Site, choose_gpu, choose_partition

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,60}[a-z0-9])?", re.ASCII)
KEY = re.compile(r"[a-z][a-z0-9_-]*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
RUNTIMES = ("none", "apptainer", "docker", "pyxis")
# Ours to say: where the server listens, under which names and keys, and how its processes find each other.
# fmt: off
RESERVED = frozenset({
    "host", "hostname", "port", "uds", "api-key", "api-key-file", "admin-api-key", "api-prefix", "root-path", "config",
    "model", "model-id", "model-path", "model-url", "hf-repo", "mmproj", "served-model-name", "served-name", "alias",
    "nnodes", "node-rank", "headless", "master-addr", "master-port", "dist-init-addr", "nccl-port", "shard-uds-path",
    "distributed-executor-backend", "ctx-size",
})
OWN_DIRECTIVES = frozenset({
    "job-name", "comment", "output", "error", "open-mode", "requeue", "no-requeue", "signal", "time", "nodes", "ntasks",
    "ntasks-per-node", "cpus-per-task", "mem", "gres", "gpus", "gpus-per-node", "partition", "account", "qos",
    "constraint", "reservation", "exclude", "exclusive", "array", "wrap", "test-only", "parsable", "wait",
})
# fmt: on
OWN_VARIABLES = re.compile(
    r"CUDA_VISIBLE_DEVICES|ENGINE_(REPLICA_KEY|SCRATCH)|SLURM_.*|HOST|PORT|(VLLM_|LLAMA_)?API_KEY"
)


def engines(templates: Path) -> tuple[str, ...]:
    """The inference engines that there is a template for."""
    names = (path.name.removesuffix(".slurm.j2") for path in (templates / "slurm").glob("*.slurm.j2"))
    return tuple(sorted(set(names) - {"base", "app"}))


def job(
    deployment: Deployment, *, index: int, attempt: int, site: Site, folder: Folder, templates: Path, home_id: str
) -> str:
    """The script of one replica's job; raises ConfigurationError for a value that may not stand in one."""
    engine = "app" if deployment.kind == "app" else deployment.engine
    if engine not in (*engines(templates), "app"):
        raise UnknownName("inference engine", engine, engines(templates))
    _check_names(deployment, folder, home_id)
    template = _environment(templates).get_template(f"{engine}.slurm.j2")
    warned_s, here, source = lead_s(deployment, site), site.engines.get(engine, EngineSite()), _source(deployment)
    image = deployment.placement.image or here.image
    runtime = _runtime(deployment.placement.container or site.placement.container, image, source["package"])
    return template.render(
        d=deployment,
        r=deployment.resources,
        m=deployment.model,
        site=site,
        here=here,
        folder=folder,
        index=index,
        attempt=attempt,
        header=_header(deployment, index, attempt, site, folder, home_id, warned_s),
        lead_s=warned_s,
        image=image,
        modules=(*site.modules, *here.modules),
        runtime=runtime,
        arguments=_arguments(deployment),
        exports=_exports(deployment, site, here),
        binds=_binds(deployment, site) if runtime != "none" else [],
        files=[],
        **source,
    )


def _runtime(wanted: str, image: str, package: tuple[str, ...]) -> str:
    """What runs the server; `none` also without an image, and for a packaged model, which no image holds."""
    if wanted and wanted not in RUNTIMES:
        raise UnknownName("container runtime", wanted, RUNTIMES)
    return wanted if wanted and image and not package else "none"


def _environment(templates: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(templates / "slurm"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["sh"] = sh
    environment.globals.update(flags=flags, refuse=refuse)
    return environment


def sh(value: object) -> str:
    """One shell word, on one line: quoted, control characters as $'\\n'."""
    text = str(value)
    if "\0" in text:
        raise ConfigurationError(f"{text!r} holds a NUL, which no program can be given")
    if not CONTROL.search(text):
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + CONTROL.sub(lambda match: "".join(f"\\x{byte:02x}" for byte in match[0].encode()), escaped) + "'"


def refuse(message: str) -> None:
    """For templates: what this inference engine cannot do."""
    raise ConfigurationError(message)


def flags(arguments: Mapping[str, str], defaults: Mapping[str, Any]) -> list[list[str]]:
    """Command-line words, one list per flag: the defaults, overruled and followed by the arguments.

    `true` is the bare flag; `false`, None and "" leave it out.
    """
    shown = {key: str(value).lower() if isinstance(value, bool) else value for key, value in defaults.items()}
    merged = {**shown, **arguments}
    return [
        [f"--{key}"] if value == "true" else [f"--{key}", str(value)]
        for key, value in merged.items()
        if value not in ("false", None, "")
    ]


def _arguments(deployment: Deployment) -> dict[str, str]:
    given = {**(deployment.model.arguments if deployment.model else {}), **deployment.arguments}
    arguments = {}
    for key, value in given.items():
        flag = key.replace("_", "-")
        if not KEY.fullmatch(key):
            raise ConfigurationError(f"argument {key!r}: a key has a-z, 0-9, _ and - and begins with a letter")
        if flag in RESERVED:
            raise ConfigurationError(f"argument {key!r} is set by the engine itself and cannot be given")
        if CONTROL.search(value) or re.match(r"-(?![0-9.])", value):
            raise ConfigurationError(f"argument {key}={value!r}: it holds control characters, or a flag for a value")
        arguments[flag] = value
    return arguments


def _check_names(deployment: Deployment, folder: Folder, home_id: str) -> None:
    if not NAME.fullmatch(deployment.name):
        raise ConfigurationError(f"name {deployment.name!r}: a deployment's name has a-z 0-9 . _ - only")
    if not re.fullmatch(r"[\w-]+", home_id, re.ASCII):
        raise ConfigurationError(f"home id {home_id!r} has characters other than letters, digits, _ and -")
    if not folder.root.is_absolute():
        raise ConfigurationError(f"{folder.root} is not absolute, and a job starts in another directory")
    model = deployment.model
    if model and not (NAME.fullmatch(model.id) and SOURCE.fullmatch(model.source)):
        raise ConfigurationError(f"model {model.id!r}: its source {model.source!r} is none of hub:, file:, package:")
    if deployment.kind == "app" and not deployment.command:
        raise ConfigurationError(f"app {deployment.name} has no command")


def lead_s(deployment: Deployment, site: Site) -> int:
    """How long before its end the job is warned: enough to drain, at most half of its time."""
    wanted = max(site.signal_lead_s, deployment.drain_timeout_s + 60)
    return min(wanted, time_limit_s(deployment.resources.time_limit) // 2, 65535)


def _header(
    deployment: Deployment, index: int, attempt: int, site: Site, folder: Folder, home_id: str, warned_s: int
) -> list[str]:
    resources, placement = deployment.resources, deployment.placement
    partition = choose_partition(site, placement, resources)
    log = str(folder.logs).replace("%", "%%") + "/%j.out"
    options: dict[str, str] = {
        "job-name": f"{deployment.name}-{index}",
        "comment": f"engine:{home_id}:{deployment.name}:{index}:{attempt}",
        "output": log,
        "open-mode": "append",
        "no-requeue": "",
        "signal": f"B:USR1@{warned_s}",
        "time": resources.time_limit,
        "nodes": str(resources.nodes),
        "ntasks-per-node": "1",
        "cpus-per-task": str(resources.cpus),
        "mem": f"{max(1, round(resources.mem_gb * 1024))}M",
        **_gpus(deployment, site, partition),
        **_placed(placement, partition),
    }
    return [_directive(key, value) for key, value in options.items()]


def _gpus(deployment: Deployment, site: Site, partition: str) -> dict[str, str]:
    resources = deployment.resources
    gpu_type = choose_gpu(site, resources, partition)
    if not resources.gpus:
        return {}
    count = f"{gpu_type}:{resources.gpus}" if gpu_type else str(resources.gpus)
    return {"gres": f"{site.gres_name}:{count}"} if site.gres_style == "gres" else {"gpus-per-node": count}


def _placed(placement: Placement, partition: str) -> dict[str, str]:
    given = {key: getattr(placement, key) for key in ("account", "qos", "constraint", "reservation", "exclude")}
    options = {key: value for key, value in {"partition": partition, **given}.items() if value}
    if placement.exclusive:
        options["exclusive"] = ""
    for key, value in placement.directives.items():
        if not re.fullmatch(r"[a-z][a-z0-9-]*", key):
            raise ConfigurationError(f"directive {key!r}: an sbatch option is written without dashes, as in mail-type")
        if any(own.startswith(key) for own in OWN_DIRECTIVES):  # sbatch takes --arra for --array
            raise ConfigurationError(f"directive {key!r} is set by the engine itself; use its own setting")
        options[key] = value
    return options


def _directive(key: str, value: str) -> str:
    if CONTROL.search(value) or re.search(r"[\"'\\`$]", value):
        raise ConfigurationError(f"{key} {value!r}: an sbatch option has no quotes, $, \\ or control characters")
    if not value:
        return f"--{key}"
    return f'--{key}="{value}"' if re.search(r"[\s#]", value) else f"--{key}={value}"


def _exports(deployment: Deployment, site: Site, here: EngineSite) -> dict[str, str]:
    for name in deployment.environment:
        if not VARIABLE.fullmatch(name) or OWN_VARIABLES.fullmatch(name):
            raise ConfigurationError(f"environment variable {name!r} is no name, or is set by the engine or Slurm")
    return {**site.environment, **here.environment, **deployment.environment}


def _binds(deployment: Deployment, site: Site) -> list[str]:
    model = deployment.model
    own = [model.source.removeprefix("file:")] if model and model.source.startswith("file:") else []
    own += [model.projector] if model and model.projector else []
    for path in own:
        if re.search("[:,]", path):
            raise ConfigurationError(f"{path}: a path with : or , cannot be mounted into a container")
    return [*site.binds, *(f"{path}:{path}:ro" for path in own)]


def _source(deployment: Deployment) -> dict[str, Any]:
    """The model as servers are told it; `hub` and `quant` of one from the hub, `package`: module and file.

    A simulator needs nothing of the model that it stands for.
    """
    told = deployment.model.source if deployment.model and deployment.engine != "simulator" else ""
    kind, _, rest = told.partition(":")
    name, _, quant = rest.partition(":")
    hub = name if kind == "hub" else ""
    package = tuple(rest.split("/", 1)) if kind == "package" else ()
    return {"model": hub or rest, "hub": hub, "quant": quant if hub else "", "package": package}
