"""The stages that retrain the encoder on human boxes, each from what the one before has written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from retrieval_grounding.models.detector import DetectorSettings
from retrieval_grounding.models.yolo import UltralyticsDetector

from .choose_share import choose_share
from .dual_encoder import DualEncoder, interpolate
from .entities import left_out_photos, photo_paths, read_entities, read_human_boxes
from .finetune import fine_tune
from .measures import Development
from .pairs import held_out_photos
from .region_batches import RegionSampler
from .regions import RegionCache, cache_regions, open_regions
from .texts import Caption, read_captions

TEACHER_SETTINGS = DetectorSettings(max_boxes=20, image_size=384)  # the photographs are small

_WITH_NANO = 2000


@dataclass(frozen=True)
class Workplace:
    """Where the data are and where the stages leave what they make.

    Parameters
    ----------
    data : Path
        Folder of the development data.
    work : Path
        Folder of intermediate results.
    device : str
        ``"cpu"`` or a CUDA device.
    seed : int
        Of every random choice. It alone decides which thousand photographs are held out.
    """

    data: Path
    work: Path
    device: str
    seed: int

    @property
    def former(self) -> Path:
        """A copy of the encoder that fine-tuning starts from."""
        return self.work / "former-clip"

    @property
    def regions(self) -> Path:
        """Regions of the teacher's detections."""
        return self.work / "regions-teacher"

    @property
    def nano_regions(self) -> Path:
        """Regions of the bundled detector's detections, of some of the photographs."""
        return self.work / "regions-nano"

    @property
    def tuned(self) -> Path:
        """Weights of the fine-tuned encoder."""
        return self.work / "tuned.pt"

    @cached_property
    def captions(self) -> list[Caption]:
        """The captions of all photographs."""
        return read_captions(self.data / "train_photos" / "captions.tsv")

    @cached_property
    def left_out(self) -> frozenset[str]:
        """The photographs that nothing is trained on."""
        return left_out_photos(self.data, self.captions, self.seed)

    @cached_property
    def held_out(self) -> frozenset[str]:
        """The thousand photographs of `held_out_photos`."""
        return held_out_photos(self.captions, self.seed)

    def load_former(self) -> DualEncoder:
        """Return the former encoder on the device."""
        return DualEncoder(self.former).to(self.device)


def keep_former(place: Workplace, former: Path, *, renew: bool) -> None:
    """Copy the encoder to start from, since the stage interpolate may replace the files in it.

    A copy that is there is kept unless it is to be renewed: after the stage interpolate, the
    bundled encoder is no longer the one that the regions and the new weights belong to.
    """
    if renew or not place.former.exists():
        partial = place.work / "former-clip.part"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(former, partial)
        shutil.rmtree(place.former, ignore_errors=True)
        partial.replace(place.former)


def run_regions(place: Workplace, teacher: Path, nano: Path, limit: int | None) -> None:
    """Cache the regions of photographs by two detectors.

    Parameters
    ----------
    place : Workplace
        Where to read and write.
    teacher, nano : Path
        Checkpoints of the detectors.
    limit : int or None
        Take only so many training photographs, and a quarter as many for development.
    """
    encoder = place.load_former()
    paths = photo_paths(place.data)
    if limit is not None:
        paths = _a_few(place, paths, limit)
    human = read_human_boxes(place.data)
    detector = UltralyticsDetector(teacher, TEACHER_SETTINGS, place.device)
    cache_regions(place.regions, paths, human, encoder, detector)
    left_out = place.left_out
    trained = [path for path in paths if path.name not in left_out]
    order = np.random.default_rng(place.seed).permutation(len(trained))[:_WITH_NANO]
    some = [trained[number] for number in sorted(order)]
    detector = UltralyticsDetector(nano, DetectorSettings(), place.device)
    cache_regions(place.nano_regions, some, {}, encoder, detector)


def run_finetune(place: Workplace, steps: int) -> None:
    """Fine-tune the former encoder and write the new weights."""
    cache, former = open_cache(place.regions), place.load_former()
    left_out, seed = place.left_out, place.seed
    captions = [caption for caption in place.captions if caption.photo not in left_out]
    phrases = read_entities(place.data, "train")
    sampler = RegionSampler(cache, phrases, captions, left_out, seed)
    print(sampler, flush=True)
    tuned = fine_tune(former, cache, sampler, captions, steps=steps, seed=seed)
    partial = place.tuned.with_suffix(".part")
    weights = {name: value.cpu() for name, value in tuned.state_dict().items()}
    torch.save({"former": former.weights, "weights": weights}, partial)
    partial.replace(place.tuned)


def run_interpolate(place: Workplace, output: Path) -> None:
    """Choose the share of the new weights, and write the encoder as an open_clip folder."""
    if not place.tuned.exists():
        raise SystemExit(f"error: {place.tuned} is missing; run the stage finetune first")
    former, tuned = place.load_former(), place.load_former()
    learned = torch.load(place.tuned, map_location=place.device, weights_only=True)
    if learned["former"] != former.weights:
        raise SystemExit(f"error: {place.tuned} began with another encoder; run finetune again")
    tuned.load_state_dict(learned["weights"])
    development = Development(
        open_cache(place.regions),
        read_entities(place.data, "val"),
        place.captions,
        place.held_out,
    )
    share = choose_share(former, tuned, development)
    (place.work / "share.json").write_text(json.dumps({"share": share}) + "\n", encoding="utf-8")
    if share:
        interpolate(former, tuned, share).save(output, place.former)
    elif output.resolve() != place.former.resolve():
        shutil.copytree(place.former, output, dirs_exist_ok=True)


def open_cache(folder: Path) -> RegionCache:
    """Open cached regions, or end with a sentence that says how to make them."""
    if not folder.exists():
        raise SystemExit(f"error: {folder} is missing; run the stage regions first")
    return open_regions(folder)


def _a_few(place: Workplace, paths: Sequence[Path], limit: int) -> list[Path]:
    """Return some photographs with human boxes, of Entities val, and of the held-out ones."""
    left_out = place.left_out
    described = read_entities(place.data, "train").keys() - left_out
    groups = ((described, limit), (read_entities(place.data, "val"), limit // 4),
              (place.held_out, limit // 4))  # fmt: skip
    chosen = [path for names, most in groups for path in _first(paths, names, most)]
    return sorted(set(chosen), key=lambda path: path.name)


def _first(paths: Sequence[Path], names: Collection[str], most: int) -> list[Path]:
    """Return the first `most` paths whose names are among `names`."""
    return [path for path in paths if path.name in names][:most]
