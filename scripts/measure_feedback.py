"""Measure what five thumbs for a phrase do, on images that nobody has judged, and to other phrases.

For each phrase that several images show, these images are divided. On one half, the best hits get
thumbs by what people have drawn. The phrase is searched for again, and the other half measured:
BoxRecall@10 is the share of the boxes that could be among the first ten hits and are. Then the
thumbs are undone.

    python scripts/measure_feedback.py --data ../shared --work /tmp/feedback
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import retrieval_grounding as rg
from retrieval_grounding.core.bootstrap import bootstrap_means
from retrieval_grounding.matching.nearness import meaning_of

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import scenes

TOP = 10
CORRECT_IOU = 0.5
OTHERS = 5
"""Other phrases that are searched for after each phrase's thumbs."""

Truth = dict[str, dict[str, list[tuple[float, float, float, float]]]]
"""The boxes of each phrase, by image."""


@dataclass(frozen=True)
class Setting:
    """An index, what its images show, and where it comes from."""

    name: str
    index: rg.Index
    truth: Truth


def truth_of(expressions: Iterable[rg.Expression], paths: Mapping[str, str]) -> Truth:
    """Return the boxes of phrases; a noun alone also means what people said more of."""
    truth: Truth = defaultdict(lambda: defaultdict(list))
    for expression in expressions:
        if (path := paths.get(expression.image)) is None:
            continue
        meaning = meaning_of(expression.phrase)
        names = {expression.phrase.lower().strip(" .")}
        if meaning.noun and not meaning.several:
            names.add(meaning.noun)
        for name in names:
            truth[name][path].append(expression.box)
    return truth


def photographs(data: Path, work: Path) -> Setting:
    """Return an index over the photographs that people described, built once."""
    folder = work / "refs"
    if not folder.exists():
        rg.build(data / "refs" / "images", folder)
    index = rg.Index.open(folder)
    paths = {Path(image.path).name: image.path for image in index.images()}
    expressions = rg.read_expressions(data / "refs" / "refs.jsonl")
    return Setting("photographs", index, truth_of(expressions, paths))


def drawn(work: Path, count: int) -> Setting:
    """Return an index of drawn scenes; its phrases are colors and shapes."""
    folder = work / "drawn"
    made = scenes.make_scenes(count, seed=3)
    scenes.write_scenes(made, work / "pictures", "scene")
    encoder = scenes.SceneEncoder()
    if folder.exists():
        index = rg.Index.open(folder, encoder=encoder)
    else:
        detector = scenes.SceneDetector(made)
        index = rg.build(work / "pictures", folder, detector=detector, clip=encoder)
    truth: Truth = defaultdict(lambda: defaultdict(list))
    for number, scene in enumerate(made):
        path = str((work / "pictures" / f"scene_{number:04d}.png").absolute())
        for thing in scene.shapes:
            for name in (thing.shape, f"{thing.color} {thing.shape}"):
                truth[name][path].append(thing.box)
    return Setting("drawn scenes", index, truth)


def search(index: rg.Index, phrase: str, feedback: bool) -> list[rg.Hit]:
    """Return the hits of all images."""
    every = len(index)
    return index.query(phrase, top=every, candidates=every, feedback=feedback)


def is_right(hit: rg.Hit, boxes: Sequence[tuple[float, ...]]) -> bool:
    """Return whether a hit is one of the boxes of its image."""
    if not boxes:
        return False
    overlaps = rg.pairwise_iou(np.array([hit.box], np.float32), np.array(boxes, np.float32))
    return float(overlaps.max()) >= CORRECT_IOU


def box_recall(
    hits: Iterable[rg.Hit], boxes: Mapping[str, Sequence[tuple[float, ...]]], images: set[str]
) -> float:
    """Return the share of the images that show it whose box is among the first ten hits."""
    first = [hit for hit in hits if hit.image in images][:TOP]
    found = sum(is_right(hit, boxes.get(hit.image, ())) for hit in first)
    return found / min(TOP, sum(image in images for image in boxes))


