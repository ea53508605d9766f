"""Names for regions from the encoder, where a detector's own names are often wrong.

A small detector finds things more often than it can tell what they are. The encoder, which sees
each of them at 224 px, names far more of them rightly. So the bundled pair lets the encoder choose
among the detector's class names. A region's score then says how sure the name is, judged by the
detector's score and the encoder's certainty together.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.groups import group_label, is_group, member_label
from ..core.regions import WHOLE_IMAGE, Regions
from .checks import encode_phrases
from .detector import Detector
from .encoder import Encoder
from .presets import bundled_path

__all__ = ["Namer", "NamingRule", "find_namer", "read_rule"]

_EDGE = 1e-4  # scores are kept this far from 0 and 1, where the logit is infinite


@dataclass(frozen=True)
class NamingRule:
    """How the encoder and the detector decide on a name together, and how sure they are.

    Parameters
    ----------
    detector : str
        Digest of the weights of the detector, as in its fingerprint.
    encoder : str
        Digest of the weights of the encoder, as in its fingerprint.
    temperature : float
        Divides cosines before the softmax over the names.
    own_name : float
        Added to the logit of the name that the detector gave.
    weights : tuple of 4 floats
        Of a logistic regression on the logit of the detector's score, the logit of the name's
        share of the softmax, the cosine, and whether the detector gave the same name.
    bias : float
        Of that regression.
    """

    detector: str
    encoder: str
    temperature: float
    own_name: float
    weights: tuple[float, float, float, float]
    bias: float


class Namer:
    """Names regions with the encoder.

    Parameters
    ----------
    encoder : Encoder
        Embeds the names; regions are given with its embeddings.
    names : sequence of k str
        To choose among.
    rule : NamingRule
        Fitted to a detector and the encoder by ``scripts/nano/naming.py``.
    """

    def __init__(self, encoder: Encoder, names: list[str], rule: NamingRule) -> None:
        self._names = names
        self._rule = rule
        self._embeddings = encode_phrases(encoder, names)

    def __call__(self, regions: Regions, embeddings: npt.NDArray[np.floating]) -> Regions:
        """Return the regions of one image with new names and scores, in the same order.

        A group takes the name that most of its members now have, and the second highest of their
        scores. The whole image stays what it is.

        Parameters
        ----------
        regions : Regions
            n regions of one image.
        embeddings : array of shape (n, d)
            Unit length.
        """
        things = np.array([_is_thing(label) for label in regions.labels], bool)
        rows = np.flatnonzero(things)
        labels, scores = list(regions.labels), regions.scores.copy()
        if len(rows):
            chosen, features = self.choose(regions[rows], embeddings[rows])
            scores[rows] = self._scores(features)
            for row, name in zip(rows.tolist(), chosen, strict=True):
                labels[row] = name
        for row in np.flatnonzero([is_group(label) for label in regions.labels]).tolist():
            member = member_label(regions.labels[row])
            members = [i for i in rows.tolist() if regions.labels[i] == member]
            if len(members) >= 2:
                name = Counter(labels[i] for i in members).most_common(1)[0][0]
                labels[row] = group_label(name)
                scores[row] = np.partition(scores[members], -2)[-2]
        return Regions(regions.boxes, scores, labels)

    def choose(
        self, regions: Regions, embeddings: npt.NDArray[np.floating]
    ) -> tuple[list[str], npt.NDArray[np.float64]]:
        """Return a name for each of n things, and what tells how sure it is, (n, 4).

        The columns are those of `NamingRule.weights`.
        """
        rule = self._rule
        cosines = embeddings.astype(np.float32) @ self._embeddings.T
        own = np.array(regions.labels)[:, None] == np.array(self._names)[None]
        logits = cosines / rule.temperature + rule.own_name * own
        best = logits.argmax(axis=1)
        every = np.arange(len(best))
        share = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
        columns = (_logit(regions.scores), _logit(share), cosines[every, best], own[every, best])
        return [self._names[i] for i in best.tolist()], np.stack(columns, axis=1)

    def _scores(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        logits = features @ np.array(self._rule.weights) + self._rule.bias
        scores: npt.NDArray[np.float32] = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return scores


def find_namer(detector: Detector, encoder: Encoder) -> Namer | None:
    """Return the namer of a detector and an encoder if there is a rule for the two, else None."""
    names = getattr(detector, "class_names", None)
    rule = _bundled_rule()
    known = detector.fingerprint.split(), encoder.fingerprint.weights
    if not names or rule.detector not in known[0] or rule.encoder != known[1]:
        return None
    return Namer(encoder, list(names.values()), rule)


def read_rule(path: Path) -> NamingRule:
    """Read a rule that ``scripts/nano/naming.py`` wrote."""
    values = json.loads(path.read_text(encoding="utf-8"))
    return NamingRule(**values | {"weights": tuple(values["weights"])})


@lru_cache(maxsize=1)
def _bundled_rule() -> NamingRule:
    return read_rule(bundled_path("names"))


def _is_thing(label: str) -> bool:
    return label != WHOLE_IMAGE and not is_group(label)


def _logit(share: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    kept = np.clip(share.astype(np.float64), _EDGE, 1 - _EDGE)
    result: npt.NDArray[np.float64] = np.log(kept / (1 - kept))
    return result
