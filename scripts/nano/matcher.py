"""Train nano's matcher: pseudo-queries and captions over photographs of the training folder.

No box was drawn by a person. Boxes are those of two detectors, the bundled one and its teacher, a
YOLO, since the matcher serves both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import retrieval_grounding as rg
from retrieval_grounding.core.groups import is_group
from retrieval_grounding.core.region_table import RegionTable
from retrieval_grounding.core.types import RowKey
from retrieval_grounding.matching.fit import fit_matcher
from retrieval_grounding.matching.options import TrainingOptions
from retrieval_grounding.matching.statements import (
    Statement,
    pseudo_statements,
)
from retrieval_grounding.storage.catalog import Catalog
from retrieval_grounding.storage.region_store import RegionStore

from .pairs import held_out_photos, is_plural
from .probabilities import calibrate_on_photographs
from .texts import COCO_NAMES, Caption, class_words, phrase_class, read_captions

_FLICKR8K = 700  # of 8,000: they show people and dogs, one or two at a time
_WITH_NANO = 700
_PHRASES = 8
_SURE = 0.25
_SIZE = 384  # the photographs are small
_BOXES = 25
_EPOCHS = 14
_LR = 1e-3
_EMBEDDING_JITTER = 0.35  # the encoder has seen these photographs, unlike those of users


class JoinedStores:
    """Several indexes as one: the shard numbers of each begin after those of the one before."""

    def __init__(self, catalogs: Sequence[Catalog]) -> None:
        self._stores = [RegionStore(catalog) for catalog in catalogs]
        self._step = 1 + max(max(store.files, default=0) for store in self._stores)

    def key(self, store: int, image: RowKey) -> RowKey:
        """Return the key here of an image of index `store`."""
        return store * self._step + image[0], image[1]

    def bytes_of(self, keys: Sequence[RowKey]) -> int:
        """Return about how many bytes :meth:`gather` needs."""
        return sum(self._own(key)[0].bytes_of([self._own(key)[1]]) for key in keys)

    def gather(self, keys: Sequence[RowKey]) -> RegionTable:
        """Return the regions of images as one table, in the order of `keys`."""
        parts = [store.gather([key]) for store, key in map(self._own, keys)]
        names = list(dict.fromkeys(name for part in parts for name in part.label_names))
        label_embeddings = {
            name: part.label_embeddings[code]
            for part in parts
            for code, name in enumerate(part.label_names)
        }
        counts = [len(part) for part in parts]
        return RegionTable(
            embeddings=np.concatenate([part.embeddings for part in parts]),
            boxes=np.concatenate([part.boxes for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            labels=np.concatenate(
                [
                    np.array([names.index(n) for n in part.label_names])[part.labels]
                    for part in parts
                ]
            ),
            colors=np.concatenate([part.colors for part in parts]),
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            label_names=names,
            label_embeddings=np.array([label_embeddings[name] for name in names], np.float32),
        )

    def _own(self, key: RowKey) -> tuple[RegionStore, RowKey]:
        store, shard = divmod(key[0], self._step)
        return self._stores[store], (shard, key[1])


def train_matcher(
    photos: Path, teacher: Path, work: Path, output: Path, *, device: str, seed: int
) -> None:
    """Build indexes over training photographs, train on them, and write the matcher.

    Parameters
    ----------
    photos : Path
        Folder of photographs with ``captions.tsv``.
    teacher : Path
        Weights of the YOLO that is the bundled detector's teacher.
    work : Path
        Folder for the indexes; existing ones are reused.
    output : Path
        The matcher's file.
    device : str
        Device for models and training.
    seed : int
        Seed of every random choice, the same as for `held_out_photos`.
    """
    captions = read_captions(photos / "captions.tsv")
    held_out = held_out_photos(captions, seed)
    random = np.random.default_rng(seed)
    names = sorted(path.name for path in photos.glob("*.webp"))
    other = [name for name in names if not name.startswith("f")]
    flickr8k = [name for name in names if name.startswith("f") and name not in held_out]
    chosen = [*other, *random.choice(flickr8k, _FLICKR8K, replace=False).tolist()]
    again = random.choice(other, _WITH_NANO, replace=False).tolist()
    folders = {
        "teacher": (str(teacher), chosen),
        "nano": ("nano", again),
        # The encoder was not trained on these, so their scores are like those of new photographs.
        # The more boxes, the higher the best score, so they have those of the bundled detector.
        "unseen": ("nano", sorted(held_out)),
    }
    indexes = {}
    for name, (detector, members) in folders.items():
        settings = rg.DetectorSettings(
            max_boxes=_BOXES, image_size=None if name == "nano" else _SIZE
        )
        paths = [str(photos / member) for member in members]
        indexes[name] = rg.build(
            paths,
            work / f"matcher-{name}",
            detector=detector,
            clip="nano",
            settings=settings,
            device=device,
        )
    captions_of = defaultdict(list)
    for caption in captions:
        captions_of[caption.photo].append(caption)
    seen = [Catalog(indexes[name].directory) for name in ("teacher", "nano")]
    store = JoinedStores(seen)
    statements = _statements(store, _keys(store, 0, seen[0]), captions_of, random, seed)
    # Small detectors confuse classes, so regions of nano get the statements made with the teacher.
    statements_of = defaultdict(list)
    for statement in statements:
        statements_of[statement.key].append(statement)
    key_of = {name: key for key, name in _keys(store, 0, seen[0]).items()}
    for key, name in _keys(store, 1, seen[1]).items():
        statements += [replace(statement, key=key) for statement in statements_of[key_of[name]]]
    print(f"{len(statements)} statements", flush=True)
    encoder = indexes["teacher"].encoder
    fit = fit_matcher(
        store,
        encoder,
        statements,
        options=TrainingOptions(
            epochs=_EPOCHS, lr=_LR, embedding_jitter=_EMBEDDING_JITTER, seed=seed
        ),
        device=device,
        trained_on="pseudo-queries and captions, no human boxes",
    )
    unseen = JoinedStores([Catalog(indexes["unseen"].directory)])
    gallery = _keys(unseen, 0, Catalog(indexes["unseen"].directory))
    fit.matcher.calibration = calibrate_on_photographs(
        fit.matcher, unseen, gallery, photos.parent, encoder, seed
    )
    fit.matcher.save(output)
    print(fit.as_dict(), flush=True)


def _keys(store: JoinedStores, number: int, catalog: Catalog) -> dict[RowKey, str]:
    """Return the name of the photograph at each key."""
    return {
        store.key(number, (image.shard, image.row)): Path(image.path).name
        for image in catalog.images()
    }


def _statements(
    store: JoinedStores,
    names: dict[RowKey, str],
    captions_of: dict[str, list[Caption]],
    random: np.random.Generator,
    seed: int,
) -> list[Statement]:
    """Return captions and pseudo-queries of photographs as statements."""
    statements = []
    for key, name in names.items():
        statements += caption_statements(key, store, captions_of[name], random)
    return statements + pseudo_statements(store, names, seed)


def caption_statements(
    key: RowKey, store: JoinedStores, captions: Sequence[Caption], random: np.random.Generator
) -> list[Statement]:
    """Return noun phrases of an image's captions, and one caption.

    A phrase gets a box if its noun fits exactly one detection; the boxes of others are not known.
    """
    table = store.gather([key])
    words = class_words()
    codes = {name: number for number, name in enumerate(COCO_NAMES)}
    rows = [
        row
        for row in range(1, len(table))
        if table.scores[row] >= _SURE and not is_group(table.label(row))
    ]
    phrases = list(dict.fromkeys(p for caption in captions for p in caption.noun_phrases))
    statements = []
    for number in random.permutation(len(phrases))[:_PHRASES]:
        classes = phrase_class(phrases[number], words)
        found = [row for row in rows if codes[table.label(row)] in classes]
        box = None
        if len(found) == 1 and not is_plural(phrases[number]):
            x1, y1, x2, y2 = (table.boxes[found[0]] / np.tile(table.boxes[0, 2:], 2)).tolist()
            box = (x1, y1, x2, y2)
        statements.append(Statement(key, phrases[number], box))
    if captions:
        statements.append(Statement(key, captions[random.integers(len(captions))].text, None))
    return statements
