"""The methods of an open index that change or check it, without reading images unless needed.

Each imports what it does, so that a query does not have to.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from ..core.reports import BuildOptions, BuildReport, CompactReport, VerifyReport
from ..core.types import PathLike
from ..models.detector import Detector
from ..models.encoder import Encoder
from ..storage.vectors.metadata import DEFAULT_RECALL
from .base import IndexBase
from .describe import describe_vectors

if TYPE_CHECKING:
    from ..data.decoder import Decoder
    from ..data.image_source import ImageSource

__all__ = ["Maintenance"]


class Maintenance(IndexBase):
    """Adding, removing, compacting, reindexing and verifying; `Index` derives from it.

    All of them take a `timeout`: the seconds to wait while a different writer is at work. With 0
    they raise :class:`StoreLockedError` at once, and with ``math.inf`` they wait without a limit.
    """

    _device: str

    @property
    @abstractmethod
    def _decoder(self) -> Decoder: ...

    @abstractmethod
    def _close_deleted_shards(self) -> None: ...

    def add(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        ids: Sequence[object] | None = None,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        detector: str | Detector | None = None,
        options: BuildOptions | None = None,
        timeout: float = 0.0,
    ) -> BuildReport:
        """Add images to the index, from wherever they are; an image of a known address is replaced.

        Meant for single images, as they arrive: :func:`build` reads folders with several processes.
        Small shards are merged, and queries find the images at once.

        Parameters
        ----------
        images : path, URL, bytes, file, PIL image or array, or a list or iterator of these
            As for :func:`load_image`. What has no path or URL gets the address ``content:HASH``,
            with the hash of its content.
        ids : sequence, optional
            One for each image: how you call it. It becomes text, and ``hit.id``.
        metadata : sequence of mappings, optional
            One for each image: values by column, to be asked for in :class:`Query` (`where`); they
            become ``hit.metadata``. Columns that are not named keep their values.
        detector : str or Detector, optional
            The detector that built the index. Needed if that was an object, or weights of your own
            that you have never named for this index before.
        options : BuildOptions, optional
            Images per batch and per shard.

        Returns
        -------
        BuildReport
            What was added, and which images could not be used: a failure of one is not an error.

        Raises
        ------
        ModelError
            If `detector` did not build the index.
        MetadataError
            If there is not one id or mapping for each image, or a value is of the wrong type; also
            if an id belongs to two images or the index has values of another type in a column,
            after the images were added.

        Examples
        --------
        >>> import tempfile
        >>> import retrieval_grounding as rg
        >>> from PIL import Image
        >>> nothing_yet = rg.BuildOptions(allow_empty=True)
        >>> index = rg.build([], tempfile.mkdtemp(), options=nothing_yet)
        >>> index.add(Image.new("RGB", (320, 240), "gray")).added
        1
        >>> index.query("a wall")[0].image[:8]
        'content:'
        """
        from .add import add_to_index  # queries decode nothing

        several = isinstance(images, (list, tuple, Iterator))
        return add_to_index(
            self._catalog.directory,
            cast("Iterable[ImageSource]", images if several else [images]),
            ids,
            metadata,
            detector,
            self.encoder,
            self._decoder,
            self._device,
            options or BuildOptions(),
            timeout,
        )

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
        from ..data.sources import as_list
        from .remove import remove_images

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
        from .compact import compact_index

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
        from .reindex import reindex

        directory = self._catalog.directory
        reindex(directory, lambda: self.encoder, vectors, recall, progress, timeout)
        return describe_vectors(self._catalog)

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
        from .verify import verify_index

        options = options or BuildOptions()
        report = verify_index(self._catalog, options.progress)
        if not repair or not report.faults:
            return report
        from .repair import repair_index

        repaired = repair_index(
            self._catalog.directory, detector, clip, self._device, options, timeout
        )
        self._close_deleted_shards()
        return repaired
