"""The settings of every command of rag."""

import os

from engine.settings import Settings, require_local_disk


def settings() -> Settings:
    """Raises ConfigurationError when ENGINE_LOCAL is no local disk."""
    found = Settings.from_env(os.environ)
    require_local_disk(found.local)
    return found
