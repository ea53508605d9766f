"""The facade of an index: open, query, train, evaluate, look after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from .core.errors import GroundingError, ModelError
from .core.hits import Hit
from .core.phrases import Phrases, clean_phrase
from .core.reports import BuildOptions, BuildReport, CompactReport, SkippedFile, VerifyReport
from .core.text import counted
from .core.types import PathLike
from .data.sources import as_list
from .indexing.compact import choose_shards, rewrite_shards
from .indexing.describe import describe_vectors
from .indexing.model_spec import check_encoder, checked_loader, encoder_of, existing_models
from .indexing.reindex import reindex
from .indexing.remove import matching_images, remove_images
from .indexing.repair import repair_index
from .indexing.verify import verify_index
from .indexing.write_session import writing
from .matching.calibration import Calibration
from .matching.load import load_matcher
from .matching.matcher import CosineMatcher, Matcher
from .models.clip import load_encoder
from .models.detector import Detector
from .models.device import resolve_device
from .models.encoder import Encoder
from .search.rank import filter_by_probability
from .search.retriever import Retriever
from .storage.catalog import Catalog
from .storage.files import folder_size
from .storage.lock import writer_lock
from .storage.rows import ImageRow
from .storage.vectors.gpu import search_place
from .storage.vectors.metadata import DEFAULT_RECALL

if TYPE_CHECKING:
    from .evaluation.report import EvaluationReport
    from .matching.fit import Fit
    from .matching.train_state import TrainingOptions

__all__ = ["Index"]


class Index:
    """An index over a collection of images, opened for reading.

    Made by :func:`build` or :meth:`open`.

    Parameters
    ----------
    directory : path
        Where the index lies.
    encoder : Encoder, optional
        Takes the place of the encoder that the index names; needed if it was built with an
        encoder object instead of a name.
    device : str
        Where the models run: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises
    ------
    StoreError
        If there is no index, it is damaged, or of a newer format.
    ModelError
        If `encoder` is not the one that built the index.

    Attributes
    ----------
    build_report : BuildReport or None
        What :func:`build` did, if it made this object.
    """

    def __init__(
        self, directory: PathLike, *, encoder: Encoder | None = None, device: str = "auto"
    ) -> None:
        self.directory = Path(directory)
        self.build_report: BuildReport | None = None
        self._catalog = Catalog(self.directory)
        self._device = device
        if encoder is not None:
            check_encoder(self._catalog, encoder)
            self.__dict__["encoder"] = encoder

    @classmethod
    def open(
        cls, directory: PathLike, *, encoder: Encoder | None = None, device: str = "auto"
    ) -> Index:
        """Open the index in `directory`; see the class for parameters and errors."""
        return cls(directory, encoder=encoder, device=device)

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that built the index; loaded when first needed."""
        spec = self._catalog.setting("clip")
        if not isinstance(spec, str):
            raise ModelError(
                f"{self.directory} was built with an encoder object; "
                "pass the same one: Index.open(..., encoder=...)"
            )
        encoder = load_encoder(spec, self._device)
        check_encoder(self._catalog, encoder)
        return encoder

    @cached_property
    def matcher(self) -> Matcher:
        """What ranks regions: the index's trained matcher, the bundled one, or else cosine."""
        calibration = self._catalog.setting("cosine_calibration")
        return load_matcher(
            self.directory,
            encoder_of(self._catalog),
            resolve_device(self._device),
            Calibration(**calibration) if calibration else None,
        )

    @cached_property
    def _retriever(self) -> Retriever:
        return Retriever(self._catalog, resolve_device(self._device))

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
        """Find the regions that phrases refer to, at most one in each image.

        Parameters
        ----------
        phrases : str, or list or tuple of str
            What to find; several are answered in one pass.
        top : int
            Hits wanted for each phrase.
        candidates : int
            Images that the vector index proposes for each phrase; all regions of each are scored.
        min_probability : float
            Leave out hits that are less probable, 0 to 1; nothing may be left, which is an answer.
        matcher : Matcher, optional
            Takes the place of the index's own, `CosineMatcher` for example.
        exact : bool
            Choose the candidates by comparing every region, whatever the kind of the vector
            index: slower, and every kind gives the same hits.

        Returns
        -------
        list of Hit, or a list of such lists
            Best first; one list for each phrase of a sequence, so none for an empty sequence.

        Raises
        ------
        PhraseError
            If a phrase is empty or not text.
        """
        if top < 1 or candidates < 1:
            raise GroundingError("top and candidates must be at least 1")
        asked = [phrases] if isinstance(phrases, str) else list(phrases)
        cleaned = [clean_phrase(phrase) for phrase in asked]
        if not cleaned:
            return []
        wanted = Phrases(cleaned, self.encoder.encode_phrases(cleaned))
        found = self._retriever.search(wanted, matcher or self.matcher, top, candidates, exact)
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
        """Measure how well expressions with known boxes are grounded; no image file is read.

        Parameters
        ----------
        source : path
            A file of expressions, or a folder of the REFER layout; see
            :func:`retrieval_grounding.data.expressions.read_expressions`, also for `splits`,
            `first_sentence_only` and `one_object_per_image`.
        matchers : mapping of str to Matcher, optional
            What to compare, by name; cosine and the index's own if left out.
        references : iterable of paths
            Files of others' predictions to put in the same table.
        gallery : int
            At most so many phrases are searched in all images; 0 leaves BoxRecall out.

        Returns
        -------
        EvaluationReport

        Raises
        ------
        ExpressionError
            If a file cannot be used, or no expression is about an image of the index.
        """
        from .data.expressions import read_expressions
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
        """Train a matcher on cached features and keep it with the index; no image file is read.

        A killed training goes on when it is started again with the same arguments.

        Parameters
        ----------
        source : path or "pseudo"
            A file of expressions, or a folder of the REFER layout; see
            :func:`retrieval_grounding.data.expressions.read_expressions`, also for `splits`,
            `first_sentence_only` and `one_object_per_image`. ``"pseudo"`` makes phrases from the
            index itself: labels, colors, places.
        kind : str
            ``"residual"``, or ``"concat"`` for the classic MLP.
        fine_tune : bool
            Begin with the matcher in use, of whatever kind, instead of from nothing: for a few
            hundred expressions.
        options : TrainingOptions, optional
            Epochs, batch size, learning rate, seed.

        Returns
        -------
        Fit
            The matcher, already in use by this object, and its learning curve, which also lies in
            the index as ``matcher-curve.csv`` and ``.png``.

        Raises
        ------
        ExpressionError
            If the expressions cannot be used.
        GroundingError
            If there are too few, or nothing trained to fine-tune.
        """
        from .matching.fit import train_index
        from .matching.trained import TrainedMatcher

        start = self.matcher if fine_tune else None
        if start is not None and not isinstance(start, TrainedMatcher):
            raise GroundingError(
                "the index answers by cosine, so there is no matcher to fine-tune; train one first"
            )

        with writer_lock(self.directory):
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
                start=start,
            )
        self.__dict__["matcher"] = fit.matcher
        return fit

    def images(self) -> Iterable[ImageRow]:
        """Yield every image of the index, by path."""
        return self._catalog.images()

    def skipped(self) -> list[SkippedFile]:
        """Return the files that could not be indexed, and why."""
        return self._catalog.skipped()

    def remove(self, paths: PathLike | Iterable[PathLike] = (), glob: str | None = None) -> int:
        """Forget images; the next build of a folder that still has them adds them again.

        Parameters
        ----------
        paths : path or iterable of paths
            Images, or folders with all that is below them.
        glob : str, optional
            A pattern for absolute paths, in which ``*`` matches everything, ``/`` too.

        Returns
        -------
        int
            Number of images that were removed.

        Raises
        ------
        StoreError
            If a path or the pattern names no image of the index.
        """
        named = as_list(paths)
        with writing(self.directory) as catalog:
            chosen = matching_images(catalog, named, glob)
            remove_images(catalog, chosen)
        return len(chosen)

    def compact(self, max_unused: float = 0.2, shard_images: int = 512) -> CompactReport:
        """Rewrite shards that are partly unused, and put small ones together.

        Parameters
        ----------
        max_unused : float
            Share of a shard's regions that may be unused, left by changed and removed images.
        shard_images : int
            Images in a new shard.
        """
        with writing(self.directory) as catalog:
            numbers = choose_shards(catalog, max_unused, shard_images)
            return rewrite_shards(catalog, numbers, shard_images)

    def reindex(
        self,
        vectors: Literal["auto", "flat", "ivf", "hnsw"] = "auto",
        recall: float = DEFAULT_RECALL,
        *,
        progress: bool | None = None,
    ) -> dict[str, Any]:
        """Make the vector index anew from the shards; no image is read.

        Needed where :meth:`info` says so, or to choose the kind. Queries go on with the old one
        until the new one is complete.

        Parameters
        ----------
        vectors : str
            ``"flat"`` compares every region; ``"ivf"`` looks at parts of a compressed copy and
            re-scores what it finds; ``"hnsw"`` walks a graph that it holds in memory. ``"auto"``
            takes the first for small indexes and the second for large ones. Later builds keep to
            what was chosen.
        recall : float
            Share of the candidate images of an exact search that an approximate kind shall find;
            it is measured with phrases about these images.
        progress : bool, optional
            Show a bar; None shows it on a terminal.

        Returns
        -------
        dict
            What :meth:`info` says of the vector index.

        Raises
        ------
        GroundingError
            If there is no such kind, or `recall` is none.
        StoreError
            If another process is writing to the index, or a shard is damaged.
        """
        with writing(self.directory) as catalog:
            reindex(catalog, lambda: self.encoder, vectors, recall, progress)
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
            Put right what is wrong: what is intact is kept, damaged images are embedded again.
        detector, clip : optional
            Model objects; needed for a repair if the index was built with objects.
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
        with writing(self.directory) as catalog:
            report = verify_index(catalog, options.progress)
            wanted = existing_models(catalog, None, detector, clip, None)
            repair_index(catalog, report, checked_loader(catalog, wanted, self._device), options)
        left = verify_index(self._catalog, options.progress)
        report.repaired, report.faults = report.faults, left.faults
        return report

    def info(self) -> dict[str, Any]:
        """Return what the index holds and which models built it, as plain values."""
        keys = ("format_version", "preset", "detector", "clip", "dimension", "created_with")
        settings = {key: self._catalog.setting(key) for key in keys}
        return {
            "directory": str(self.directory),
            **settings,
            "detector_fingerprint": self._catalog.setting("detector_fingerprint"),
            "encoder_fingerprint": str(encoder_of(self._catalog)),
            **self._catalog.counts(),
            "vectors": describe_vectors(self._catalog),
            "matcher": self.matcher.name,
            "runs": self._runs(),
            "bytes": folder_size(self.directory),
        }

    def _runs(self) -> str:
        """Say what runs where."""
        device = resolve_device(self._device)
        matcher = device if hasattr(self.matcher, "device") else "cpu"
        where = search_place(device)
        return f"vector search on {where}, matcher on {matcher}, encoder on {device}"

    def __repr__(self) -> str:
        counts = self._catalog.counts()
        held = f"{counted(counts['images'], 'image')}, {counted(counts['regions'], 'region')}"
        name = self._catalog.setting("clip") or encoder_of(self._catalog).name
        return f"<Index {str(self.directory)!r}: {held}, encoder {name}>"

    def __len__(self) -> int:
        """Return the number of images."""
        return self._catalog.counts()["images"]
