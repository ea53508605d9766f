"""A trained matcher: network, vocabulary and calibration in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..core.errors import ModelError
from ..core.phrases import Phrases
from ..core.region_table import RegionTable
from ..models.cpu_pool import cpu_pool
from ..models.encoder import Fingerprint
from ..storage.files import atomic_path
from .batch import ImageBatch, RegionTensors
from .calibration import Calibration
from .model import MatcherConfig, MatcherModel, PhraseBatch, make_model
from .vocabulary import count_words

__all__ = ["TrainedMatcher"]


_FORMAT = 2
_PAIRS_PER_PASS = 256
_WORTH_DIVIDING = 32
_PAIRS_A_REGION = 32  # which cost as much as what is done for a region by itself
_WORK_AT_ONCE = 100_000  # pairs


@dataclass
class TrainedMatcher:
    """Scores regions with a trained network; see :class:`.matcher.Matcher`.

    Parameters
    ----------
    model : MatcherModel
        In evaluation mode, on the device where it shall run.
    config : MatcherConfig
        Its shape.
    vocabulary : list of str
        Words that it knows.
    encoder : Fingerprint
        Of the embeddings that it was trained on.
    calibration : Calibration or None
        Turns scores into probabilities.
    trained_on : str
        For people: which data.
    """

    model: MatcherModel
    config: MatcherConfig
    vocabulary: list[str]
    encoder: Fingerprint
    calibration: Calibration | None = None
    trained_on: str = ""

    def __post_init__(self) -> None:
        self._numbers = {word: number for number, word in enumerate(self.vocabulary)}

    @property
    def name(self) -> str:
        """How tables call it."""
        return "matcher" if self.config.kind == "residual" else self.config.kind

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.model.parameters()).device

    def phrase_batch(self, phrases: Phrases) -> PhraseBatch:
        """Return phrases as the network takes them."""
        words, starts = count_words(phrases.texts, self._numbers)
        embeddings = torch.from_numpy(np.asarray(phrases.embeddings, np.float32))
        return PhraseBatch(
            embeddings.to(self.device), words.to(self.device), starts.to(self.device)
        )

    def score(self, phrases: Phrases, regions: RegionTable) -> npt.NDArray[np.float32]:
        """Return logits (p, n) of all n regions for p phrases."""
        said = self.phrase_batch(phrases)
        scores = np.empty((len(phrases), len(regions)), np.float32)

        def fill(batch: ImageBatch, rows: npt.NDArray[np.int64], _: torch.Tensor) -> None:
            images = torch.arange(len(batch.aspects), device=self.device)
            step = max(1, _PAIRS_PER_PASS // len(images))
            looked = self.model.look(batch)  # once for all phrases
            for start in range(0, len(phrases), step):
                numbers = torch.arange(start, min(start + step, len(phrases)), device=self.device)
                phrase, image = torch.cartesian_prod(numbers, images).unbind(1)
                # One phrase meets the images in their order: no copy of them is needed.
                chosen = slice(None) if len(numbers) == 1 else image
                logits = self.model.judge(said, batch, looked, phrase, chosen)
                kept = logits.view(len(numbers), -1)[:, batch.present.flatten()]
                scores[start : start + len(numbers), rows] = kept.float().cpu().numpy()

        self._each_group(regions, fill)
        return scores

    def score_pairs(
        self, phrases: Phrases, regions: RegionTable, asked: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return logits (n,) of the regions of each image for the phrase asked of it."""
        said = self.phrase_batch(phrases)
        phrase = torch.from_numpy(asked).to(self.device)
        scores = np.empty(len(regions), np.float32)

        def fill(batch: ImageBatch, rows: npt.NDArray[np.int64], images: torch.Tensor) -> None:
            looked = self.model.look(batch)
            logits = self.model.judge(said, batch, looked, phrase[images], slice(None))
            scores[rows] = logits[batch.present].float().cpu().numpy()

        self._each_group(regions, fill)
        return scores

    def _each_group(
        self,
        regions: RegionTable,
        fill: Callable[[ImageBatch, npt.NDArray[np.int64], torch.Tensor], None],
    ) -> None:
        """Call `fill` with images of similar numbers of regions, their rows, and their numbers."""
        tensors = RegionTensors(regions, self.device)

        @torch.inference_mode()  # which each thread has to enter for itself
        def take(images: npt.NDArray[np.int64]) -> None:
            numbers = torch.from_numpy(images).to(self.device)
            fill(tensors.batch(numbers), regions.rows(images), numbers)

        groups = _alike(np.diff(regions.offsets))
        if self.device.type == "cpu":
            cpu_pool().map(take, groups)
        else:
            for images in groups:
                take(images)

    def probabilities(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """Return calibrated probabilities of scores, or None if it was never calibrated."""
        return None if self.calibration is None else self.calibration(scores)

    def save(self, path: Path) -> None:
        """Write the matcher in one step; the file appears complete or not at all."""
        description: dict[str, Any] = {
            "format": _FORMAT,
            "config": self.config.as_dict(),
            "vocabulary": self.vocabulary,
            "encoder": self.encoder.as_dict(),
            "calibration": None if self.calibration is None else self.calibration.as_dict(),
            "trained_on": self.trained_on,
        }
        tensors = {
            name: value.detach().half().contiguous().cpu()
            for name, value in self.model.state_dict().items()
        }
        with atomic_path(path) as temporary:
            temporary.write_bytes(save(tensors, {"matcher": json.dumps(description)}))

    @classmethod
    def load(cls, path: Path, device: str) -> TrainedMatcher:
        """Read a matcher.

        Raises
        ------
        ModelError
            If the file is missing, no matcher, damaged, or of a newer release.
        """
        try:
            with safe_open(path, "pt") as file:
                description = json.loads((file.metadata() or {})["matcher"])
                tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            if description["format"] > _FORMAT:
                raise ModelError(f"{path} is from a newer release; upgrade retrieval_grounding")
            if description["format"] < _FORMAT:
                raise ModelError(
                    f"{path} is from an older release, whose network was another; train it again "
                    "with 'retrieval-grounding train'"
                )
            config = MatcherConfig(**description["config"])
            model = make_model(config)
            model.load_state_dict(tensors)
            calibration = description["calibration"]
            return cls(
                model.eval().requires_grad_(False).to(device),
                config,
                list(description["vocabulary"]),
                Fingerprint(**description["encoder"]),
                Calibration(**calibration) if calibration else None,
                str(description["trained_on"]),
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"{path} is no matcher of this release ({error}); train one with "
                "'retrieval-grounding train'"
            ) from error

    def check(self, encoder: Fingerprint) -> None:
        """Refuse embeddings of another encoder.

        Raises
        ------
        ModelError
            If `encoder` is not the one that it was trained with.
        """
        if not self.encoder.matches(encoder):
            raise ModelError(
                f"the matcher was trained on embeddings of {self.encoder}, and these are of "
                f"{encoder}; train it again with 'retrieval-grounding train'"
            )


def _alike(counts: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Divide images into batches of similar numbers of regions and of equal work.

    So little is padded, every lane has its share, and what a batch makes of its pairs of regions
    stays small: memory that is taken and given back costs more than the arithmetic.
    """
    order = np.argsort(counts, kind="stable")
    work = np.cumsum(counts[order] * (counts[order] + _PAIRS_A_REGION))
    batches = max(2 if len(order) >= _WORTH_DIVIDING else 1, -(-int(work[-1]) // _WORK_AT_ONCE))
    cuts = np.searchsorted(work, work[-1] * np.arange(1, batches) / batches)
    return [part for part in np.split(order, cuts) if len(part)]
