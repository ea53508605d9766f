"""Train nano's matcher with the product's own trainer, on what people said and boxed.

Regions are those of two detectors, the bundled one and its teacher, a YOLO, since the matcher
serves both. Nothing is detected or cut here: the regions are those that the encoder was retrained
on, embedded by the new encoder.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np

from retrieval_grounding.core.types import RowKey
from retrieval_grounding.matching.fit import fit_matcher
from retrieval_grounding.matching.options import TrainingOptions
from retrieval_grounding.matching.pseudo.human import placed_phrases
from retrieval_grounding.matching.pseudo.objects import find_objects
from retrieval_grounding.matching.statements import Statement, pseudo_statements
from retrieval_grounding.models.clip import load_encoder
from retrieval_grounding.models.naming import Namer, read_rule
from retrieval_grounding.models.presets import bundled_path

from .cached_store import CachedStore
from .dual_encoder import DualEncoder
from .entities import BoxedPhrase, read_entities
from .probabilities import calibrate_on_photographs
from .regions import RegionCache
from .retrain import Workplace, open_cache
from .texts import Caption

_PLACED = 4
_PSEUDO = 4
_EPOCHS = 5
_LR = 1.5e-3
_EMBEDDING_JITTER = 0.35  # the encoder has seen these photographs, unlike those of users
_TEACHER, _NANO = 0, 1
"""Numbers of the caches in the store."""


def train_matcher(place: Workplace, clip: Path, names: Path, output: Path) -> None:
    """Train a matcher for an encoder, calibrate it on held-out photographs, and write it.

    A matcher that loses to cosine on its own validation photographs is not written.

    Parameters
    ----------
    place : Workplace
        Has the cached regions.
    clip : Path
        Folder of the encoder.
    names : Path
        The rule by which the encoder names what the bundled detector finds.
    output : Path
        The matcher's file.
    """
    caches = [open_cache(place.regions), open_cache(place.nano_regions)]
    encoder = load_encoder(_spec(clip), place.device)
    namer = Namer(encoder, caches[_NANO].classes, read_rule(names))
    store = CachedStore(caches, DualEncoder(clip).to(place.device), encoder, [None, namer])
    phrases, left_out = read_entities(place.data, "train"), place.left_out
    captions_of: dict[str, list[Caption]] = defaultdict(list)
    for caption in place.captions:
        captions_of[caption.photo].append(caption)
    described = {
        (_TEACHER, number): name
        for number, name in enumerate(caches[_TEACHER].names)
        if name in phrases
    }
    training = {key: name for key, name in described.items() if name not in left_out}
    statements = [
        *human_statements(store, training, phrases, place.seed),
        *_a_few_each(pseudo_statements(store, training, place.seed, encoder), place.seed),
        *caption_statements(training, captions_of, place.seed),
    ]
    statements += _for_nano(statements, training, caches[_NANO])
    print(f"{len(statements)} statements on {len(training)} photographs", flush=True)
    fit = fit_matcher(
        store,
        encoder,
        statements,
        options=TrainingOptions(
            epochs=_EPOCHS, lr=_LR, embedding_jitter=_EMBEDDING_JITTER, seed=place.seed
        ),
        device=place.device,
        trained_on="human boxes of Flickr30k Entities (train), placed phrases, pseudo-queries and "
        "captions",
    )
    print(fit.as_dict(), flush=True)
    if fit.problem:
        print(f"the matcher is not written: {fit.problem}", flush=True)
        return
    # The encoder was not trained on these, so their scores are like those of new photographs. The
    # more boxes, the higher the best score, so they have those of the bundled detector.
    chosen = {name: key for key, name in sorted(described.items()) if name in place.held_out}
    unseen = {key: name for name, key in chosen.items()}
    fit.matcher.calibration = calibrate_on_photographs(
        fit.matcher, store, unseen, place.data, encoder, place.seed
    )
    print(
        f"calibrated on {len(unseen)} held-out photographs: {fit.matcher.calibration}", flush=True
    )
    fit.matcher.save(output)


def human_statements(
    store: CachedStore,
    names: Mapping[RowKey, str],
    phrases: Mapping[str, Sequence[BoxedPhrase]],
    seed: int,
) -> list[Statement]:
    """Return what people said of photographs, and phrases that say where these things are."""
    statements = []
    for key, name in names.items():
        own = phrases[name]
        statements += [Statement(key, phrase.text, phrase.box) for phrase in own]
        simple = [phrase for phrase in own if not phrase.joined]
        placed = placed_phrases(
            [phrase.text for phrase in simple],
            np.array([phrase.box for phrase in simple], np.float32).reshape(-1, 4),
            find_objects(store.gather([key]), 0),
            _random(name, seed),
            per_image=_PLACED,
        )
        statements += [Statement(key, found.phrase, simple[found.row].box) for found in placed]
    return list(dict.fromkeys(statements))


def caption_statements(
    names: Mapping[RowKey, str], captions_of: Mapping[str, Sequence[Caption]], seed: int
) -> list[Statement]:
    """Return one caption of each photograph; what it describes has no single box."""
    return [
        Statement(key, _random(name, seed).choice(captions_of[name]).text, None)
        for key, name in names.items()
        if captions_of.get(name)
    ]


def _a_few_each(statements: Iterable[Statement], seed: int) -> list[Statement]:
    """Return at most `_PSEUDO` statements of each photograph."""
    random, by_key = Random(seed), defaultdict(list)
    for statement in statements:
        by_key[statement.key].append(statement)
    return [s for own in by_key.values() for s in random.sample(own, min(len(own), _PSEUDO))]


def _for_nano(
    statements: Sequence[Statement], names: Mapping[RowKey, str], nano: RegionCache
) -> list[Statement]:
    """Return the statements of photographs that nano's detector has seen, about its regions.

    Small detectors confuse classes, so the pseudo-queries are those of the teacher, too.
    """
    numbers = nano.numbers
    return [
        replace(statement, key=(_NANO, numbers[name]))
        for statement in statements
        if (name := names[statement.key]) in numbers
    ]


def _random(name: str, seed: int) -> Random:
    """Return a generator that depends on the photograph alone, not on the others."""
    return Random(zlib.crc32(name.encode()) + seed)


def _spec(clip: Path) -> str:
    """Return the encoder's name: that of the preset if it is the bundled one."""
    return "nano" if clip.resolve() == bundled_path("clip").resolve() else str(clip)
