"""The options of `launch` and `render`, one per field of LaunchRequest."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from engine.errors import ConfigurationError


def _options(
    words: Annotated[list[str] | None, typer.Argument(metavar="MODEL | -- COMMAND…")] = None,
    app: Annotated[str, typer.Option(help="Launch COMMAND as a web app of this name; it must listen on $PORT.")] = "",
    name: Annotated[str, typer.Option(help="Name of the deployment; the model's id by default.")] = "",
    replicas: Annotated[int, typer.Option(min=0, help="How many servers.")] = 1,
    arguments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An argument of the inference engine.")
    ] = None,
    environment: Annotated[
        list[str] | None, typer.Option("--env", metavar="KEY=VALUE", help="A variable of the server's environment.")
    ] = None,
    precision: Annotated[str, typer.Option(help="int8, fp8, bf16, … as the catalogue offers.")] = "",
    engine: Annotated[str, typer.Option(help="Another inference engine than the catalogue's.")] = "",
    scheduler: Annotated[str, typer.Option(help="slurm or local.")] = "",
    path: Annotated[str, typer.Option(help="An app's path at the one address; /NAME/ by default.")] = "",
    strip_path: Annotated[bool, typer.Option(help="Take the path off before the app sees it.")] = False,
    cpus: Annotated[int | None, typer.Option(min=1)] = None,
    mem_gb: Annotated[float | None, typer.Option()] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs per node.")] = None,
    gpu_type: Annotated[str | None, typer.Option()] = None,
    vram_gb: Annotated[float | None, typer.Option(help="Memory that each GPU must have.")] = None,
    nodes: Annotated[int | None, typer.Option(min=1)] = None,
    time_limit: Annotated[str | None, typer.Option(help="HH:MM:SS or D-HH:MM:SS.")] = None,
    partition: Annotated[str | None, typer.Option()] = None,
    account: Annotated[str | None, typer.Option()] = None,
    qos: Annotated[str | None, typer.Option()] = None,
    constraint: Annotated[str | None, typer.Option()] = None,
    reservation: Annotated[str | None, typer.Option()] = None,
    exclude: Annotated[str | None, typer.Option()] = None,
    exclusive: Annotated[bool | None, typer.Option()] = None,
    container: Annotated[str | None, typer.Option(help="none, apptainer, docker or pyxis.")] = None,
    image: Annotated[str | None, typer.Option(help="Container image.")] = None,
    directives: Annotated[
        list[str] | None, typer.Option("--sbatch", metavar="KEY=VALUE", help="A further #SBATCH option.")
    ] = None,
    drain_timeout_s: Annotated[int | None, typer.Option(min=0)] = None,
) -> None: ...


def with_launch_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of a launch; it receives them as the dict `wanted`, the fields of a LaunchRequest."""
    launch = inspect.signature(_options).parameters
    own = {key: value for key, value in inspect.signature(command).parameters.items() if key != "wanted"}

    def wrapped(**values: Any) -> None:
        given = {key: values.pop(key) for key in launch}
        command(wanted=_wanted(given), **values)

    parameters = [value.replace(kind=inspect.Parameter.KEYWORD_ONLY) for value in [*launch.values(), *own.values()]]
    # typer reads these; the function's own signature is only **values.
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    wrapped.__doc__, wrapped.__name__ = command.__doc__, command.__name__
    return wrapped


def _wanted(given: dict[str, Any]) -> dict[str, Any]:
    words, app = given.pop("words") or [], given.pop("app")
    wanted = {key: value for key, value in given.items() if value is not None and value != ""}
    for key in ("arguments", "environment", "directives"):
        wanted[key] = _pairs(given[key] or [])
    if app and not words:
        raise ConfigurationError(f"app {app!r} needs its command: --app {app} -- COMMAND…")
    if app:
        return {**wanted, "name": app, "command": words}
    if len(words) != 1:
        raise ConfigurationError("give one model's id (`engine models` lists them), or --app NAME -- COMMAND")
    return {**wanted, "model": words[0]}


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise ConfigurationError(f"{text!r} is not KEY=VALUE")
        pairs[key] = value
    return pairs
