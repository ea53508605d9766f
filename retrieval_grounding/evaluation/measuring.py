"""Measuring an open index: how well its matchers, and other detectors, find what phrases mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.types import PathLike
from ..indexing.base import IndexBase
from ..matching.matcher import Matcher
from ..search.opened import OpenedIndex

if TYPE_CHECKING:
    from ..models.detector import Detector
    from .proposal_report import ProposalReport
    from .report import EvaluationReport

__all__ = ["Measuring"]


class Measuring(IndexBase):
    """Comparing matchers and detectors on expressions with known boxes; `Index` derives from it."""

    _opened: OpenedIndex

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
        from ..data.expressions import read_expressions
        from .evaluate import evaluate

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

    def compare_detectors(
        self,
        source: PathLike,
        detectors: Sequence[str] | Mapping[str, Detector],
        *,
        matcher: str | None = None,
        **selection: Any,
    ) -> ProposalReport:
        """Compare what other detectors find in the images, which are read again, by box count.

        Parameters
        ----------
        source, **selection
            Expressions: a file, `splits` and so on, as for :func:`read_expressions`.
        detectors : sequence of str, or mapping of str to Detector
            Names as for :func:`load_detector`, or objects by the names to show.
        matcher : str, optional
            Chooses among the boxes; by default, the one in use.
        """
        from ..data.expressions import read_expressions
        from .proposals import compare_proposals, load_detectors

        expressions = read_expressions(source, **selection)
        if not isinstance(detectors, Mapping):
            detectors = load_detectors(self._catalog, detectors, self._opened.device)
        used = self.matcher if matcher is None else self._opened.named_matcher(matcher)
        return compare_proposals(self._catalog, self.encoder, used, expressions, detectors)
