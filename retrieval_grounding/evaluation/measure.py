"""From predictions to figures: intervals, ranking, confidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..matching import checks
from ..matching.matcher import Matcher
from .figures import RECALLS
from .metrics import Estimate, auroc, bootstrap_means, expected_calibration_error, reliability_curve
from .predictions import SAME_OBJECT, Predictions, RegionFacts

__all__ = ["ALL", "confidence_figures", "estimate_means", "gallery_figures"]

ALL = ""
"""Name of the slice that holds every expression."""


def estimate_means(
    overlaps: Mapping[str, npt.NDArray[np.float32]],
    slices: Mapping[str, npt.NDArray[np.bool_]],
    images: npt.NDArray[np.int64],
    baseline: str | None,
    compared: set[str],
    seed: int,
) -> dict[tuple[str, str, str], Estimate]:
    """Return every mean with its interval, all from the same bootstrap samples.

    Parameters
    ----------
    overlaps : mapping of str to float32 array of shape (n,)
        IoU of each method's predictions.
    slices : mapping of str to bool array of shape (n,)
        Which expressions belong to each slice.
    images : int array of shape (n,)
        Number of each expression's image.
    baseline : str or None
        The method that gains are relative to.
    compared : set of str
        The methods whose gains are wanted.
    seed : int
        Seed for the bootstrap.

    Returns
    -------
    dict of (str, str, str) to Estimate
        By slice (:data:`ALL` is every expression), method, and figure: ``"iou"``, ``"accuracy"``,
        and over all expressions also ``"iou gain"`` and ``"accuracy gain"`` of the methods
        compared.
    """
    everything = {ALL: np.ones(len(images), bool)}
    columns: dict[tuple[str, str, str], npt.NDArray[np.float64]] = {}
    for name, members in (everything | dict(slices)).items():
        for method, iou in overlaps.items():
            columns[name, method, "iou"] = np.where(members, iou, np.nan)
            columns[name, method, "accuracy"] = np.where(members, iou >= SAME_OBJECT, np.nan)
    if baseline is not None:
        for method in compared - {baseline}:
            for figure in ("iou", "accuracy"):
                difference = columns[ALL, method, figure] - columns[ALL, baseline, figure]
                columns[ALL, method, f"{figure} gain"] = difference
    estimates = bootstrap_means(np.stack(list(columns.values()), axis=1), images, seed=seed)
    return dict(zip(columns, estimates, strict=True))


def confidence_figures(
    matcher: Matcher, facts: RegionFacts, predictions: Predictions
) -> dict[str, Any]:
    """Return the figures of :class:`Figures` about given boxes, presence and probabilities."""
    covered = facts.covered
    right = predictions.row[covered] == facts.oracle_row[covered]
    found: dict[str, Any] = {"given_box": float(right.mean()) if covered.any() else None}
    if np.isnan(predictions.absent).any():  # there is only one image, so no phrase is absent
        return found
    found["auroc"] = auroc(predictions.present, predictions.absent)
    scores = np.concatenate([predictions.present, predictions.absent])
    alone = checks.probabilities(matcher, scores[:, None], 1)
    if alone is not None:
        probabilities = alone.box[:, 0]
        nothing_is_right = np.zeros(len(predictions.absent), bool)
        outcomes = np.concatenate([predictions.correct, nothing_is_right])
        found["calibration_error"] = expected_calibration_error(probabilities, outcomes)
        found["reliability"] = reliability_curve(probabilities, outcomes)
    return found


def gallery_figures(
    ranks: Mapping[str, npt.NDArray[np.int64]],
    correct: Mapping[str, npt.NDArray[np.bool_]],
    images: npt.NDArray[np.int64],
    baseline: str | None,
    seed: int,
) -> dict[str, dict[str, dict[int, Estimate]]]:
    """Return the recalls of :class:`Figures`, all from the same bootstrap samples.

    Parameters
    ----------
    ranks : mapping of str to int array of shape (m,)
        Rank of each phrase's image, by matcher.
    correct : mapping of str to bool array of shape (m,)
        Whether the matcher's box in that image is right.
    images : int array of shape (m,)
        Number of each phrase's image.
    baseline : str or None
        The matcher that gains are relative to.
    seed : int
        Seed for the bootstrap.

    Returns
    -------
    dict of str to dict
        For each matcher the keyword arguments of `Figures`; empty if no phrase was searched for.
    """
    if not len(images):
        return {name: {} for name in ranks}
    columns: dict[tuple[str, str, int], npt.NDArray[np.float64]] = {}
    for name, rank in ranks.items():
        for k in RECALLS:
            found = rank <= k
            columns[name, "image_recall", k] = found.astype(float)
            columns[name, "box_recall", k] = (found & correct[name]).astype(float)
    if baseline is not None:
        for name, figure, k in list(columns):
            if name != baseline:
                difference = columns[name, figure, k] - columns[baseline, figure, k]
                columns[name, f"{figure}_gain", k] = difference
    estimates = bootstrap_means(np.stack(list(columns.values()), axis=1), images, seed=seed)
    figures: dict[str, dict[str, dict[int, Estimate]]] = {name: {} for name in ranks}
    for (name, figure, k), estimate in zip(columns, estimates, strict=True):
        figures[name].setdefault(figure, {})[k] = estimate
    return figures
