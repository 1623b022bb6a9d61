"""The catalogue: ModelSpec and Resources, read from models.toml."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Resources:
    """What one replica asks for. `vram_gb` is per GPU; `gpus` is per node; `time_limit` is Slurm's D-HH:MM:SS or HH:MM:SS."""

    cpus: int = 1
    mem_gb: float = 1
    gpus: int = 0
    vram_gb: float = 0
    gpu_type: str = ""
    nodes: int = 1
    time_limit: str = "1-00:00:00"


@dataclass(frozen=True)
class ModelSpec:
    """A catalogue row, with its precision chosen.

    `source` is `hub:OWNER/NAME` (with `:QUANT` for GGUF), `file:PATH`, `package:MODULE/FILE` (a file inside an installed Python
    package) or `simulated:`. `arguments` are the inference engine's own, with `_` for `-`.
    """

    id: str
    engine: str
    source: str
    title: str = ""
    resources: Resources = field(default_factory=Resources)
    context: int = 0
    precision: str = ""
    parameters: float = 0
    vision: bool = False
    embeddings: bool = False
    languages: tuple[str, ...] = ()
    license: str = ""
    projector: str = ""
    toy: bool = False
    note: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
