"""Training steps whose regions and phrases are all on the device, with shapes that never change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from .batch import RegionTensors
from .dataset import Examples
from .losses import padded_training_loss
from .model import MatcherModel
from .negatives import Mentions
from .options import TrainingOptions
from .phrase_batch import PhraseBatch
from .training_step import CONTRAST_RATE, Step, StepSize, draw_step, images_of, score_step

__all__ = ["ResidentSteps"]


_MULTIPLE = 8  # of sizes, so that few epochs need larger ones than the first


class ResidentSteps:
    """Draws steps on the host and computes their losses on the device, without a wait in between.

    Parameters
    ----------
    model : MatcherModel
        In training.
    regions : RegionTensors
        Regions of all images.
    phrases : PhraseBatch
        All phrases, on the device.
    meanings : bool tensor of shape (w + 1, k)
        From :meth:`.negatives.LabelMeanings.table`, for all labels of `regions`.
    mentions : Mentions
        What all examples say about all images.
    options : TrainingOptions
        How to train.
    """

    def __init__(
        self,
        model: MatcherModel,
        regions: RegionTensors,
        phrases: PhraseBatch,
        meanings: torch.Tensor,
        mentions: Mentions,
        options: TrainingOptions,
    ) -> None:
        self._model = model
        self._regions = regions
        self._phrases = phrases
        self._meanings = meanings
        self._mentions = mentions
        self._options = options

    def draw(self, batch: Examples, random: np.random.Generator) -> Step:
        """Draw a step of some examples, as arrays."""
        image, image_index = images_of(batch)
        of_images = self._regions.counts[image]
        counts = int(of_images.max()), int(of_images.sum()), int(self._regions.single[image].sum())
        return draw_step(batch, image, image_index, self._mentions, counts, self._options, random)

    def size(self, examples: Examples, batches: Sequence[npt.NDArray[np.int64]]) -> StepSize:
        """Return a size that the steps of some batches have, unless many phrases are false."""
        contrasted = (examples.contrast >= 0) | (examples.mirrored_contrast >= 0)
        most = max(int(contrasted[rows].sum()) for rows in batches)
        likely = CONTRAST_RATE * most + 2 * np.sqrt(most)  # four standard deviations more
        images = (len(np.unique(examples.image[rows])) for rows in batches)
        return StepSize(
            e=_rounded(max(map(len, batches))),
            c=_rounded(min(most, int(likely))),
            m=_rounded(max(images)),
            n=int(self._regions.counts[examples.image].max()),
        )

    def loss(self, step: Step) -> torch.Tensor:
        """Return the loss of a step whose tensors are padded."""
        pairs = score_step(
            self._model,
            step,
            self._regions.batch(step.image, step.size.n),
            self._phrases.take(step.phrases),
            self._meanings,
            self._mentions.baseline,
            self._options,
            padded=True,
        )
        return padded_training_loss(*pairs, step.real, step.contradicts)


def _rounded(count: int) -> int:
    return -(-count // _MULTIPLE) * _MULTIPLE
