"""The methods of an open index that concern what it has learned: matchers and probabilities.

Each imports what it does, so that a query does not have to.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ..matching.entries import MatcherEntry, matcher_entries
from ..storage.catalog import Catalog
from ..storage.feedback_file import FeedbackFile
from ..storage.lock import writer_lock
from .base import IndexBase
from .image_passes import sync_image_passes
from .model_spec import encoder_fingerprint

if TYPE_CHECKING:
    from ..matching.calibration import Calibration
    from ..matching.fit_result import Fit
    from ..matching.options import TrainingOptions
    from ..matching.sources import Sources
    from .feedback import Feedback

__all__ = ["Learning"]


class Learning(IndexBase):
    """Training and choosing matchers, and calibrating them; `Index` derives from it.

    Methods that write take a `timeout`, as those of :class:`.maintenance.Maintenance`.
    """

    @property
    @abstractmethod
    def _resolved_device(self) -> str: ...

    @property
    @abstractmethod
    def _feedback_file(self) -> FeedbackFile: ...

    @property
    def feedback(self) -> Feedback:
        """What people think of the hits: thumbs, which later queries and trainings use."""
        from .feedback import Feedback

        return Feedback(self._catalog, self._feedback_file)

    def train(
        self,
        source: Sources,
        *,
        kind: Literal["residual", "concat"] = "residual",
        any_encoder: bool = False,
        placed: bool = False,
        name: str | None = None,
        splits: Sequence[str] | None = None,
        held_out: Sequence[str] = (),
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
            from the index itself: from labels, colors and places; ``"feedback"`` are the thumbs in
            :attr:`feedback`.
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
        held_out : sequence of str
            Splits of the files that decide what is kept, and are not learned from; without any, a
            fifth of the images. Name one if the encoder was fine-tuned on the others.
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
        from ..matching.train_index import train_index

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
                device=self._resolved_device,
                splits=splits,
                held_out=held_out,
                first_sentence_only=first_sentence_only,
                one_object_per_image=one_object_per_image,
                from_scratch=from_scratch,
                load_current=lambda: self.matcher,
                before_saving=lock.check,
            )
            if fit.installed:
                directory = self._catalog.directory
                with contextlib.closing(Catalog(directory, writable=True, lock=lock)) as catalog:
                    sync_image_passes(catalog)
        return fit

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
        from ..matching.install import choose_matcher
        from ..matching.load import load_named_matcher

        with self._writing(timeout) as catalog:
            load_named_matcher(catalog, name, encoder_fingerprint(catalog), "cpu")
            choose_matcher(catalog, name)
            sync_image_passes(catalog)

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
        from ..matching.install import remove_matcher

        with self._writing(timeout) as catalog:
            remove_matcher(catalog, name)

    def calibrate(self, *, timeout: float = 0.0) -> Calibration:
        """Fit the probabilities of the matcher in use to this collection, without labels.

        Pseudo-queries are searched for in the index's own images. It costs about as much as some
        thousand queries, and holds until the matcher changes; :meth:`reset_calibration` undoes it.

        Returns
        -------
        Calibration
            What later queries use.

        Raises
        ------
        GroundingError
            If the index has too few images with detected objects.
        """
        from ..matching.collection import calibrate_collection

        with self._writing(timeout) as catalog:
            return calibrate_collection(catalog, self.encoder, self.matcher)

    def reset_calibration(self, *, timeout: float = 0.0) -> None:
        """Forget what :meth:`calibrate` has fitted."""
        from ..matching.collection import forget_calibrations

        with self._writing(timeout) as catalog:
            forget_calibrations(catalog)
