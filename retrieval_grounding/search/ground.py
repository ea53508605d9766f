"""Grounding in one image: phrases in, boxes out, without an index."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import overload

import numpy as np

from ..core.colors import region_colors
from ..core.hits import Hit
from ..core.phrases import clean_phrase
from ..core.query.value import Query
from ..core.region_table import RegionTable
from ..data.image_source import ImageSource, address_of
from ..data.images import load_with_hash
from ..indexing.model_spec import new_spec
from ..matching.embed import embed_phrases
from ..matching.load import default_matcher
from ..models.checks import detect_regions, embed_labels
from ..models.detector import Detector, DetectorSettings
from ..models.device import resolve_device
from ..models.encoder import Encoder
from ..models.presets import DEFAULT_PRESET
from .calibrated_on import describe_calibration
from .explain import Asked, Explainer
from .hits import Hits
from .rank import rank_regions
from .unknown import discount_unknown

__all__ = ["ground"]


@overload
def ground(
    image: ImageSource,
    phrases: str,
    *,
    preset: str = ...,
    detector: str | Detector | None = ...,
    clip: str | Encoder | None = ...,
    settings: DetectorSettings | None = ...,
    device: str = ...,
) -> Hit: ...


@overload
def ground(
    image: ImageSource,
    phrases: list[str] | tuple[str, ...],
    *,
    preset: str = ...,
    detector: str | Detector | None = ...,
    clip: str | Encoder | None = ...,
    settings: DetectorSettings | None = ...,
    device: str = ...,
) -> Hits: ...


def ground(
    image: ImageSource,
    phrases: str | list[str] | tuple[str, ...],
    *,
    preset: str = DEFAULT_PRESET,
    detector: str | Detector | None = None,
    clip: str | Encoder | None = None,
    settings: DetectorSettings | None = None,
    device: str = "auto",
) -> Hit | Hits:
    """Find the region of one image that a phrase refers to, without an index.

    Parameters
    ----------
    image : path, URL, bytes, file, PIL image or array
        An image, as for :func:`load_image`. EXIF rotation is applied.
    phrases : str, or list or tuple of str
        What to find.
    preset : str
        A pair of models: ``nano``, ``base``, ``large`` or ``seed``.
    detector, clip : optional
        Replace the models of the preset: a name as in :func:`load_detector` and
        :func:`load_encoder`, or an object with the protocol's methods.
    settings : DetectorSettings, optional
        Which boxes the detector keeps.
    device : str
        Where the models run: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Returns
    -------
    Hit or Hits
        The best region, or a list with one hit for each phrase if `phrases` is a list or tuple.
        An empty list gives an empty list. If no region fits, the best one is returned all
        the same; check its probability.

    Raises
    ------
    ImageError
        If the image cannot be used.
    PhraseError
        If a phrase is empty or not text.
    ModelError
        If a model cannot be loaded, or returns something it should not.

    Notes
    -----
    Models stay in memory for the next call.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> photo = Path(tempfile.mkdtemp()) / "gray.png"
    >>> Image.new("RGB", (320, 240), "gray").save(photo)
    >>> hit = ground(photo, "a wall")
    >>> hit.phrase, hit.label, hit.box
    ('a wall', 'whole image', (0.0, 0.0, 320.0, 240.0))
    """
    cleaned = [clean_phrase(p) for p in ([phrases] if isinstance(phrases, str) else phrases)]
    pixels, content_hash = load_with_hash(image)
    if not cleaned:
        return Hits()
    models = new_spec(preset, detector, clip, settings).load(device)
    encoder = models.encoder
    [(regions, embeddings)] = models.encode([pixels], detect_regions(models.detector, [pixels]))
    names = sorted(set(regions.labels))
    table = RegionTable(
        embeddings,
        regions.boxes,
        regions.scores,
        np.array([names.index(label) for label in regions.labels]),
        region_colors(pixels, regions.boxes),
        np.array([0, len(regions)]),
        names,
        embed_labels(encoder, names),
    )
    queries = embed_phrases(encoder, cleaned)
    matcher = default_matcher(encoder.fingerprint, resolve_device(device))
    ranked = rank_regions(queries, address_of(image, content_hash), table, matcher, top=1)
    best = [found for [found] in discount_unknown(encoder, cleaned, ranked)]
    calibrated_on = describe_calibration(None, matcher)
    hits = Hits()
    for number, hit in enumerate(best):
        asked = Asked(
            Query(cleaned[number]), queries[number : number + 1], (), matcher, calibrated_on
        )
        hits.append(replace(hit, explainer=Explainer(asked, partial(_row_of, table))))
    return hits[0] if isinstance(phrases, str) else hits


def _row_of(table: RegionTable, hit: Hit) -> tuple[RegionTable, int]:
    return table, int(np.flatnonzero((table.boxes == np.array(hit.box, np.float32)).all(1))[0])
