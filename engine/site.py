"""site.toml: what is particular to one cluster. Every key stands, explained, in site.example.toml."""

import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter

from engine import tables
from engine.catalogue import Resources, time_limit_s
from engine.errors import ConfigurationError, UnknownName
from engine.settings import ROOT

Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")]
Word = Annotated[str, StringConstraints(pattern=r"^[\w.+-]*$")]
Option = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


def _bind(value: str) -> str:
    if not re.fullmatch(r"/[^\x00-\x1f\x7f:,]*(:/[^\x00-\x1f\x7f:,]*(:r[ow])?)?", value):
        raise ValueError("a bind is /PATH, /PATH:/INSIDE or /PATH:/INSIDE:ro, without commas")
    return value


def _time(value: str) -> str:
    try:
        if value:
            time_limit_s(value)
    except ConfigurationError as error:
        raise ValueError(str(error)) from error
    return value


Bind = Annotated[str, AfterValidator(_bind)]
MaxTime = Annotated[str, AfterValidator(_time)]
Container = Literal["", "none", "apptainer", "docker", "pyxis"]
STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Placement:
    """Where on the cluster a deployment runs; an empty value leaves the directive out.

    `directives` are further #SBATCH options, `container` is a runtime: none, apptainer, docker or pyxis.
    """

    __pydantic_config__ = STRICT

    partition: Word = ""
    account: Line = ""
    qos: Line = ""
    constraint: Line = ""
    reservation: Line = ""
    exclude: Line = ""
    exclusive: bool = False
    container: Container = ""
    image: Line = ""
    directives: dict[Option, Line] = field(default_factory=dict)


@dataclass(frozen=True)
class Partition:
    """A Slurm partition: the GPU types of its nodes and the longest time limit that it takes ("" is any)."""

    __pydantic_config__ = STRICT

    gpu_types: tuple[Word, ...] = ()
    max_time: MaxTime = ""


@dataclass(frozen=True)
class EngineSite:
    """How one inference engine is found on this cluster: an executable outside containers, an image inside."""

    __pydantic_config__ = STRICT

    program: Line = ""
    image: Line = ""
    modules: tuple[Line, ...] = ()
    environment: dict[Variable, Line] = field(default_factory=dict)


@dataclass(frozen=True)
class Site:
    """One cluster. `gpu_types` maps a GPU type to the VRAM of one in GB.

    `python` runs the sidecar on the nodes (3.6 and up is enough), `engine_python` the simulator and the packaged
    llama.cpp, with `engine_root` as the place of this repository.
    """

    __pydantic_config__ = STRICT

    placement: Placement = field(default_factory=Placement)
    partitions: dict[Word, Partition] = field(default_factory=dict)
    gpu_types: dict[Word, Annotated[float, Field(gt=0)]] = field(default_factory=dict)
    engines: dict[Word, EngineSite] = field(default_factory=dict)
    gres_style: Literal["gres", "gpus-per-node"] = "gres"
    gres_name: Word = "gpu"
    gpu_vendor: Literal["nvidia", "amd"] = "nvidia"
    container_command: Line = ""
    modules: tuple[Line, ...] = ()
    environment: dict[Variable, Line] = field(default_factory=dict)
    binds: tuple[Bind, ...] = ()
    hf_home: Line = ""
    hf_token_file: Line = ""
    offline: bool = False
    scratch: Line = ""
    python: Line = "python3"
    engine_python: Line = sys.executable
    engine_root: Line = str(ROOT)
    llama_server: Line = ""
    interface: Line = "auto"
    port_range: tuple[Annotated[int, Field(ge=1024, le=65535)], Annotated[int, Field(ge=1024, le=65535)]] | None = None
    drain_timeout_s: Annotated[int, Field(ge=0, le=86400)] = 300
    signal_lead_s: Annotated[int, Field(ge=0, le=65535)] = 420
    settle_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    lease_s: Annotated[float, Field(ge=10, le=3600)] = 30.0
    load_timeout_s: Annotated[int, Field(ge=1)] = 3600
    squeue_interval_s: Annotated[float, Field(ge=1)] = 15.0

    @classmethod
    def load(cls, path: Path | None) -> "Site":
        """The site that the file describes, or the defaults without one.

        Raises ConfigurationError: one line with the file and the key.
        """
        if path is None:
            return cls()
        site = tables.check(_SITE, tables.read(path), str(path))
        for name, partition in site.partitions.items():
            unknown = [one for one in partition.gpu_types if one not in site.gpu_types]
            if unknown:
                known = ", ".join(sorted(site.gpu_types)) or "none"
                raise ConfigurationError(
                    f"{path}: partitions.{name}.gpu_types names {unknown[0]!r}; [gpu_types] lists: {known}"
                )
        defaults = {name: getattr(cls, name) for name in ("python", "engine_python", "engine_root", "interface")}
        return replace(site, **{name: value for name, value in defaults.items() if not getattr(site, name)})

    def on_this_machine(self) -> "Site":
        """The same site as the local scheduler sees it: no partitions, no modules, loopback only, our own Python."""
        return replace(
            self,
            placement=Placement(),
            partitions={},
            gpu_types={},
            modules=(),
            gres_style="gres",
            python=sys.executable,
            engine_python=sys.executable,
            engine_root=str(ROOT),
            interface="127.0.0.1",
        )

    @property
    def directives(self) -> dict[str, str]:
        """Further #SBATCH options for every job of ours."""
        return self.placement.directives


