"""What ``rg.Index`` is: an open index, to query, train, evaluate and maintain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from .core.errors import GroundingError
from .core.hits import Hit
from .core.phrases import clean_phrase
from .core.reports import BuildReport, SkippedFile
from .core.text import counted
from .core.types import PathLike
from .data.expressions import read_expressions
from .indexing.describe import describe_index
from .indexing.maintenance import Maintenance
from .indexing.model_spec import encoder_fingerprint
from .matching.embed import embed_phrases
from .matching.matcher import Matcher
from .models.encoder import Encoder
from .search.opened import OpenedIndex
from .search.rank import filter_by_probability
from .search.unknown import discount_unknown
from .storage.catalog import Catalog
from .storage.lock import writer_lock
from .storage.rows import ImageRow

if TYPE_CHECKING:
    from .evaluation.report import EvaluationReport
    from .matching.fit import Fit
    from .matching.options import TrainingOptions
    from .matching.sources import Sources

__all__ = ["Index"]


class Index(Maintenance):
    """An index over a collection of images, open for queries.

    Returned by :func:`build` and :meth:`open`; threads and forked processes may share it, and it
    sees what writers commit. It closes with :meth:`close` or a ``with`` block. Pickling it pickles
    its path, so it is opened again where it is loaded; one that uses an encoder object refuses.
    Methods that write take a `timeout`: the seconds to wait while a different writer is at work.

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
    directory : Path
        Absolute, so changing the current folder later does not matter.
    build_report : BuildReport or None
        What :func:`build` did, if it returned this object.
    """

    def __init__(
        self, directory: PathLike, *, encoder: str | Encoder | None = None, device: str = "auto"
    ) -> None:
        self.build_report: BuildReport | None = None
        self._device = device
        self._opened = OpenedIndex(Path(directory), encoder, device)
        self.directory = self._opened.directory

    @classmethod
    def open(
        cls, directory: PathLike, *, encoder: str | Encoder | None = None, device: str = "auto"
    ) -> Index:
        """Open an index; see the class for parameters and errors."""
        return cls(directory, encoder=encoder, device=device)

    @property
    def encoder(self) -> Encoder:
        """The encoder that built the index; loaded on first use."""
        return self._opened.encoder

    @property
    def matcher(self) -> Matcher:
        """What scores regions: the matcher in use; see :meth:`matchers`."""
        return self._opened.matcher

    def _resolve_matcher(self, matcher: Matcher | str | None) -> Matcher:
        if isinstance(matcher, str):
            return self._opened.named_matcher(matcher)
        return self.matcher if matcher is None else matcher

    @property
    def _catalog(self) -> Catalog:
        return self._opened.catalog

    def _close_deleted_shards(self) -> None:
        self._opened.close_deleted_shards()

    def close(self) -> None:
        """Close all files. Any later call except this one raises :class:`StoreError`."""
        self._opened.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._opened.has_encoder_object:
            raise GroundingError(
                f"the index {self.directory} uses an encoder object, so it cannot be pickled; "
                "pass its path and open it in the other process"
            )
        return _reopen, (self.directory, self._opened.encoder_name, self._device)

    @overload
    def query(
        self,
        phrases: str,
        top: int = ...,
        candidates: int = ...,
        min_probability: float = ...,
        matcher: Matcher | str | None = ...,
        exact: bool = ...,
        skip_missing: bool = ...,
    ) -> list[Hit]: ...

    @overload
    def query(
        self,
        phrases: list[str] | tuple[str, ...],
        top: int = ...,
        candidates: int = ...,
        min_probability: float = ...,
        matcher: Matcher | str | None = ...,
        exact: bool = ...,
        skip_missing: bool = ...,
    ) -> list[list[Hit]]: ...

    def query(
        self,
        phrases: str | list[str] | tuple[str, ...],
        top: int = 10,
        candidates: int = 100,
        min_probability: float = 0.0,
        matcher: Matcher | str | None = None,
        exact: bool = False,
        skip_missing: bool = False,
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
        matcher : str or Matcher, optional
            Scores regions instead of the one in use: a name from :meth:`matchers`, such as
            ``"cosine"``, or an object of your own.
        exact : bool
            Compare the phrase with every region to choose candidates. Slower; hits do not depend
            on the kind of vector index.
        skip_missing : bool
            Leave out images whose files no longer exist.

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
        queries = embed_phrases(self.encoder, texts)
        search = self._opened.retriever.search
        found = search(
            queries, self._resolve_matcher(matcher), top, candidates, exact, skip_missing
        )
        found = discount_unknown(self.encoder, texts, found)
        found = [filter_by_probability(hits, min_probability) for hits in found]
        return found[0] if isinstance(phrases, str) else found

    def evaluate(
        self,
        source: PathLike,
        *,
        splits: Sequence[str] | None = None,
        matchers: Mapping[str, Matcher] | Sequence[str] | None = None,
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
        matchers : mapping of str to Matcher, or sequence of str, optional
            What to compare, by the names to show; or names from :meth:`matchers`, which are
            compared with ``"cosine"`` and ``"cosine+label"``. If left out, the matcher in use is
            compared with these two, with the index's own concat matchers, and, if it is a network,
            with its blend with ``"cosine+label"``.
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
        blend = None
        if not isinstance(matchers, Mapping):
            matchers, blend = self._opened.rows_to_compare(matchers)
        return evaluate(
            self._catalog,
            self.encoder,
            matchers,
            expressions,
            references=references,
            gallery=gallery,
            blend=blend,
        )

    def train(
        self,
        source: Sources,
        *,
        kind: Literal["residual", "concat"] = "residual",
        any_encoder: bool = False,
        placed: bool = False,
        name: str | None = None,
        splits: Sequence[str] | None = None,
        first_sentence_only: bool = False,
        one_object_per_image: bool = False,
        from_scratch: bool = False,
        options: TrainingOptions | None = None,
        timeout: float = 0.0,
    ) -> Fit:
        """Train a matcher on cached features and store it in the index, without reading images.

        Training starts from the matcher in use if it is of the same kind. A killed training resumes
        when it is started again with the same arguments.

        Parameters
        ----------
        source : path, sequence of paths, or mapping of path to float
            Files of expressions, as for :func:`read_expressions`, with their weights: an expression
            with the weight 0.5 is met in every second epoch. The source ``"pseudo"`` makes phrases
            from the index itself: from labels, colors and places.
        kind : str
            ``"residual"``, or ``"concat"`` for the classic MLP.
        any_encoder : bool
            Let the network see only how similar embeddings are. It then serves indexes of every
            encoder.
        placed : bool
            Learn from the boxes as well where things are: "man in red on the left". For files that
            describe nearly everything in an image, since "the left one" must not mean anything that
            nobody described.
        name : str, optional
            What to call the matcher; ``"trained"``, ``"trained-2"`` and so on if left out. A
            matcher with a name of your own is kept even if it is not used.
        splits, first_sentence_only, one_object_per_image
            As for :func:`read_expressions`.
        from_scratch : bool
            Start with an untrained network.
        options : TrainingOptions, optional
            Epochs, batch size, learning rate, seed.

        Returns
        -------
        Fit
            The matcher and its learning curve, which the index holds as well. If ``installed`` is
            true, the index uses the matcher. It is false if training diverged, or if the matcher
            loses to the one in use or to a simpler one on held-out images; then ``reason`` says so
            and the index uses what it has used before.

        Raises
        ------
        GroundingError
            If the expressions are bad or too few, or the name is taken.
        """
        from .matching.train_index import train_index

        with writer_lock(self._catalog.directory, timeout) as lock:
            fit = train_index(
                self._catalog,
                self.encoder,
                source,
                kind=kind,
                any_encoder=any_encoder,
                placed=placed,
                name=name,
                options=options,
                device=self._opened.device,
                splits=splits,
                first_sentence_only=first_sentence_only,
                one_object_per_image=one_object_per_image,
                from_scratch=from_scratch,
                load_current=lambda: self.matcher,
                before_saving=lock.check,
            )
            if fit.installed:
                self._opened.use_matcher(fit.stored.prepared())
        return fit

    def images(self) -> Iterable[ImageRow]:
        """Yield every image of the index, by path."""
        return self._catalog.images()

    def skipped(self) -> list[SkippedFile]:
        """Return the files that could not be indexed, and why."""
        return self._catalog.skipped()

    def info(self) -> dict[str, Any]:
        """Return what the index holds, what built it and what runs where, as plain values."""
        catalog, opened, snapshot = self._catalog, self._opened, self._opened.retriever.snapshot()
        facts = snapshot.describe()
        return describe_index(catalog, self.matcher, opened.device, facts, snapshot.device)

    def __repr__(self) -> str:
        if self._opened.closed:
            return f"<Index {str(self.directory)!r}: closed>"
        counts = self._catalog.counts()
        held = f"{counted(counts['images'], 'image')}, {counted(counts['regions'], 'region')}"
        name = self._catalog.setting("clip") or encoder_fingerprint(self._catalog).name
        return f"<Index {str(self.directory)!r}: {held}, encoder {name}>"

    def __len__(self) -> int:
        """Return the number of images."""
        return self._catalog.counts()["images"]


def _reopen(directory: Path, encoder: str | None, device: str) -> Index:
    return Index(directory, encoder=encoder, device=device)
