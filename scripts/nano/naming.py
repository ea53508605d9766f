"""How the bundled encoder names what the bundled detector finds.

Fitted on held-out photographs, where a YOLO that names things well stands for the truth: a region's
name is right if a box of that name overlaps it by half.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from retrieval_grounding.core.groups import member_label
from retrieval_grounding.core.regions import Regions, pairwise_iou
from retrieval_grounding.data.images import load_image
from retrieval_grounding.models.checks import encode_regions
from retrieval_grounding.models.clip import load_encoder
from retrieval_grounding.models.detector import DetectorSettings
from retrieval_grounding.models.naming import Namer, NamingRule
from retrieval_grounding.models.yolo import UltralyticsDetector

from .regions import NO_LABEL, RegionCache
from .retrain import TEACHER_SETTINGS, Workplace

_PHOTOS = 500
_TEACHER_SURE = 0.4
_TEMPERATURES = (1 / 30, 1 / 60, 1 / 100)
_OWN_NAMES = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0)
_SURE = 0.7
"""Probability that a name is right where the score becomes 0.5. It puts scores about where a YOLO's
are: of its labels with 0.5 or more, 0.86 are right."""


def fit_naming(place: Workplace, clip: Path, detector: Path, teacher: Path, output: Path) -> None:
    """Fit the rule of a detector and an encoder, and write it as JSON.

    Parameters
    ----------
    place : Workplace
        Has the photographs.
    clip : Path
        Folder of the encoder.
    detector, teacher : Path
        Checkpoints of the detector whose regions are named, and of the YOLO that knows better.
    output : Path
        Where the rule goes.
    """
    encoder = load_encoder(str(clip), place.device)
    small = UltralyticsDetector(detector, DetectorSettings(groups=False), place.device)
    large = UltralyticsDetector(
        teacher,
        replace(TEACHER_SETTINGS, confidence=_TEACHER_SURE, groups=False),
        place.device,
    )
    names = sorted(place.held_out)[:_PHOTOS]
    found, embeddings, truth = [], [], []
    for name in names:
        image = load_image(place.data / "train_photos" / name)
        [regions] = small.detect([image])
        embeddings.append(encode_regions(encoder, [image], [regions])[1:])
        found.append(regions[1:])
        truth.append(large.detect([image])[0][1:])
    weights = small.fingerprint.split()[1]
    rule = NamingRule(weights, encoder.fingerprint.weights, 1, 0, (1, 0, 0, 0), 0)
    choices = [replace(rule, temperature=t, own_name=o) for t in _TEMPERATURES for o in _OWN_NAMES]
    shares = {}
    for choice in choices:
        _, right = _features(Namer(encoder, _names(small), choice), found, embeddings, truth)
        shares[choice] = float(right.mean())
    best = max(choices, key=shares.__getitem__)
    features, right = _features(Namer(encoder, _names(small), best), found, embeddings, truth)
    fit = LogisticRegression(C=10).fit(features, right)
    bias = float(fit.intercept_[0]) - float(np.log(_SURE / (1 - _SURE)))
    best = replace(
        best, weights=tuple(float(w) for w in fit.coef_[0].round(4)), bias=round(bias, 4)
    )
    own = [own_right(regions, boxes) for regions, boxes in zip(found, truth, strict=True)]
    print(
        f"{len(right)} regions: the detector's own names are right in "
        f"{np.concatenate(own).mean():.3f}, the encoder's in {right.mean():.3f}",
        flush=True,
    )
    output.write_text(json.dumps(asdict(best), indent=2) + "\n", encoding="utf-8")


def _names(detector: UltralyticsDetector) -> list[str]:
    return list(detector.class_names.values())


def _features(
    namer: Namer, found: list[Regions], embeddings: list[np.ndarray], truth: list[Regions]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of all regions (n, 4), and which of the new names are right (n,)."""
    features, right = [], []
    for regions, own, boxes in zip(found, embeddings, truth, strict=True):
        names, row = namer.choose(regions, own)
        features.append(row)
        right.append(own_right(Regions(regions.boxes, regions.scores, names), boxes))
    return np.concatenate(features), np.concatenate(right)


def own_right(regions: Regions, truth: Regions) -> np.ndarray:
    """Return which labels of `regions` a box of `truth` confirms, bool (n,)."""
    same = np.array(regions.labels)[:, None] == np.array(truth.labels)[None]
    right: np.ndarray = ((pairwise_iou(regions.boxes, truth.boxes) >= 0.5) & same).any(axis=1)
    return right


def rename_cached(cache: RegionCache, embeddings: np.ndarray, namer: Namer) -> RegionCache:
    """Return a cache with the names and scores that an index would have.

    Parameters
    ----------
    cache : RegionCache
        Regions of the detector.
    embeddings : array of shape (n, d)
        Of all its regions.
    namer : Namer
        Of the detector and the encoder.
    """
    scores, labels = cache.scores.copy(), cache.labels.copy()
    number = {name: position for position, name in enumerate(cache.classes)}
    for photo in range(len(cache.names)):
        rows = cache.indexed_rows(photo)
        boxes = cache.boxes[rows] * np.tile(cache.sizes[photo], 2)
        named = namer(Regions(boxes, cache.scores[rows], cache.label_names(rows)), embeddings[rows])
        scores[rows] = named.scores
        labels[rows] = [number.get(member_label(label), NO_LABEL) for label in named.labels]
    return replace(cache, scores=scores, labels=labels)
