"""The screens of the console, in the order of its menu: one module each, with a function `draw(feed)`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Screen:
    """`module` has the function `draw(feed: Feed)`; `path` stands in the address; users see those `for_users` alone."""

    title: str
    path: str
    module: str
    section: str = "Fleet"
    for_users: bool = False


SCREENS = (
    Screen("Overview", "overview", "apps.console.screens.overview", for_users=True),
    Screen("Launch", "launch", "apps.console.screens.launch"),
    Screen("Deployments", "deployments", "apps.console.screens.deployments"),
    Screen("Cluster", "cluster", "apps.console.screens.cluster"),
    Screen("Saturation", "saturation", "apps.console.screens.saturation", "Benchmarks"),
    Screen("Live benchmark", "live", "apps.console.screens.live", "Benchmarks"),
    Screen("Traffic", "traffic", "apps.console.screens.traffic", "Use"),
    Screen("Questions and feedback", "feedback", "apps.console.screens.feedback", "Use"),
    Screen("Index and crawl", "index", "apps.console.screens.index", "Use"),
    Screen("Keys and usage", "usage", "apps.console.screens.usage", "Administration", for_users=True),
)