_SITE = TypeAdapter(Site)


def choose_gpu(site: Site, resources: Resources, partition: str = "") -> str:
    """The gres type to ask for: the smallest whose VRAM suffices, of the partition's if that lists some; "" is any.

    Raises ConfigurationError when the site lists GPU types and none of them suffices.
    """
    if not resources.gpus or not site.gpu_types:
        return resources.gpu_type if resources.gpus else ""
    if resources.gpu_type and resources.gpu_type not in site.gpu_types:
        raise UnknownName("GPU type", resources.gpu_type, site.gpu_types)
    inside = site.partitions[partition].gpu_types if partition in site.partitions else ()
    offered = {name: vram for name, vram in site.gpu_types.items() if not inside or name in inside}
    if resources.gpu_type:
        offered = {name: vram for name, vram in offered.items() if name == resources.gpu_type}
    enough = sorted((vram, name) for name, vram in offered.items() if vram >= resources.vram_gb)
    if not enough:
        raise ConfigurationError(_no_gpu(site, resources, partition, offered))
    return enough[0][1]


def _no_gpu(site: Site, resources: Resources, partition: str, offered: dict[str, float]) -> str:
    where = f"partition {partition}" if partition in site.partitions else "site.toml"
    shown = offered or {name: site.gpu_types[name] for name in site.partitions[partition].gpu_types}
    listed = ", ".join(f"{name} ({vram:g} GB)" for name, vram in sorted(shown.items(), key=lambda one: one[1]))
    wanted = f"a {resources.gpu_type} with" if resources.gpu_type else "a GPU with"
    return f"needs {wanted} {resources.vram_gb:g} GB of VRAM; {where} has {listed}: ask for less, or for another type"


def choose_partition(site: Site, placement: Placement, resources: Resources) -> str:
    """The partition to ask for: the given one, else the first listed that has the GPUs and allows the time.

    "" is Slurm's default. Raises UnknownName for one that the site does not list, ConfigurationError for a misfit.
    """
    limit_s = time_limit_s(resources.time_limit)
    if not site.partitions:
        return placement.partition
    if placement.partition:
        if placement.partition not in site.partitions:
            raise UnknownName("partition", placement.partition, site.partitions)
        longest = site.partitions[placement.partition].max_time
        if longest and limit_s > time_limit_s(longest):
            raise ConfigurationError(
                f"time limit {resources.time_limit} is longer than partition {placement.partition} allows ({longest})"
            )
        return placement.partition
    if not resources.gpus:
        fitting = [name for name, one in site.partitions.items() if not one.gpu_types and _allows(one, limit_s)]
        return fitting[0] if fitting else ""
    choose_gpu(site, resources)
    for gpu_type in _suitable(site, resources):
        for name, one in site.partitions.items():
            if gpu_type in one.gpu_types and _allows(one, limit_s):
                return name
    return ""


def _suitable(site: Site, resources: Resources) -> list[str]:
    if resources.gpu_type:
        return [resources.gpu_type]
    return [name for vram, name in sorted((v, n) for n, v in site.gpu_types.items()) if vram >= resources.vram_gb]


def _allows(partition: Partition, limit_s: int) -> bool:
    return not partition.max_time or limit_s <= time_limit_s(partition.max_time)
