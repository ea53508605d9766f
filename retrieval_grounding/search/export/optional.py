"""Libraries that are imported only by the export that needs them."""

from __future__ import annotations

import importlib
from typing import Any

from ...core.errors import GroundingError

__all__ = ["import_library"]


def import_library(name: str) -> Any:
    """Import a library that is not a dependency of the project.

    Raises
    ------
    GroundingError
        If it is not installed.

    Examples
    --------
    >>> import_library("no_such_library")
    Traceback (most recent call last):
    retrieval_grounding.core.errors.GroundingError: this needs no_such_library; install it with ...
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # something that the library itself needs
            raise
        raise GroundingError(f"this needs {name}; install it with 'pip install {name}'") from error
