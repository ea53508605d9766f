"""What ``rg.Index`` is: an open index, to query, train, evaluate and maintain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from .core.errors import GroundingError
from .core.phrases import clean_phrase
from .core.query.value import Query
from .core.reports import BuildReport, SkippedFile
from .core.text import counted
from .core.types import PathLike
from .indexing.describe import describe_index
from .indexing.learning import Learning
from .indexing.maintenance import Maintenance
from .indexing.model_spec import encoder_fingerprint
from .matching.matcher import Matcher
from .models.encoder import Encoder
from .search.answer import AnswerOptions, answer_all
from .search.hits import Hits
from .search.opened import OpenedIndex
from .storage.catalog import Catalog
from .storage.feedback_file import FeedbackFile
from .storage.rows import ImageRow

if TYPE_CHECKING:
    from PIL import Image

    from .core.hits import Hit
    from .data.decoder import Decoder
    from .evaluation.report import EvaluationReport

__all__ = ["Index"]

_PICTURES = 6  # in a notebook


class Index(Maintenance, Learning):
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

    @property
    def _resolved_device(self) -> str:
        return self._opened.device

    @property
    def _feedback_file(self) -> FeedbackFile:
        return self._opened.feedback_file

    @property
    def _decoder(self) -> Decoder:
        return self._opened.decoder

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
        phrases: str | Query,
        top: int = ...,
        candidates: int = ...,
        min_probability: float | None = ...,
        matcher: Matcher | str | None = ...,
        exact: bool = ...,
        skip_missing: bool = ...,
        feedback: bool = ...,
    ) -> Hits: ...

    @overload
    def query(
        self,
        phrases: list[str] | list[Query] | list[str | Query] | tuple[str | Query, ...],
        top: int = ...,
        candidates: int = ...,
        min_probability: float | None = ...,
        matcher: Matcher | str | None = ...,
        exact: bool = ...,
        skip_missing: bool = ...,
        feedback: bool = ...,
    ) -> list[Hits]: ...

    def query(
        self,
        phrases: str
        | Query
        | list[str]
        | list[Query]
        | list[str | Query]
        | tuple[str | Query, ...],
        top: int = 10,
        candidates: int = 100,
        min_probability: float | None = 0.0,
        matcher: Matcher | str | None = None,
        exact: bool = False,
        skip_missing: bool = False,
        feedback: bool = True,
    ) -> Hits | list[Hits]:
        """Find the regions that phrases refer to, at most one per image.

        Parameters
        ----------
        phrases : str or Query, or sequence of them
            What to find. Several phrases are answered in one pass. A text is a phrase, whatever
            signs are in it; ``Query.parse`` reads ``a dog -person since:2024``.
        top : int
            Maximum number of hits per phrase.
        candidates : int
            Images per phrase that the vector index proposes; all their regions are scored.
        min_probability : float or None
            Drop hits whose image shows what the phrase describes with a lower probability, 0 to 1.
            If none is left, nothing matches. None stands for the default of the command line,
            ``rg.MIN_PROBABILITY``; ``hit.matches`` says whether a hit reaches it.
        matcher : str or Matcher, optional
            Scores regions instead of the one in use: a name from :meth:`matchers`, such as
            ``"cosine"``, or an object of your own.
        exact : bool
            Compare the phrase with every region to choose candidates. Slower; hits do not depend
            on the kind of vector index.
        skip_missing : bool
            Leave out images whose files no longer exist.
        feedback : bool
            Let thumbs for a phrase, or for one that means nearly the same, raise what was liked and
            what looks like it; see :attr:`feedback`.

        Returns
        -------
        Hits, or list of Hits
            A list of hits, best first; for a sequence of phrases, one such list for each.

        Raises
        ------
        PhraseError
            If a phrase is empty or not text.
        QueryError
            If a query does not fit the index: a column or a region that it does not have.
        ImageError
            If the image of an example cannot be used.
        """
        if top < 1 or candidates < 1:
            raise GroundingError("top and candidates must be at least 1")
        options = AnswerOptions(top, candidates, min_probability, exact, skip_missing)
        single = isinstance(phrases, (str, Query))
        asked = [phrases] if isinstance(phrases, (str, Query)) else phrases
        queries = [one if isinstance(one, Query) else Query(clean_phrase(one)) for one in asked]
        if not queries:
            return []
        retriever, encoder = self._opened.retriever, self.encoder
        used = self._resolve_matcher(matcher)
        if feedback:
            used = self._opened.listener.listening(used, queries, retriever, encoder)
        found = answer_all(queries, self._catalog, retriever, encoder, used, options)
        answers = [Hits(hits) for hits in found]
        return answers[0] if single else answers

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
        from .data.expressions import read_expressions
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

    def picture(self, hit: Hit) -> tuple[Image.Image, Hit]:
        """Return the picture of a hit, and the hit with its box in pixels of that picture.

        It is the image itself if that is still what was indexed. Otherwise it is the thumbnail that
        was kept of it, if the index keeps thumbnails; see :class:`BuildOptions`.

        Raises
        ------
        ImageError
            If there is neither; its reason says why the image itself cannot be shown.
        """
        from .search.pictures import find_picture

        return find_picture(hit, self._catalog, self._opened.retriever.open_shard)

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
        return describe_index(catalog, self.matchers(), opened.device, facts, snapshot.device)

    def __repr__(self) -> str:
        if self._opened.closed:
            return f"<Index {str(self.directory)!r}: closed>"
        counts = self._catalog.counts()
        held = f"{counted(counts['images'], 'image')}, {counted(counts['regions'], 'region')}"
        name = self._catalog.setting("clip") or encoder_fingerprint(self._catalog).name
        return f"<Index {str(self.directory)!r}: {held}, encoder {name}>"

    def _repr_html_(self) -> str:
        """Show what the index holds, and a few of its photographs, in a notebook."""
        from .search.notebook import index_html

        if self._opened.closed:
            return index_html({"index": f"{self.directory} (closed)"}, [])
        facts = self.info()
        rows = {
            "index": facts["directory"],
            "images": f"{facts['images']:,}",
            "regions": f"{facts['regions']:,}",
            "detector": facts["detector"] or facts["detector_fingerprint"],
            "encoder": facts["clip"] or facts["encoder_fingerprint"],
            "matcher": facts["matcher"],
            "size on disk": f"{facts['bytes'] / 1e6:,.1f} MB",
        }
        # The first of each shard: to list all images of a large index would take seconds.
        keys = [(shard, row) for row in range(_PICTURES) for shard in self._catalog.shard_files()]
        found = self._catalog.images_at(keys[: 4 * _PICTURES]).values()
        samples = [(images[0].path, images[0].content_hash) for images in found]
        return index_html(rows, samples[:_PICTURES])

    def __len__(self) -> int:
        """Return the number of images."""
        return self._catalog.counts()["images"]


def _reopen(directory: Path, encoder: str | None, device: str) -> Index:
    return Index(directory, encoder=encoder, device=device)
