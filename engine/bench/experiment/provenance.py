"""On what a sweep was measured: everything that somebody who wants the same numbers would have to know."""

import hashlib
import os
import platform
import socket
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import psutil

from engine import capacity
from engine.bench.experiment.aim import Aim
from engine.bench.experiment.gauges import page
from engine.bench.load.prompts import Prompts
from engine.bench.saturation import Startup, Subject
from engine.experiments import Options
from engine.fleet import hosts
from engine.fleet.deployments import Deployment, folder
from engine.site import Site

PACKAGES = ("numpy", "scipy", "uvloop", "httptools", "msgspec")
EXEMPTION = {
    "gateway": "the requests are an admin's and carry X-Engine-Experiment: neither admission nor a bypass shapes them",
    "nginx": "the load goes through NGINX past the gateway: no admission is on its way",
    "replica": "the load goes straight to the replica: neither the gateway nor NGINX is on its way",
}


def of_run(options: Options, argv: Sequence[str]) -> dict[str, Any]:
    """What is the same for all deployments of an experiment."""
    return {
        "command": list(argv),
        "options": msgspec.to_builtins(options),
        "host": socket.gethostname(),
        "cpus": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "target": options.target,
        "admission_exempt": True,
        "admission": EXEMPTION[options.target],
        "load": "closed loop: each user sends its next request when the last was answered",
        "load_average": list(os.getloadavg()),
        "deployments": {},
    }


async def of_deployment(aim: Aim, home: Path, site: Site, templates: Path, prompts: Prompts) -> dict[str, Any]:
    """What is this deployment's own."""
    deployment, model = aim.status.deployment, aim.status.deployment.model
    setup = capacity.setup(deployment)
    return {
        "model": model.id if model else None,
        "source": model.source if model else None,
        "engine": deployment.engine,
        "engine_version": await _engine_version(aim),
        "precision": setup.precision,
        "arguments": setup.arguments,
        "setup": setup.file_name.removesuffix(".json"),
        "template": _template(templates, deployment.engine),
        "gpus": _gpus(home, aim),
        "resources": msgspec.to_builtins(deployment.resources),
        "scheduler": deployment.scheduler,
        "container": container(deployment, site),
        "simulated": deployment.engine == "simulator",
        "replicas": [
            {"index": r.index, "job_id": r.job_id, "node": r.node, "endpoint": r.endpoint and r.endpoint.address}
            for r in aim.replicas
        ],
        "task": msgspec.to_builtins(prompts.task),
        "prompts": prompts.says,
    }


def subject(aim: Aim, home: Path, options: Options) -> Subject:
    deployment, model = aim.status.deployment, aim.status.deployment.model
    setup = capacity.setup(deployment)
    gpus = _gpus(home, aim)
    return Subject(
        deployment=deployment.name,
        model=model.id if model else "",
        engine=deployment.engine,
        arguments=setup.arguments,
        precision=setup.precision,
        parameters_b=(model.parameters or None) if model else None,
        gpu=next(iter(gpus), setup.gpu_type),
        gpus=setup.gpus * setup.nodes * len(aim.replicas),
        replicas=len(aim.replicas),
        target=options.target,
        simulated=deployment.engine == "simulator",
        time_scale=options.time_scale,
    )


def startup(aim: Aim, site: Site) -> Startup | None:
    """Of the first replica, as scheduler and sidecar took the times; queue wait is not loading."""
    replica = aim.replicas[0]
    if not (replica.timing and replica.submitted_at and replica.started_at):
        return None
    return Startup(
        queue_s=max(0.0, (replica.started_at - replica.submitted_at).total_seconds()),
        load_s=replica.timing.load_s,
        first_token_s=replica.timing.first_token_s,
        container=container(aim.status.deployment, site) != "none",
    )


def container(deployment: Deployment, site: Site) -> str:
    """The runtime that holds the server; `none` also for a packaged model, which no image holds."""
    engine = site.engines.get(deployment.engine)
    image = deployment.placement.image or (engine.image if engine else "")
    packaged = deployment.model is not None and deployment.model.source.startswith(("package:", "simulated:"))
    return (deployment.placement.container or site.placement.container or "none") if image and not packaged else "none"


def _template(templates: Path, engine: str) -> dict[str, str]:
    """Its name and the hash of it with the one that it extends."""
    files = [templates / "slurm" / name for name in ("base.slurm.j2", f"{engine}.slurm.j2")]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files if file.is_file())).hexdigest()
    return {"name": files[-1].name, "sha256": digest}


def _gpus(home: Path, aim: Aim) -> list[str]:
    """The names that the sidecars see, each once."""
    jobs = {replica.job_id for replica in aim.replicas}
    found = hosts.read(folder(home, aim.status.deployment.name).hosts)
    return sorted({gpu.name for file in found if file.job_id in jobs for gpu in file.gpus})


async def _engine_version(aim: Aim) -> str | None:
    """vLLM tells at /version, llama.cpp at /props."""
    for path, name in (("/version", "version"), ("/props", "build_info"), ("/info", "version")):
        text = await page(aim.replicas[0], path, aim.status.replica_key)
        try:
            told = msgspec.json.decode(text or "").get(name)
        except (msgspec.DecodeError, AttributeError):
            continue
        if told:
            return str(told)
    return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
