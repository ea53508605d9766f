"""The methods of an open index that change or check it, without reading images unless needed."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from ..core.reports import BuildOptions, CompactReport, VerifyReport
from ..core.types import PathLike
from ..data.sources import as_list
from ..matching.install import choose_matcher, remove_matcher
from ..matching.load import MatcherEntry, load_named_matcher, matcher_entries
from ..models.detector import Detector
from ..models.encoder import Encoder
from ..storage.catalog import Catalog
from ..storage.lock import writer_lock
from ..storage.vectors.metadata import DEFAULT_RECALL
from .compact import compact_index
from .describe import describe_vectors
from .model_spec import encoder_fingerprint
from .reindex import reindex
from .remove import remove_images
from .repair import repair_index
from .verify import verify_index

__all__ = ["Maintenance"]


class Maintenance(ABC):
    """Removing, compacting, reindexing, verifying, and choosing matchers; `Index` derives from it.

    All of them take a `timeout`: the seconds to wait while a different writer is at work. With 0
    they raise :class:`StoreLockedError` at once, and with ``math.inf`` they wait without a limit.
    """

    _device: str

    @property
    @abstractmethod
    def encoder(self) -> Encoder:
        """The encoder that built the index."""

    @property
    @abstractmethod
    def _catalog(self) -> Catalog: ...

    @abstractmethod
    def _close_deleted_shards(self) -> None: ...

    def remove(
        self,
        paths: PathLike | Iterable[PathLike] = (),
        glob: str | None = None,
        *,
        timeout: float = 0.0,
    ) -> int:
        """Remove images from the index; their files stay.

        Builds leave them out until one has the option `restore`, or names the file itself.

        Parameters
        ----------
        paths : path or iterable of paths
            Images, or folders with everything below them.
        glob : str, optional
            A pattern for absolute paths, in which ``*`` also matches ``/``.

        Returns
        -------
        int
            How many were removed.

        Raises
        ------
        StoreError
            If a path or the pattern matches no image of the index.
        """
        return remove_images(
            self._catalog.directory, lambda: self.encoder, as_list(paths), glob, timeout
        )

    def compact(
        self, max_unused: float = 0.2, shard_images: int = 512, *, timeout: float = 0.0
    ) -> CompactReport:
        """Rewrite shards that are partly unused, and merge small ones.

        Parameters
        ----------
        max_unused : float
            Share of a shard's regions that changed and removed images may leave unused.
        shard_images : int
            Images per new shard.
        """
        directory = self._catalog.directory
        report = compact_index(directory, lambda: self.encoder, max_unused, shard_images, timeout)
        self._close_deleted_shards()
        return report

    def reindex(
        self,
        vectors: Literal["auto", "flat", "ivf", "hnsw"] = "auto",
        recall: float = DEFAULT_RECALL,
        *,
        progress: bool | None = None,
        timeout: float = 0.0,
    ) -> dict[str, Any]:
        """Rebuild the vector index from the shards, without reading images.

        Queries use the old vector index until the new one is complete. :meth:`info` says when a
        rebuild is due.

        Parameters
        ----------
        vectors : str
            ``"flat"`` is exact; ``"ivf"`` has compressed inverted lists and re-scores; ``"hnsw"``
            is a graph in memory; ``"auto"`` is flat or, for many regions, ivf. Builds keep it.
        recall : float
            Share of an exact search's candidate images that an approximate kind must find.
        progress : bool, optional
            Whether to show a progress bar; None shows it on a terminal.

        Returns
        -------
        dict
            As under ``"vectors"`` in :meth:`info`.

        Raises
        ------
        GroundingError
            If `vectors` or `recall` is not valid, a shard is damaged, or another process writes.
        """
        directory = self._catalog.directory
        reindex(directory, lambda: self.encoder, vectors, recall, progress, timeout)
        return describe_vectors(self._catalog)

    def matchers(self) -> list[MatcherEntry]:
        """Return the matchers that queries can name: the index's own and those of every index.

        Each has a `name`, a `kind`, `in_use`, and `trained_on`.
        """
        return matcher_entries(self._catalog, encoder_fingerprint(self._catalog))

    def use_matcher(self, name: str, *, timeout: float = 0.0) -> None:
        """Use a matcher from now on, unless a query names a different one.

        Parameters
        ----------
        name : str
            One of :meth:`matchers`.

        Raises
        ------
        GroundingError
            If there is none of that name, or it cannot be used.
        """
        with self._writing(timeout) as catalog:
            load_named_matcher(catalog, name, encoder_fingerprint(catalog), "cpu")
            choose_matcher(catalog, name)

    def remove_matcher(self, name: str, *, timeout: float = 0.0) -> None:
        """Delete one of the index's own matchers.

        If it was in use, the index uses the bundled matcher or cosine, until another is chosen.

        Parameters
        ----------
        name : str
            One of :meth:`matchers`.

        Raises
        ------
        GroundingError
            If the index has no matcher of its own with that name.
        """
        with self._writing(timeout) as catalog:
            remove_matcher(catalog, name)

    @contextlib.contextmanager
    def _writing(self, timeout: float) -> Iterator[Catalog]:
        """Hold the writer's lock and yield a catalog to write."""
        directory = self._catalog.directory
        with (
            writer_lock(directory, timeout) as lock,
            contextlib.closing(Catalog(directory, writable=True, lock=lock)) as catalog,
        ):
            yield catalog

    def verify(
        self,
        *,
        repair: bool = False,
        detector: str | Detector | None = None,
        clip: str | Encoder | None = None,
        options: BuildOptions | None = None,
        timeout: float = 0.0,
    ) -> VerifyReport:
        """Check that catalog, shards and vector index are what was written, and agree.

        Parameters
        ----------
        repair : bool
            Keep what is intact, and embed damaged images again.
        detector, clip : optional
            For a repair: the models that built the index, where it cannot name them itself.
        options : BuildOptions, optional
            For embedding, and whether to show progress.

        Raises
        ------
        StoreError
            If the catalog itself cannot be read.
        """
        options = options or BuildOptions()
        report = verify_index(self._catalog, options.progress)
        if not repair or not report.faults:
            return report
        repaired = repair_index(
            self._catalog.directory, detector, clip, self._device, options, timeout
        )
        self._close_deleted_shards()
        return repaired
