"""Rebuilding the vector index, as a chosen kind and tuned on phrases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..core.errors import GroundingError
from ..models.encoder import Encoder
from ..storage.vectors.kinds import check_kind
from ..storage.vectors.metadata import DEFAULT_RECALL
from ..storage.vectors.sync import rebuild_vectors
from .tuning_phrases import phrase_source
from .write_session import write_session

__all__ = ["reindex"]


def reindex(
    directory: Path,
    load_encoder: Callable[[], Encoder],
    wanted: str = "auto",
    recall: float = DEFAULT_RECALL,
    progress: bool | None = None,
    timeout: float = 0.0,
) -> None:
    """Rebuild the vector index of an index.

    Parameters
    ----------
    directory : Path
        Folder of the index.
    load_encoder : callable
        Called if the kind has to be tuned.
    wanted : str
        ``"auto"``, ``"flat"``, ``"ivf"`` or ``"hnsw"``; later builds keep to it.
    recall : float
        Share of the exact candidate images that an approximate kind must find, above 0 and up to 1.
    progress : bool, optional
        Whether to show a progress bar; None shows it on a terminal.
    timeout : float
        Seconds to wait for a different writer.

    Raises
    ------
    GroundingError
        If there is no such kind, or `recall` is not between 0 and 1.
    """
    kind = check_kind(wanted)
    if not 0 < recall <= 1:
        raise GroundingError(f"the recall must be above 0 and at most 1, not {recall}")
    with write_session(directory, timeout, load_encoder) as catalog:
        rebuild_vectors(catalog, kind, recall, phrase_source(catalog, load_encoder), progress)
