"""Hits as detections for other tools: COCO, supervision and FiftyOne. Phrases are the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.hits import Hit
from ...core.types import Box
from .classes import by_image, confidence, phrases_of, size_of
from .optional import import_library

if TYPE_CHECKING:
    import fiftyone
    import supervision

__all__ = ["fiftyone_samples", "to_coco", "to_fiftyone", "to_supervision"]


def to_coco(hits: Sequence[Hit]) -> dict[str, Any]:
    """Return hits as a COCO data set of detections, ready for JSON.

    Each phrase is a category and each hit an annotation with ``score``: its probability, or its
    score if it has none. ``file_name`` is the path of the hit.

    Raises
    ------
    ImageError
        If the size of a photograph is unknown and it cannot be read.
    """
    numbers = {phrase: number for number, phrase in enumerate(phrases_of(hits), 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (path, own) in enumerate(by_image(hits).items(), 1):
        width, height = size_of(own[0])
        images.append({"id": image_id, "file_name": path, "width": width, "height": height})
        for hit in own:
            x1, y1, x2, y2 = hit.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": numbers[hit.phrase],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    "score": confidence(hit),
                }
            )
    categories = [{"id": number, "name": phrase} for phrase, number in numbers.items()]
    return {"images": images, "categories": categories, "annotations": annotations}


def to_supervision(hits: Sequence[Hit]) -> dict[str, supervision.Detections]:
    """Return one ``supervision.Detections`` for each photograph, by its path.

    ``class_id`` counts the phrases of all hits, and ``data["class_name"]`` has them as text.

    Raises
    ------
    GroundingError
        If supervision is not installed.
    """
    library = import_library("supervision")
    numbers = {phrase: number for number, phrase in enumerate(phrases_of(hits))}
    return {
        path: library.Detections(
            xyxy=np.array([hit.box for hit in own], np.float32),
            confidence=np.array([confidence(hit) for hit in own], np.float32),
            class_id=np.array([numbers[hit.phrase] for hit in own], np.int64),
            data={"class_name": np.array([hit.phrase for hit in own])},
        )
        for path, own in by_image(hits).items()
    }


def fiftyone_samples(hits: Sequence[Hit]) -> list[fiftyone.Sample]:
    """Return a FiftyOne sample for each photograph, with its hits in the field ``hits``.

    Raises
    ------
    GroundingError
        If fiftyone is not installed.
    ImageError
        If the size of a photograph is unknown and it cannot be read.
    """
    library = import_library("fiftyone")
    samples = []
    for path, own in by_image(hits).items():
        size = size_of(own[0])
        detections = library.Detections(
            detections=[
                library.Detection(
                    label=hit.phrase,
                    bounding_box=_shares(hit.box, size),
                    confidence=hit.probability,
                    score=hit.score,
                    detector_label=hit.label,
                )
                for hit in own
            ]
        )
        samples.append(library.Sample(filepath=path, hits=detections))
    return samples


def to_fiftyone(hits: Sequence[Hit], name: str | None = None) -> fiftyone.Dataset:
    """Return a FiftyOne data set of :func:`fiftyone_samples`; it is kept if you make it persistent.

    Parameters
    ----------
    hits : sequence of Hit
        What to show.
    name : str, optional
        Name of the data set.
    """
    samples = fiftyone_samples(hits)
    dataset: fiftyone.Dataset = import_library("fiftyone").Dataset(name)
    dataset.add_samples(samples)
    return dataset


def _shares(box: Box, size: tuple[int, int]) -> list[float]:
    """Return left, top, width and height as shares of the photograph."""
    (x1, y1, x2, y2), (width, height) = box, size
    return [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height]
