"""Writing drawn scenes as REFER has its data: ``refs(...).p``, ``instances.json``, COCO's names."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from .phrases import expressions
from .scenes import SIZE, draw_scene
from .things import CATEGORIES

__all__ = ["draw_refer"]

_IDS = {name: number for number, name in enumerate(CATEGORIES, start=1)}


def draw_refer(
    folder: Path,
    images: int,
    *,
    per_image: int = 10,
    held_out: float = 0.1,
    seed: int = 0,
    name: str = "refcocog",
) -> dict[str, int]:
    """Draw a data set in the layout of REFER.

    ``FOLDER/NAME`` gets ``instances.json``, ``refs(umd).p``, whose splits have no image in common,
    and ``refs(google).p``, whose splits have no object in common; ``FOLDER/train2014`` gets the
    pictures. Of the images, the share `held_out` is the umd split ``val``, and another is ``test``.
    The same arguments draw the same bytes.

    Returns
    -------
    dict of str to int
        Numbers of images, objects and expressions.
    """
    pictures, annotations = folder / "train2014", folder / name
    for place in (pictures, annotations):
        place.mkdir(parents=True, exist_ok=True)
    instances: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    umd: list[dict[str, Any]] = []
    google: list[dict[str, Any]] = []
    sentences = 0
    for number in range(images):
        rng = Random(f"{seed} {number} phrases")
        scene = draw_scene(f"{seed} {number}")
        image_id = number + 1
        file = f"COCO_train2014_{image_id:012d}.jpg"
        scene.image.save(pictures / file, quality=90)
        width, height = SIZE
        instances["images"].append(
            {"id": image_id, "file_name": file, "width": width, "height": height}
        )
        found = expressions(scene.things)
        chosen = _mixed(found, per_image, rng)
        split = _split((number + 0.5) / images, held_out)
        for place, thing in enumerate(scene.things):
            annotation_id = image_id * 100 + place
            left, top, right, bottom = thing.box
            instances["annotations"].append(
                {
                    "id": annotation_id,
                    "image_id": image_id,
                    "category_id": _IDS[thing.category],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": thing.area,
                    "iscrowd": 0,
                }
            )
            texts = [phrase for target, phrase, _ in chosen if target is thing]
            if not texts:
                continue
            ref = {
                "ref_id": len(umd),
                "ann_id": annotation_id,
                "image_id": image_id,
                "category_id": _IDS[thing.category],
                "file_name": f"{file.removesuffix('.jpg')}_{annotation_id}.jpg",
                "sent_ids": [sentences + step for step in range(len(texts))],
                "sentences": [
                    {"sent_id": sentences + step, "raw": text, "sent": text, "tokens": text.split()}
                    for step, text in enumerate(texts)
                ],
            }
            sentences += len(texts)
            umd.append(ref | {"split": split})
            google.append(ref | {"split": "val" if rng.random() < 0.1 else "train"})
    everything = instances | {"categories": [{"id": n, "name": c} for c, n in _IDS.items()]}
    (annotations / "instances.json").write_text(json.dumps(everything), encoding="utf-8")
    for split_by, refs in (("umd", umd), ("google", google)):
        (annotations / f"refs({split_by}).p").write_bytes(pickle.dumps(refs, protocol=2))
    return {"images": images, "objects": len(umd), "expressions": sentences}


def _mixed(
    found: Sequence[tuple[Any, str, str]], count: int, rng: Random
) -> list[tuple[Any, str, str]]:
    """Draw expressions, of rare kinds as often as of frequent ones."""
    kinds: dict[str, list[tuple[Any, str, str]]] = {}
    for expression in found:
        kinds.setdefault(expression[2], []).append(expression)
    chosen = []
    while kinds and len(chosen) < count:
        kind = rng.choice(sorted(kinds))
        chosen.append(kinds[kind].pop(rng.randrange(len(kinds[kind]))))
        if not kinds[kind]:
            del kinds[kind]
    return chosen


def _split(place: float, held_out: float) -> str:
    if place < 1 - 2 * held_out:
        return "train"
    return "val" if place < 1 - held_out else "test"
