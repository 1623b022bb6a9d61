"""A request to launch something, validated, and made into a Deployment with the catalogue's and the site's defaults."""

import re
from collections.abc import Collection
from dataclasses import fields, replace
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from engine.catalogue import Catalogue, Resources
from engine.errors import ConfigurationError, UnknownName
from engine.fleet.deployments import Deployment
from engine.fleet.schedulers.local import cpus_here
from engine.site import Placement, Site

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,60}[a-z0-9])?")
PATH = re.compile(r"/([a-z0-9][a-z0-9._-]*/)*")
TIME_LIMIT = r"^(\d+-)?\d{1,3}(:\d{2}){1,2}$|^\d+$|^\d+-\d{1,2}$"
RESERVED_PATHS = ("/v1/", "/api/", "/docs/", "/deployments/", "/health/", "/metrics/")

Text = Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$")]


def _time_limit(text: str) -> str:
    if not re.fullmatch(TIME_LIMIT, text):
        raise ValueError(f"{text!r} is no time limit; write HH:MM:SS or D-HH:MM:SS")
    return text


TimeLimit = Annotated[str, AfterValidator(_time_limit)]


class LaunchRequest(BaseModel):
    """Body of `POST /api/deployments`, arguments of `engine launch`. Either `model` or `command` (an app) is given.

    Whatever is left out comes from the catalogue row, then from site.toml. `arguments` go to the inference engine.
    A second launch with the same `name` and `request_id` launches nothing and answers as the first did.
    """

    model_config = ConfigDict(extra="forbid")

    model: Text = ""
    command: list[Text] = Field(default_factory=list, max_length=256)
    name: str = ""
    replicas: int = Field(default=1, ge=0, le=1000)
    max_replicas: int | None = Field(default=None, ge=1, le=1000)
    precision: Text = ""
    engine: Text = ""
    scheduler: str = ""
    arguments: dict[str, Text] = Field(default_factory=dict)
    environment: dict[str, Text] = Field(default_factory=dict)
    path: str = ""
    strip_path: bool = False
    drain_timeout_s: int | None = Field(default=None, ge=0, le=86400)
    request_id: str = Field(default="", max_length=64, pattern=r"^[A-Za-z0-9_-]*$")
    cpus: int | None = Field(default=None, ge=1, le=4096)
    mem_gb: float | None = Field(default=None, gt=0, le=65536)
    gpus: int | None = Field(default=None, ge=0, le=64)
    vram_gb: float | None = Field(default=None, ge=0, le=1024)
    gpu_type: Text | None = None
    nodes: int | None = Field(default=None, ge=1, le=256)
    time_limit: TimeLimit | None = None
    partition: Text | None = None
    account: Text | None = None
    qos: Text | None = None
    constraint: Text | None = None
    reservation: Text | None = None
    exclude: Text | None = None
    exclusive: bool | None = None
    container: Text | None = None
    image: Text | None = None
    directives: dict[str, Text] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_thing_is_launched(self) -> "LaunchRequest":
        if bool(self.model) == bool(self.command):
            raise ValueError("give either a model or a command")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}, below replicas {self.replicas}")
        return self


def compose(
    request: LaunchRequest,
    *,
    catalogue: Catalogue,
    site: Site,
    engines: Collection[str],
    schedulers: Collection[str],
    now: datetime,
) -> Deployment:
    """The Deployment that a request means; raises ConfigurationError, naming what is wrong and what would work."""
    scheduler = request.scheduler or next(iter(schedulers))
    if scheduler not in schedulers:
        raise UnknownName("scheduler", scheduler, schedulers)
    model = catalogue.find(request.model, request.precision) if request.model else None
    engine = request.engine or (model.engine if model else "app")
    if model and engine not in engines:
        raise UnknownName("inference engine", engine, engines)
    name = request.name or (model.id if model else "")
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"name {name!r}: a deployment's name has 1 to 62 of a-z 0-9 . _ - and begins and ends with one of a-z 0-9"
        )
    return Deployment(
        name=name,
        kind="model" if model else "app",
        engine=engine,
        scheduler=scheduler,
        resources=_resources(request, model.resources if model else Resources(), scheduler),
        created_at=now,
        model=model,
        command=tuple(request.command),
        path="" if model else _path(request.path or f"/{name}/"),
        strip_path=request.strip_path,
        replicas=request.replicas,
        max_replicas=request.max_replicas or max(1, request.replicas),
        arguments=dict(request.arguments),
        environment=dict(request.environment),
        placement=_placement(request, site.placement),
        request_id=request.request_id,
        drain_timeout_s=site.drain_timeout_s if request.drain_timeout_s is None else request.drain_timeout_s,
    )


def _resources(request: LaunchRequest, defaults: Resources, scheduler: str) -> Resources:
    """The catalogue's CPUs are meant for a cluster; one machine gives what it has, and the model is slower."""
    if scheduler == "local":
        defaults = replace(defaults, cpus=min(defaults.cpus, cpus_here()))
    return replace(defaults, **_given(request, Resources))


def _placement(request: LaunchRequest, defaults: Placement) -> Placement:
    given = _given(request, Placement)
    return replace(defaults, **{**given, "directives": {**defaults.directives, **request.directives}})


def _given(request: LaunchRequest, kind: type) -> dict[str, Any]:
    values = {field.name: getattr(request, field.name) for field in fields(kind)}
    return {name: value for name, value in values.items() if value is not None}


def _path(path: str) -> str:
    if not PATH.fullmatch(path):
        raise ConfigurationError(f"path {path!r}: an app's path looks like /name/ (a-z 0-9 . _ -)")
    if path.startswith(RESERVED_PATHS):
        raise ConfigurationError(f"path {path!r} belongs to the engine itself; taken: {', '.join(RESERVED_PATHS)}")
    return path
