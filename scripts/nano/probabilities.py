"""Phrases about held-out photographs, to calibrate probabilities with and to measure them.

Half of the held-out photographs calibrate, and half measure. Every photograph with captions can be
in a gallery: captions say what else it shows.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from retrieval_grounding.core.types import RowKey
from retrieval_grounding.matching.calibrate import calibrate
from retrieval_grounding.matching.calibration import Calibration
from retrieval_grounding.matching.galleries import Regions
from retrieval_grounding.matching.matcher import Matcher
from retrieval_grounding.matching.relevance import content_words, head_word
from retrieval_grounding.matching.statements import Statement, make_examples
from retrieval_grounding.models.encoder import Encoder

from .pairs import held_out_photos
from .texts import Caption, read_captions

Half = Literal["calibrate", "measure"]
Box = tuple[float, float, float, float]

_CAPTIONS = 3  # with fewer, what a photograph does not show is not known
_SALIENT = 0.4
_LOCATED = 4
_UNLOCATED = 2
_VAGUE = re.compile(r"(his|her|their|its|the other|another|the same|each|that|this|something)\b")


def calibrate_on_photographs(
    matcher: Matcher,
    store: Regions,
    names: Mapping[RowKey, str],
    data: Path,
    encoder: Encoder,
    seed: int,
) -> Calibration | None:
    """Calibrate a matcher on held-out photographs among others.

    Parameters
    ----------
    matcher : Matcher
        Its scores are calibrated.
    store : Regions
        Reads the regions.
    names : mapping of (shard, row) to str
        File names of the indexed photographs, as captions and boxes name them.
    data : Path
        The folder ``shared``.
    encoder : Encoder
        Embeds the phrases.
    seed : int
        Seed of the draws; the same as for `held_out_photos`.
    """
    statements, keys, descriptions = held_out_statements(names, data, seed, "calibrate")
    examples = make_examples(statements, keys, encoder)
    return calibrate(matcher, store, keys, examples, descriptions, seed, undetected=0.0)


def held_out_statements(
    names: Mapping[RowKey, str], data: Path, seed: int, half: Half
) -> tuple[list[Statement], list[RowKey], list[list[str]]]:
    """Return phrases about half of the held-out photographs, and the gallery to search in.

    Returns
    -------
    statements : list of Statement
        With a box where a person drew one, and without for phrases of captions.
    keys : list of (shard, row)
        The photographs with captions.
    descriptions : list of lists of str
        What people wrote about each of `keys`.
    """
    captions: dict[str, list[Caption]] = defaultdict(list)
    every = read_captions(data / "train_photos" / "captions.tsv")
    for caption in every:
        captions[caption.photo].append(caption)
    boxes = human_boxes(data / "entities")
    described = [key for key, name in names.items() if len(captions[name]) >= _CAPTIONS]
    salient = salient_words(captions.values())
    held_out = sorted(held_out_photos(every, seed))
    chosen = frozenset(held_out[0 if half == "calibrate" else 1 :: 2])
    random = np.random.default_rng(seed)
    statements: list[Statement] = []
    for key in described:
        if names[key] in chosen:
            own = _statements(key, captions[names[key]], boxes[names[key]], random)
            statements += [s for s in own if head_word(s.phrase) in salient]
    descriptions = [
        [*(caption.text for caption in captions[names[key]]), *boxes[names[key]]]
        for key in described
    ]
    return statements, described, descriptions


def human_boxes(folder: Path) -> dict[str, dict[str, list[Box]]]:
    """Read where people saw what phrases describe: photograph → phrase → boxes as fractions."""
    found: dict[str, dict[str, list[Box]]] = defaultdict(dict)
    for path in sorted(folder.glob("regions_*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                width, height = record["width"], record["height"]
                phrase = " ".join(record["expression"].lower().split())
                for x, y, w, h in [record["bbox_xywh"], *(record.get("boxes_xywh") or [])]:
                    box = (x / width, y / height, (x + w) / width, (y + h) / height)
                    found[record["image"]].setdefault(phrase, []).append(box)
    return found


def salient_words(captions: Iterable[Sequence[Caption]]) -> frozenset[str]:
    """Return the words for what people mention if it is there: "dog", but not "feet" or "grass".

    Where captions lack such a word, the photograph does not show it.
    """
    shares: dict[str, list[float]] = defaultdict(list)
    for own in captions:
        if len(own) < _CAPTIONS:
            continue
        words = [set(content_words(caption.text)) for caption in own]
        for word in set().union(*words):
            shares[word].append(sum(word in one for one in words) / len(words))
    return frozenset(
        word for word, own in shares.items() if len(own) >= _CAPTIONS and np.mean(own) >= _SALIENT
    )


def _statements(
    key: RowKey,
    captions: Sequence[Caption],
    boxes: Mapping[str, Sequence[Box]],
    random: np.random.Generator,
) -> list[Statement]:
    """Draw some phrases about a photograph: with boxes, and from its captions."""
    located = [phrase for phrase in boxes if len(phrase.split()) > 1 and not _VAGUE.match(phrase)]
    chosen = [located[place] for place in random.permutation(len(located))[:_LOCATED]]
    statements = [Statement(key, phrase, box) for phrase in chosen for box in boxes[phrase]]
    others = [p for caption in captions for p in caption.noun_phrases if p not in boxes]
    for place in random.permutation(len(others))[:_UNLOCATED]:
        statements.append(Statement(key, others[place], None))
    return statements
