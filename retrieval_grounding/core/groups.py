"""Group regions: one box around all detections of a label, for "two dogs" and "people".

A detector finds single things, and people also speak of several at once. A group region is an
ordinary region whose label ends in " group"; it is never one of the things that it contains.
"""

from __future__ import annotations

import numpy as np

from .regions import WHOLE_IMAGE, Regions, pairwise_iou

__all__ = [
    "MIN_MEMBER_SCORE",
    "group_label",
    "is_group",
    "label_if_sure",
    "label_phrase",
    "member_label",
    "plural",
    "shown_label",
    "with_groups",
]


MIN_MEMBER_SCORE = 0.25
"""Confidence from which a detection counts as a thing that is there."""

SURE = 0.4
"""Confidence from which people are shown a label: more than 0.8 of nano's are right there."""

SAME_BOX_IOU = 0.8
_SUFFIX = " group"

_PLURALS = {
    "person": "people", "child": "children", "human": "humans", "sheep": "sheep", "fish": "fish",
    "deer": "deer", "aircraft": "aircraft", "mouse": "mice", "goose": "geese", "knife": "knives",
    "wolf": "wolves", "calf": "calves", "leaf": "leaves", "loaf": "loaves", "shelf": "shelves",
    "scarf": "scarves", "potato": "potatoes", "tomato": "tomatoes", "bus": "buses",
    "broccoli": "broccoli", "food": "food", "furniture": "furniture", "fruit": "fruit",
    "people": "people", "men": "men", "women": "women", "children": "children",
}  # fmt: skip


def group_label(label: str) -> str:
    """Return the label of a group of things called `label`.

    Examples
    --------
    >>> group_label("person")
    'person group'
    """
    return f"{label}{_SUFFIX}"


def is_group(label: str) -> bool:
    """Return whether `label` is that of a group region.

    Examples
    --------
    >>> is_group("person group"), is_group("person")
    (True, False)
    """
    return label.endswith(_SUFFIX) and bool(label.removesuffix(_SUFFIX).strip())


def member_label(label: str) -> str:
    """Return the label of a group's members; other labels are returned as they are.

    Examples
    --------
    >>> member_label("person group"), member_label("dog")
    ('person', 'dog')
    """
    return label.removesuffix(_SUFFIX) if is_group(label) else label


def plural(noun: str) -> str:
    """Return the English plural of a noun, whose last word is the one that changes.

    Examples
    --------
    >>> [plural(noun) for noun in ("zebra", "wine glass", "person", "knife", "skis", "puppy")]
    ['zebras', 'wine glasses', 'people', 'knives', 'skis', 'puppies']
    """
    first, last = noun[: noun.rfind(" ") + 1], noun[noun.rfind(" ") + 1 :]
    word = last.lower()
    if word in _PLURALS:
        ending = _PLURALS[word]
        # The case of the first letter is the noun's own.
        return first + last[:1] + ending[1:]
    if word.endswith("man"):
        return first + last[:-2] + "en"
    if word.endswith(("ss", "us", "x", "z", "ch", "sh")):
        return f"{noun}es"
    if word.endswith("s"):  # skis, scissors, pants
        return noun
    if word.endswith("y") and word[-2:-1] not in ("", *"aeiou"):
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def label_phrase(label: str) -> str:
    """Return what an encoder of phrases is given for a label: a group's label is no English.

    Examples
    --------
    >>> label_phrase("person group"), label_phrase("dog")
    ('group of people', 'dog')
    """
    return f"group of {plural(member_label(label))}" if is_group(label) else label


def shown_label(label: str) -> str:
    """Return what people are shown for a label.

    Examples
    --------
    >>> shown_label("person group"), shown_label("dog group"), shown_label("dog")
    ('people', 'dogs', 'dog')
    """
    return plural(member_label(label)) if is_group(label) else label


def label_if_sure(label: str, score: float | None) -> str:
    """Return what people are shown for a label of this confidence: nothing if it may be wrong.

    Examples
    --------
    >>> label_if_sure("dog group", 0.8), label_if_sure("dog", 0.1)
    ('dogs', '')
    """
    return shown_label(label) if score is not None and score >= SURE else ""


def with_groups(regions: Regions) -> Regions:
    """Add a region around all detections of each label, for phrases such as "three zebras".

    A group's members are the regions of one label with a score of at least 0.25. Its box is the
    union of theirs, its score the second highest of theirs (of two things, both have to be there),
    and its label ``"zebra group"``. There is no group of whole images, of groups or of regions
    without a name, and none whose box has an IoU of 0.8 or more with a member's, since such a
    member usually shows the group already.

    Parameters
    ----------
    regions : Regions
        Of one image, with or without the whole image.

    Returns
    -------
    Regions
        The regions as they were, then the groups, in the order in which their labels first occur.
        Regions that already have their groups get no others.

    Examples
    --------
    >>> boxes = [[0, 0, 90, 40], [10, 10, 20, 30], [40, 5, 60, 30], [70, 10, 80, 20]]
    >>> labels = ["whole image", "zebra", "zebra", "dog"]
    >>> grouped = with_groups(Regions(boxes, [1, 0.75, 0.5, 0.9], labels))
    >>> grouped.labels[4:], grouped.boxes[4].tolist(), grouped.scores[4].tolist()
    (('zebra group',), [10.0, 5.0, 60.0, 30.0], 0.5)
    """
    members: dict[str, list[int]] = {}
    for row in np.flatnonzero(regions.scores >= MIN_MEMBER_SCORE).tolist():
        members.setdefault(regions.labels[row], []).append(row)
    present = set(regions.labels)
    boxes, scores, labels = [], [], []
    for label, rows in members.items():
        if len(rows) < 2 or not _can_be_grouped(label) or group_label(label) in present:
            continue
        own = regions.boxes[rows]
        union = np.concatenate([own[:, :2].min(axis=0), own[:, 2:].max(axis=0)])
        if pairwise_iou(union, own).max() < SAME_BOX_IOU:
            boxes.append(union)
            scores.append(np.partition(regions.scores[rows], -2)[-2])
            labels.append(group_label(label))
    if not labels:
        return regions
    return Regions.concatenate([regions, Regions(np.array(boxes), np.array(scores), labels)])


def _can_be_grouped(label: str) -> bool:
    return bool(label.strip()) and label != WHOLE_IMAGE and not is_group(label)
