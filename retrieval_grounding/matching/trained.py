"""The trained matcher: network, vocabulary and calibration, stored in one safetensors file."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save

from ..core.phrases import Phrases
from ..core.region_table import RegionTable
from ..core.strict_json import json_text
from ..models.cpu_pool import cpu_pool
from ..models.encoder import Fingerprint
from ..storage.files import atomic_write_bytes
from .batch import ImageBatch, RegionTensors
from .calibration import Calibration
from .config import MATCHER_FORMAT, MatcherConfig
from .encode_pass import encode_pass
from .flat_images import FlatImages
from .flat_model import FlatModel
from .flat_phrases import read_phrases
from .flat_scores import best_of_images
from .grouping import group_images
from .image_pass import ImagePass
from .matcher_file import read_matcher_file
from .matcher_header import MatcherHeader, check_encoder
from .model import MatcherModel
from .phrase_batch import PhraseBatch, make_phrase_batch
from .residual_model import ResidualModel, set_cosine_scale
from .training_images import TrainingImages
from .vocabulary import number_words

__all__ = ["TrainedMatcher"]


_PAIRS_PER_PASS = 256


@dataclass
class TrainedMatcher:
    """Scores regions with a trained network; see :class:`.matcher.Matcher`.

    Parameters
    ----------
    model : MatcherModel
        In evaluation mode, on the device on which to run.
    config : MatcherConfig
        Shape of the network.
    vocabulary : list of str
        The words that it knows.
    encoder : Fingerprint
        Encoder of the embeddings that it was trained on.
    calibration : Calibration or None
        Turns scores into probabilities.
    trained_on : str
        The training data, in words for people.
    images : TrainingImages or None
        The contents of the training images, if they were recorded.
    file : Path or None
        The file that it was read from.
    """

    model: MatcherModel
    config: MatcherConfig
    vocabulary: list[str]
    encoder: Fingerprint
    calibration: Calibration | None = None
    trained_on: str = ""
    images: TrainingImages | None = None
    file: Path | None = None

    def __post_init__(self) -> None:
        self.word_ids = number_words(self.vocabulary)

    @property
    def name(self) -> str:
        """Name in tables; see :class:`.config.MatcherConfig`."""
        return self.config.name

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.model.parameters()).device

    def score(self, phrases: Phrases, regions: RegionTable) -> npt.NDArray[np.float32]:
        """Return logits (p, n) of all n regions for p phrases."""
        batch_of_phrases = self._phrase_batch(phrases)
        scores = np.empty((len(phrases), len(regions)), np.float32)

        def fill(images: ImageBatch, rows: npt.NDArray[np.int64], _: torch.Tensor) -> None:
            encoded = self.model.encode_images(images)  # once for all phrases
            image_numbers = torch.arange(len(images.aspects), device=self.device)
            step = max(1, _PAIRS_PER_PASS // len(image_numbers))
            for start in range(0, len(phrases), step):
                stop = min(start + step, len(phrases))
                phrase_numbers = torch.arange(start, stop, device=self.device)
                phrase_index, image_index = torch.cartesian_prod(
                    phrase_numbers, image_numbers
                ).unbind(1)
                logits = self.model.score_pairs(
                    batch_of_phrases,
                    images,
                    encoded,
                    phrase_index,
                    # A single phrase takes all images in order, which needs no copy of them.
                    slice(None) if stop - start == 1 else image_index,
                )
                logits = logits.view(stop - start, -1)[:, images.present.flatten()]
                scores[start:stop, rows] = logits.float().cpu().numpy()

        self._for_each_group(regions, fill)
        return scores

    def score_pairs(
        self, phrases: Phrases, regions: RegionTable, phrase_rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return logits (n,) of all n regions, each image for its own phrase."""
        batch_of_phrases = self._phrase_batch(phrases)
        phrase_of_image = torch.from_numpy(phrase_rows).to(self.device)
        scores = np.empty(len(regions), np.float32)

        def fill(images: ImageBatch, rows: npt.NDArray[np.int64], numbers: torch.Tensor) -> None:
            encoded = self.model.encode_images(images)
            logits = self.model.score_pairs(
                batch_of_phrases, images, encoded, phrase_of_image[numbers], slice(None)
            )
            scores[rows] = logits[images.present].float().cpu().numpy()

        self._for_each_group(regions, fill)
        return scores

    @cached_property
    def identity(self) -> str:
        """A hash of its weights, which image passes name; they must not be changed afterwards."""
        digest = hashlib.blake2b(digest_size=16)
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(value.shape)}\0".encode())
            digest.update(value.detach().half().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def exits_early(self) -> bool:
        """Whether :meth:`best_of_images` can be called: on a CPU, with a network made for it."""
        has_exit = isinstance(self.model, ResidualModel) and self.model.early is not None
        return has_exit and self.device.type == "cpu"

    @torch.inference_mode()
    def best_of_images(
        self,
        phrases: Phrases,
        regions: RegionTable,
        known: ImagePass,
        ends: Sequence[int] | None = None,
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the best region of each image for its phrase, in a fraction of the time.

        Parameters
        ----------
        phrases : Phrases
            p phrases.
        regions : RegionTable
            The regions of m images: those of the first phrase, then those of the next.
        known : ImagePass
            From :meth:`encode_pass`, for the same regions.
        ends : sequence of p int, optional
            Where the images of each phrase end, in ascending order; each phrase has some. Needed
            for several phrases.
        allowed : bool array, optional
            Which of `regions` may be found.

        Returns
        -------
        rows : int64 array of shape (m,)
            Of `regions`.
        scores : float32 array of shape (m,)
            As :meth:`score_pairs` gives them, within 0.002; minus infinity for an image without an
            allowed region.
        """
        assert isinstance(self.model, ResidualModel) and self.model.early is not None
        model = self._flat_model
        read = read_phrases(model, self._phrase_batch(phrases))
        images = FlatImages.of(regions, known)
        ends = [len(regions.offsets) - 1] if ends is None else ends
        may = None if allowed is None else torch.from_numpy(allowed)
        rows, logits = best_of_images(model, self.model.early, read, images, ends, may)
        return rows.numpy(), logits.numpy()

    @cached_property
    def _flat_model(self) -> FlatModel:
        """The network's weights in the form that :meth:`best_of_images` needs."""
        assert isinstance(self.model, ResidualModel)
        return FlatModel(self.model)

    def encode_pass(self, regions: RegionTable) -> ImagePass | None:
        """Return what :meth:`best_of_images` needs; see :func:`.encode_pass.encode_pass`."""
        assert isinstance(self.model, ResidualModel)
        return encode_pass(self.model, regions)

    def probabilities(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """Return calibrated probabilities of scores, or None without a calibration."""
        return None if self.calibration is None else self.calibration(scores[..., None]).box[..., 0]

    @property
    def any_encoder(self) -> bool:
        """Whether it serves every encoder, because it sees only how similar embeddings are."""
        return self.config.kind == "residual" and not self.config.dimension

    def for_encoder(
        self, encoder: Fingerprint, scale: npt.NDArray[np.float32] | None
    ) -> TrainedMatcher:
        """Return the matcher for embeddings of an encoder.

        Parameters
        ----------
        encoder : Fingerprint
            The encoder of the embeddings that will be scored.
        scale : float32 array of shape (4,), or None
            From :func:`.cosine_scale.cosine_scale`; None if it cannot be measured.

        Returns
        -------
        TrainedMatcher
            The matcher itself if it was trained on this encoder's embeddings, or if there is no
            scale; else one with the same weights that standardizes cosines by `scale`.

        Raises
        ------
        ModelError
            If it does not serve the encoder.
        """
        self.check(encoder)
        if scale is None or self.encoder.matches(encoder):
            return self
        model = copy.deepcopy(self.model)
        set_cosine_scale(model, scale)
        return replace(self, model=model, encoder=encoder)

    def check(self, encoder: Fingerprint) -> None:
        """Refuse embeddings that it cannot score: those of another encoder, unless it serves any.

        Raises
        ------
        ModelError
            If `encoder` is not the one that it was trained with, and it needs that one.
        """
        check_encoder(self.config, self.encoder, encoder)

    def save(self, path: Path) -> None:
        """Write the matcher in one atomic step; see :meth:`as_bytes`."""
        atomic_write_bytes(path, self.as_bytes())

    def as_bytes(self, **more: Any) -> bytes:
        """Return the content of a matcher file, with weights in float16.

        Parameters
        ----------
        **more : plain values
            Added to the description of the matcher, or put in the place of what it has.
        """
        description: dict[str, Any] = {
            "format": MATCHER_FORMAT,
            "config": self.config.as_dict(),
            "vocabulary": self.vocabulary,
            "encoder": self.encoder.as_dict(),
            "calibration": None if self.calibration is None else self.calibration.as_dict(),
            "trained_on": self.trained_on,
            "images": None if self.images is None else self.images.as_dict(),
            **more,
        }
        tensors = {
            name: value.detach().half().contiguous().cpu()
            for name, value in self.model.state_dict().items()
        }
        return save(tensors, {"matcher": json_text(description)})

    @classmethod
    def load(cls, path: Path, device: str, checksums: Collection[str] = ()) -> TrainedMatcher:
        """Read a matcher.

        Parameters
        ----------
        path : Path
            The file.
        device : str
            Where the network runs.
        checksums : collection of str
            Those that the file may have; empty if they were never recorded.

        Raises
        ------
        DamagedMatcherError
            If the file is missing, damaged or not a matcher.
        ModelError
            If it is of a different release.
        StoreError
            If it is not a regular file.
        """
        return cls.of_file(*read_matcher_file(path, checksums), device, path)

    @classmethod
    def of_file(
        cls, header: MatcherHeader, model: MatcherModel, device: str, path: Path
    ) -> TrainedMatcher:
        """Return the network of a file that has been read."""
        return cls(
            model.to(device),
            header.config,
            header.vocabulary,
            header.encoder,
            header.calibration,
            header.trained_on,
            header.images,
            path,
        )

    def _phrase_batch(self, phrases: Phrases) -> PhraseBatch:
        return make_phrase_batch(phrases, self.word_ids).to(self.device)

    def _for_each_group(
        self,
        regions: RegionTable,
        fill: Callable[[ImageBatch, npt.NDArray[np.int64], torch.Tensor], None],
    ) -> None:
        """Call `fill` with each group of images, their rows in the table, and their numbers."""
        tensors = RegionTensors(regions, self.device)

        @torch.inference_mode()  # holds for one thread, so each call enters it
        def process(group: npt.NDArray[np.int64]) -> None:
            numbers = torch.from_numpy(group).to(self.device)
            fill(tensors.batch(numbers), regions.rows(group), numbers)

        groups = group_images(np.diff(regions.offsets))
        if self.device.type == "cpu":
            cpu_pool().map(process, groups)
        else:
            for group in groups:
                process(group)
