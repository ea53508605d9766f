"""Verifying the thumbs of an index, and keeping those that can be read."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..core.errors import StoreError
from ..core.reports import Fault
from ..core.text import counted
from ..storage.catalog import Catalog
from ..storage.feedback_file import FEEDBACK_FILE, FeedbackFile
from ..storage.files import as_store_error

__all__ = ["check_feedback", "repair_feedback"]

_SHOWN = 3
_ASIDE = f"{FEEDBACK_FILE}.damaged"


def check_feedback(catalog: Catalog) -> Iterator[Fault]:
    """Check every line; half a line at the end, of a killed process, is no fault."""
    try:
        log = FeedbackFile(catalog.directory).read()
    except StoreError as error:
        yield Fault(FEEDBACK_FILE, "damaged", str(error), f"moved aside, as {_ASIDE}")
        return
    if log.unusable:
        shown = "; ".join(f"line {number}: {problem}" for number, problem in log.damaged[:_SHOWN])
        more = "; …" if log.unusable > _SHOWN else ""
        detail = f"{counted(log.unusable, 'line')} cannot be used ({shown}{more})"
        repair = f"the other lines are kept, and the file as it is as {_ASIDE}"
        yield Fault(FEEDBACK_FILE, "damaged", detail, repair)


def repair_feedback(catalog: Catalog) -> None:
    """Move a damaged file aside, and write the lines that can be used in its place."""
    file = FeedbackFile(catalog.directory)
    try:
        kept = file.intact_lines()
    except (StoreError, OSError):
        kept = []
    if os.path.lexists(file.path):
        with as_store_error(file.path):
            file.path.replace(file.path.with_name(_ASIDE))
    if kept:
        file.replace(kept)