def halves(setting: Setting, phrase: str, rng: np.random.Generator) -> tuple[set[str], set[str]]:
    """Return two halves of the images, each with half of those that show the phrase."""
    shown = list(setting.truth[phrase])
    others = [image.path for image in setting.index.images() if image.path not in shown]
    first: set[str] = set()
    for paths in (shown, others):
        first |= {paths[place] for place in rng.permutation(len(paths))[: len(paths) // 2]}
    return first, {*shown, *others} - first


def measure(
    setting: Setting, thumbs: int, least: int, most: int, seed: int
) -> tuple[list[dict[str, float]], int]:
    """Return a row for each phrase, and how many hits of other phrases have changed."""
    index, truth = setting.index, setting.truth
    rng = np.random.default_rng(seed)
    phrases = sorted(phrase for phrase, boxes in truth.items() if len(boxes) >= least)
    phrases = [phrases[place] for place in rng.permutation(len(phrases))[:most]]
    plain = {phrase: search(index, phrase, feedback=False) for phrase in phrases}
    rows, changed = [], 0
    for phrase in phrases:
        judged, held_out = halves(setting, phrase, rng)
        boxes, before = truth[phrase], plain[phrase]
        row = {"before": box_recall(before, boxes, held_out)}
        given = []
        for number, hit in enumerate([hit for hit in before if hit.image in judged][:thumbs], 1):
            verdict = "up" if is_right(hit, boxes.get(hit.image, ())) else "down"
            given.append(index.feedback.add(hit, verdict))
            if number in (1, thumbs):
                after = search(index, phrase, feedback=True)
                row[f"after {number}"] = box_recall(after, boxes, held_out)
        row["up"] = sum(entry.verdict == "up" for entry in given)
        row["all before"] = box_recall(before, boxes, judged | held_out)
        row["all after"] = box_recall(after, boxes, judged | held_out)
        far = [p for p in phrases if meaning_of(p)[:2] != meaning_of(phrase)[:2]]
        near = [p for p in phrases if p not in far and p != phrase]
        drawn_others = [far[place] for place in rng.permutation(len(far))[:OTHERS]]
        drawn_others += [near[place] for place in rng.permutation(len(near))[:OTHERS]]
        others = [(search(index, p, feedback=True), plain[p]) for p in drawn_others]
        changed += sum(new != old for new, old in others)
        every = judged | held_out
        pairs = zip(others, drawn_others, strict=True)
        gains = [
            box_recall(new, truth[p], every) - box_recall(old, truth[p], every)
            for (new, old), p in pairs
        ]
        row["others"] = float(np.mean(gains)) if gains else 0.0
        for entry in given:
            index.feedback.undo(entry.id)
        assert search(index, phrase, feedback=True) == before
        rows.append(row)
    return rows, changed


def report(setting: Setting, rows: list[dict[str, float]], changed: int, thumbs: int) -> Table:
    """Return the figures as a table, with 95% intervals over phrases."""
    table = Table("", "BoxRecall@10", "gain", title=f"{setting.name}: {len(rows)} phrases")
    numbers = np.arange(len(rows))
    values = {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def add(name: str, column: str, base: str) -> None:
        both = np.stack([values[column], values[column] - values[base]], axis=1)
        mean, gain = bootstrap_means(both, numbers)
        shown = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        table.add_row(name, f"{mean.value:.3f}", "" if column == base else shown)

    add("held-out images, before", "before", "before")
    add("held-out images, after 1 thumb", "after 1", "before")
    add(f"held-out images, after {thumbs} thumbs", f"after {thumbs}", "before")
    add("all images, before", "all before", "all before")
    add(f"all images, after {thumbs} thumbs", "all after", "all before")
    [others] = bootstrap_means(values["others"][:, None], numbers)
    gain = f"{others.value:+.3f} [{others.low:+.3f}, {others.high:+.3f}]"
    table.add_row(f"other phrases ({changed} answers differ)", "", gain)
    table.caption = f"{values['up'].mean():.1f} of {thumbs} thumbs are up"
    return table


def main() -> None:
    """Print a table for photographs and one for drawn scenes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--work", type=Path, required=True, help="where indexes are kept")
    parser.add_argument("--thumbs", type=int, default=5)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--least", type=int, default=4, help="images that show a phrase, at least")
    parser.add_argument("--most", type=int, default=60, help="phrases, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["photographs", "drawn"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    found = {}
    settings = []
    if options.only != "photographs":
        settings.append(drawn(options.work, options.scenes))
    if options.only != "drawn":
        settings.append(photographs(options.data, options.work))
    for setting in settings:
        rows, changed = measure(setting, options.thumbs, options.least, options.most, options.seed)
        Console().print(report(setting, rows, changed, options.thumbs))
        found[setting.name] = {"rows": rows, "changed": changed}
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
