"""site.toml: what is particular to one cluster."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Placement:
    """Where on the cluster a deployment runs; an empty value leaves the directive out. `directives` are further #SBATCH options."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    exclude: str = ""
    exclusive: bool = False
    container: str = ""
    image: str = ""
    directives: dict[str, str] = field(default_factory=dict)
