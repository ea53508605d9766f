"""Where this library keeps what belongs to a user, and not to an index."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["services_folder", "user_folder"]


def user_folder() -> Path:
    """Return the folder of this library in the user's configuration; it may not exist."""
    folder = os.environ.get("RETRIEVAL_GROUNDING_CONFIG")
    if folder:
        return Path(folder)
    import platformdirs

    return platformdirs.user_config_path("retrieval_grounding")


def services_folder() -> Path:
    """Return the folder in which running services say where they are."""
    return user_folder() / "services"
