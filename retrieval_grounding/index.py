"""What ``rg.Index`` is: an open index, to query, train, evaluate and maintain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from .core.errors import GroundingError
from .core.hits import Hit
from .core.lazy import Lazy
from .core.phrases import Phrases, clean_phrase
from .core.reports import BuildOptions, BuildReport, CompactReport, SkippedFile, VerifyReport
from .core.text import counted
from .core.types import PathLike
from .data.expressions import read_expressions
from .data.sources import as_list
from .indexing.compact import compact_index
from .indexing.describe import describe_index, describe_vectors
from .indexing.model_spec import (
    check_encoder,
    encoder_fingerprint,
    load_index_encoder,
    load_index_matcher,
)
from .indexing.reindex import reindex
from .indexing.remove import remove_images
from .indexing.repair import repair_index
from .indexing.verify import verify_index
from .matching.matcher import CosineMatcher, Matcher
from .models.checks import encode_phrases
from .models.detector import Detector
from .models.device import resolve_device
from .models.encoder import Encoder
from .search.rank import filter_by_probability
from .search.retriever import Retriever
from .storage.catalog import Catalog
from .storage.lock import writer_lock
from .storage.rows import ImageRow
from .storage.vectors.metadata import DEFAULT_RECALL

if TYPE_CHECKING:
    from .evaluation.report import EvaluationReport
    from .matching.fit import Fit
    from .matching.options import TrainingOptions

__all__ = ["Index"]


class Index:
    """An index over a collection of images, open for queries.

    Returned by :func:`build` and :meth:`open`; threads may share it.

    Parameters
    ----------
    directory : path
        Folder of the index.
    encoder : str or Encoder, optional
        The encoder that built the index. Needed if that was an object, or weights of your own (a
        folder, a file, a hub repository) that you have never named for this index before.
    device : str
        Where the models run: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises
    ------
    StoreError
        If there is no index, it is damaged, or in a newer format.
    ModelError
        If `encoder` did not build the index.

    Attributes
    ----------
    build_report : BuildReport or None
        What :func:`build` did, if it returned this object.
    """

    def __init__(
        self, directory: PathLike, *, encoder: str | Encoder | None = None, device: str = "auto"
    ) -> None:
        self.directory = Path(directory)
        self.build_report: BuildReport | None = None
        self._catalog = Catalog(self.directory)
        self._device = device
        name = encoder if isinstance(encoder, str) else None
        self._encoder = Lazy(lambda: load_index_encoder(self._catalog, name, device))
        self._matcher = Lazy(lambda: load_index_matcher(self._catalog, resolve_device(device)))
        self._retriever = Lazy(lambda: Retriever(self._catalog, resolve_device(device)))
        if encoder is not None and not isinstance(encoder, str):
            check_encoder(self._catalog, encoder)
            self._encoder.set(encoder)

    @classmethod
    def open(
        cls, directory: PathLike, *, encoder: str | Encoder | None = None, device: str = "auto"
    ) -> Index:
        """Open an index; see the class for parameters and errors."""
        return cls(directory, encoder=encoder, device=device)

    @property
    def encoder(self) -> Encoder:
        """The encoder that built the index; loaded on first use."""
        return self._encoder.get()

    @property
    def matcher(self) -> Matcher:
        """What scores regions: the index's own matcher, else the bundled one, else cosine."""
        return self._matcher.get()

    @overload
    def query(
        self,
        phrases: str,
        top: int = ...,
        candidates: int = ...,
        min_probability: float = ...,
        matcher: Matcher | None = ...,
        exact: bool = ...,
    ) -> list[Hit]: ...

    @overload
    def query(
        self,
        phrases: list[str] | tuple[str, ...],
        top: int = ...,
        candidates: int = ...,
        min_probability: float = ...,
        matcher: Matcher | None = ...,
        exact: bool = ...,
    ) -> list[list[Hit]]: ...

    def query(
        self,
        phrases: str | list[str] | tuple[str, ...],
        top: int = 10,
        candidates: int = 100,
        min_probability: float = 0.0,
        matcher: Matcher | None = None,
        exact: bool = False,
    ) -> list[Hit] | list[list[Hit]]:
        """Find the regions that phrases refer to, at most one per image.

        Parameters
        ----------
        phrases : str, or list or tuple of str
            What to find; several phrases are answered in one pass.
        top : int
            Maximum number of hits per phrase.
        candidates : int
            Images per phrase that the vector index proposes; all their regions are scored.
        min_probability : float
            Drop hits with a lower probability, 0 to 1. If none is left, nothing matches.
        matcher : Matcher, optional
            Scores regions instead of the index's own, for example a `CosineMatcher`.
        exact : bool
            Compare the phrase with every region to choose candidates. Slower; hits do not depend
            on the kind of vector index.

        Returns
        -------
        list of Hit, or a list of such lists
            Best first; for a sequence of phrases, one list for each.

        Raises
        ------
        PhraseError
            If a phrase is empty or not text.
        """
        if top < 1 or candidates < 1:
            raise GroundingError("top and candidates must be at least 1")
        asked = [phrases] if isinstance(phrases, str) else phrases
        texts = [clean_phrase(phrase) for phrase in asked]
        if not texts:
            return []
        queries = Phrases(texts, encode_phrases(self.encoder, texts))
        search = self._retriever.get().search
        found = search(queries, matcher or self.matcher, top, candidates, exact)
        found = [filter_by_probability(hits, min_probability) for hits in found]
        return found[0] if isinstance(phrases, str) else found

    def evaluate(
        self,
        source: PathLike,
        *,
        splits: Sequence[str] | None = None,
        matchers: Mapping[str, Matcher] | None = None,
        references: Iterable[PathLike] = (),
        first_sentence_only: bool = False,
        one_object_per_image: bool = False,
        gallery: int = 1000,
    ) -> EvaluationReport:
        """Measure how well expressions with known boxes are grounded, without reading images.

        Parameters
        ----------
        source, splits, first_sentence_only, one_object_per_image
            Expressions, as for :func:`read_expressions`.
        matchers : mapping of str to Matcher, optional
            What to compare, by name; cosine and the index's own if left out.
        references : iterable of paths
            Files of other systems' predictions, for the same table.
        gallery : int
            Maximum number of phrases to search for in all images; 0 leaves BoxRecall out.

        Raises
        ------
        ExpressionError
            If a file cannot be used, or no expression is about an image of the index.
        """
        from .evaluation.evaluate import evaluate

        expressions = read_expressions(
            source,
            splits=splits,
            first_sentence_only=first_sentence_only,
            one_object_per_image=one_object_per_image,
        )
        if matchers is None:
            matchers = {"cosine": CosineMatcher(), self.matcher.name: self.matcher}
        return evaluate(
            self._catalog,
            self.encoder,
            matchers,
            expressions,
            references=references,
            gallery=gallery,
        )

    def train(
        self,
        source: PathLike | Literal["pseudo"],
        *,
        kind: Literal["residual", "concat"] = "residual",
        splits: Sequence[str] | None = None,
        first_sentence_only: bool = False,
        one_object_per_image: bool = False,
        fine_tune: bool = False,
        options: TrainingOptions | None = None,
    ) -> Fit:
        """Train a matcher on cached features and store it in the index, without reading images.

        A killed training resumes when it is started again with the same arguments.

        Parameters
        ----------
        source, splits, first_sentence_only, one_object_per_image
            Expressions, as for :func:`read_expressions`. The source ``"pseudo"`` makes phrases from
            the index itself: from labels, colors and places.
        kind : str
            ``"residual"``, or ``"concat"`` for the classic MLP.
        fine_tune : bool
            Start from the matcher in use, not from scratch; for a few hundred expressions.
        options : TrainingOptions, optional
            Epochs, batch size, learning rate, seed.

        Returns
        -------
        Fit
            The matcher, already in use by this object, and its learning curve, which the index also
            holds as ``matcher-curve.csv`` and ``.png``.

        Raises
        ------
        GroundingError
            If the expressions are bad or too few, or there is no trained matcher to fine-tune.
        """
        from .matching.train_index import train_index

        with writer_lock(self.directory) as lock:
            fit = train_index(
                self._catalog,
                self.encoder,
                source,
                kind=kind,
                options=options,
                device=resolve_device(self._device),
                splits=splits,
                first_sentence_only=first_sentence_only,
                one_object_per_image=one_object_per_image,
                start=self.matcher if fine_tune else None,
                before_saving=lock.check,
            )
        self._matcher.set(fit.matcher)
        return fit

    def images(self) -> Iterable[ImageRow]:
        """Yield every image of the index, by path."""
        return self._catalog.images()

    def skipped(self) -> list[SkippedFile]:
        """Return the files that could not be indexed, and why."""
        return self._catalog.skipped()

    def remove(self, paths: PathLike | Iterable[PathLike] = (), glob: str | None = None) -> int:
        """Remove images from the index; their files stay, and the next build adds them again.

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
        return remove_images(self.directory, as_list(paths), glob)

    def compact(self, max_unused: float = 0.2, shard_images: int = 512) -> CompactReport:
        """Rewrite shards that are partly unused, and merge small ones.

        Parameters
        ----------
        max_unused : float
            Share of a shard's regions that changed and removed images may leave unused.
        shard_images : int
            Images per new shard.
        """
        return compact_index(self.directory, max_unused, shard_images)

    def reindex(
        self,
        vectors: Literal["auto", "flat", "ivf", "hnsw"] = "auto",
        recall: float = DEFAULT_RECALL,
        *,
        progress: bool | None = None,
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
        reindex(self.directory, lambda: self.encoder, vectors, recall, progress)
        return describe_vectors(self._catalog)

    def verify(
        self,
        *,
        repair: bool = False,
        detector: Detector | None = None,
        clip: Encoder | None = None,
        options: BuildOptions | None = None,
    ) -> VerifyReport:
        """Check that catalog, shards and vector index are what was written, and agree.

        Parameters
        ----------
        repair : bool
            Keep what is intact, and embed damaged images again.
        detector, clip : optional
            For a repair: the model objects that built the index, if it was built with objects.
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
        return repair_index(self.directory, detector, clip, self._device, options)

    def info(self) -> dict[str, Any]:
        """Return what the index holds, what built it and what runs where, as plain values."""
        return describe_index(self._catalog, self.matcher, resolve_device(self._device))

    def __repr__(self) -> str:
        counts = self._catalog.counts()
        held = f"{counted(counts['images'], 'image')}, {counted(counts['regions'], 'region')}"
        name = self._catalog.setting("clip") or encoder_fingerprint(self._catalog).name
        return f"<Index {str(self.directory)!r}: {held}, encoder {name}>"

    def __len__(self) -> int:
        """Return the number of images."""
        return self._catalog.counts()["images"]
