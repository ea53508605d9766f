"""Train nano's dual encoder: EfficientNet-Lite0 and a shortened MiniLM in one space.

The lower layers of the image tower stay as ImageNet left them, so their output is computed once
for every crop. The text tower first learns to say what its teacher says; then the two projections
and the text tower are trained on pooled features, and last the upper image layers with them.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from .features import WHOLE, Crops, cache_crops, fold_batch_norm, lower_layers
from .pairs import Batch, PairSampler, held_out_photos
from .text_tower import CONTEXT, Student, Teacher, distil, prune_vocabulary
from .texts import COCO_NAMES, Caption, class_words, read_captions

IMAGE_TOWER = "tf_efficientnet_lite0"
INPUT_SIZE = 160
DIMENSION = 256
FROZEN_STAGES = 5

_BATCH = 224
_HIGHEST_SCALE = math.log(60)
_NAME_WEIGHT = 0.5
_TEACHER_WEIGHT = 1.0
_PROMPTS = ("{}", "a {}", "a photo of a {}", "the {}")


@dataclass(frozen=True)
class Schedule:
    """Lengths of the two joint stages in batches, and peak learning rates."""

    heads: int = 200
    towers: int = 600
    text_rate: float = 1e-4
    image_rate: float = 4e-4
    head_rate: float = 1e-3


@dataclass(frozen=True)
class Lesson:
    """What the teacher says: phrases and its pooled states (n, 384)."""

    phrases: list[str]
    states: torch.Tensor


def train_encoder(
    photos: Path,
    labels: Path,
    output: Path,
    *,
    image_weights: Path,
    teacher: Path,
    device: str,
    seed: int,
) -> None:
    """Train the encoder and write it as a folder that open_clip loads.

    Parameters
    ----------
    photos : Path
        Folder of photographs with ``captions.tsv``.
    labels : Path
        Pseudo-labels of these photographs (npz with names, counts, rows).
    output : Path
        Folder for the model; files of the same names are replaced.
    image_weights : Path
        ImageNet weights of EfficientNet-Lite0, the ``.pth`` of their package.
    teacher : Path
        Folder of MiniLM-L6-v2 in the form of `transformers`.
    device : str
        ``"cpu"`` or a CUDA device.
    seed : int
        For every random choice. It alone decides which thousand photographs are held out:
        `held_out_photos` names them.
    """
    tower = image_tower(image_weights)
    lower = lower_layers(tower, FROZEN_STAGES)
    crops = cache_crops(photos, labels, lower, INPUT_SIZE, device)
    captions = read_captions(photos / "captions.tsv")
    student, lesson = teach_student(captions, teacher, device=device, seed=seed)
    fit(
        crops, captions, tower=tower, student=student, lesson=lesson, output=output,
        device=device, seed=seed, schedule=Schedule(),
    )  # fmt: skip


def image_tower(weights: Path) -> nn.Module:
    """Return EfficientNet-Lite0 with ImageNet weights and BatchNorm folded away."""
    published = torch.load(weights, map_location="cpu", weights_only=True)
    tower = timm.create_model(IMAGE_TOWER)
    names = list(tower.state_dict())
    tower.load_state_dict(dict(zip(names, published.values(), strict=True)))
    tower.reset_classifier(0)
    tower.eval()
    fold_batch_norm(tower)
    return tower


def teach_student(
    captions: list[Caption], teacher: Path, *, device: str, seed: int
) -> tuple[Student, Lesson]:
    """Cut the text tower down and teach it the teacher's states.

    The lesson holds noun phrases, some captions and every whole word of the vocabulary, so that
    words that no caption uses keep their meaning.
    """
    torch.manual_seed(seed)
    held_out = held_out_photos(captions, seed)
    training = [caption for caption in captions if caption.photo not in held_out]
    texts = sorted({caption.text for caption in training})
    nouns = sorted({phrase for caption in training for phrase in caption.noun_phrases})
    names = [*COCO_NAMES, *class_words()]
    master = Teacher(teacher, device)
    vocabulary = prune_vocabulary(master, [*texts, *nouns, *names * 3])
    student = Student(master, vocabulary).to(device)
    words = [word for word in vocabulary if word.isalpha() and len(word) > 2]
    few = np.random.default_rng(seed).choice(texts, min(len(texts), 6000), replace=False)
    phrases = [*few.tolist(), *nouns, *words, *names]
    lesson = Lesson(phrases, master.embed(phrases))
    distil(student, phrases, lesson.states, epochs=1, rate=3e-4, seed=seed)
    return student, lesson


def fit(
    crops: Crops,
    captions: list[Caption],
    *,
    tower: nn.Module,
    student: Student,
    lesson: Lesson,
    output: Path,
    device: str,
    seed: int,
    schedule: Schedule,
) -> None:
    """Train both towers on cached crops and write the model folder after each stage.

    Parameters
    ----------
    crops : Crops
        Cached output of the frozen layers of `tower`.
    captions : list of Caption
        Those of the same photographs.
    tower : nn.Module
        What `image_tower` returned; changed in place.
    student : Student
        Text tower, taught before; changed in place.
    lesson : Lesson
        What it was taught.
    output : Path
        Folder for the model.
    device : str
        Where to train.
    seed : int
        For every random choice.
    schedule : Schedule
        Lengths and rates.
    """
    torch.manual_seed(seed)
    held_out = held_out_photos(captions, seed)
    training = [caption for caption in captions if caption.photo not in held_out]
    sampler = PairSampler(crops, training, held_out, seed)
    joint = JointTraining(tower, student, lesson, device, seed)
    pooled = joint.pool(crops.features)
    joint.run(sampler, pooled, schedule.heads, schedule, heads_only=True)
    joint.save(output)
    joint.run(sampler, crops.features, schedule.towers, schedule, heads_only=False)
    joint.save(output)


class JointTraining:
    """Both towers, their projections and the losses.

    Parameters
    ----------
    tower : nn.Module
        Image tower without classifier, BatchNorm folded.
    student : Student
        Text tower.
    lesson : Lesson
        Kept in mind while training.
    device : str
        Where to train.
    seed : int
        For prompts and flips.
    """

    def __init__(
        self, tower: nn.Module, student: Student, lesson: Lesson, device: str, seed: int
    ) -> None:
        self.device = device
        self.tower = tower.to(device).eval()
        self.student = student.to(device)
        self.lesson = lesson
        upper = [*tower.blocks[FROZEN_STAGES:], tower.conv_head, tower.bn2, tower.global_pool]
        self.upper = nn.Sequential(*upper).to(memory_format=torch.channels_last)
        self.image_head = nn.Linear(tower.num_features, DIMENSION, bias=False).to(device)
        self.text_head = nn.Linear(student.config.hidden_size, DIMENSION, bias=False).to(device)
        self.log_scale = nn.Parameter(torch.tensor(math.log(14.0), device=device))
        self.generator = np.random.default_rng(seed)

    @torch.inference_mode()
    def pool(self, features: np.ndarray) -> np.ndarray:
        """Return what the upper layers make of cached features, float16 (n, width)."""
        parts = [self.upper(self._images(features[start : start + 64], flip=False)).half().cpu()
                 for start in range(0, len(features), 64)]  # fmt: skip
        pooled: np.ndarray = torch.cat(parts).numpy()
        return pooled

    def run(
        self,
        sampler: PairSampler,
        features: np.ndarray,
        steps: int,
        schedule: Schedule,
        *,
        heads_only: bool,
    ) -> None:
        """Train on `steps` batches of crop and text.

        Parameters
        ----------
        sampler : PairSampler
            Draws the batches.
        features : float16 array of shape (n, ...)
            Pooled features where `heads_only`, else output of the frozen layers.
        steps : int
            Number of batches.
        schedule : Schedule
            Learning rates.
        heads_only : bool
            Leave the image tower as it is and train its projection.
        """
        heads = [*self.image_head.parameters(), *self.text_head.parameters()]
        groups: list[dict[str, Any]] = [
            {"params": [*self.student.parameters()], "lr": schedule.text_rate},
            {"params": heads, "lr": schedule.head_rate * (1 if heads_only else 0.4)},
            {"params": [self.log_scale], "lr": schedule.head_rate, "weight_decay": 0.0},
        ]
        if not heads_only:
            groups.append({"params": [*self.upper.parameters()], "lr": schedule.image_rate})
        began = time.monotonic()
        for step, optimizer in _steps(groups, steps):
            batch = sampler.draw(_BATCH)
            if heads_only:
                images = torch.from_numpy(features[batch.crops]).to(self.device).float()
            else:
                images = self.upper(self._images(features[batch.crops], flip=True))
            pairs, names = self._losses(images, batch)
            lesson = self._lesson_loss()
            loss = pairs + _NAME_WEIGHT * names + _TEACHER_WEIGHT * lesson
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            for group in groups:
                nn.utils.clip_grad_norm_(group["params"], 1.0)
            optimizer.step()
            if step % 20 == 0:
                print(
                    f"{'heads' if heads_only else 'towers'} {step} / {steps}: pairs {pairs:.3f} "
                    f"names {names:.3f} lesson {lesson:.3f} scale {self.log_scale.exp():.1f}, "
                    f"{time.monotonic() - began:.0f} s",
                    flush=True,
                )

    def save(self, folder: Path) -> None:
        """Write the open_clip folder with weights in half precision."""
        folder.mkdir(parents=True, exist_ok=True)
        copy.deepcopy(self.student).save(folder)  # saving strips the tokenizer's padding
        tower = timm.create_model(IMAGE_TOWER, num_classes=0)
        _unfold(self.tower, tower)
        state = {f"visual.trunk.{name}": value for name, value in tower.state_dict().items()}
        text = self.student.transformer.state_dict()
        state |= {f"text.transformer.{name}": value for name, value in text.items()}
        state["visual.head.proj.weight"] = self.image_head.weight
        state["text.proj.weight"] = self.text_head.weight
        state["logit_scale"] = self.log_scale
        half = {
            name: (value.half() if value.is_floating_point() else value).detach().cpu()
            for name, value in state.items()
            if not name.endswith("position_ids")
        }
        contiguous = {name: value.contiguous() for name, value in half.items()}
        partial = folder / "open_clip_model.part"
        save_file(contiguous, partial, {"format": "pt"})
        partial.replace(folder / "open_clip_model.safetensors")
        settings = json.dumps(_configuration(self.student.config.vocab_size), indent=2)
        (folder / "open_clip_config.json").write_text(f"{settings}\n", encoding="utf-8")

    def _images(self, values: np.ndarray, *, flip: bool) -> torch.Tensor:
        images = torch.from_numpy(values).to(self.device).float()
        if flip:
            mirrored = torch.from_numpy(self.generator.random(len(values)) < 0.5).to(self.device)
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        return images.contiguous(memory_format=torch.channels_last)

    def _losses(self, images: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Contrastive loss in both directions, and that of naming the 80 classes."""
        prompt = _PROMPTS[self.generator.integers(len(_PROMPTS))]
        spoken = self._speak([*batch.texts, *(prompt.format(name) for name in COCO_NAMES)])
        spoken = functional.normalize(self.text_head(spoken), dim=-1)
        texts, classes = spoken[: len(batch.texts)], spoken[len(batch.texts) :]
        images = functional.normalize(self.image_head(images), dim=-1)
        scale = self.log_scale.clamp(max=_HIGHEST_SCALE).exp()
        unclear = torch.from_numpy(batch.unclear).to(self.device)
        logits = (scale * images @ texts.T).masked_fill(unclear, -1e4)
        own = torch.arange(len(logits), device=self.device)
        pairs = functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)
        labels = torch.from_numpy(batch.labels).to(self.device)
        known = labels != WHOLE
        names = functional.cross_entropy(
            scale * images[known] @ classes.T, labels[known], label_smoothing=0.05
        )
        return pairs / 2, names

    def _lesson_loss(self) -> torch.Tensor:
        rows = self.generator.integers(len(self.lesson.phrases), size=_BATCH // 6)
        said = self._speak([self.lesson.phrases[row] for row in rows])
        wanted = self.lesson.states[rows].to(self.device)
        return 1 - functional.cosine_similarity(said, wanted).mean()

    def _speak(self, phrases: list[str]) -> torch.Tensor:
        """Return the text tower's pooled states, computed in groups of similar length."""
        order = np.argsort([len(phrase) for phrase in phrases], kind="stable")
        groups = np.array_split(order, -(-len(phrases) // 64))
        states = torch.cat([self.student([phrases[row] for row in group]) for group in groups])
        return states[torch.from_numpy(np.argsort(order)).to(self.device)]


def _steps(groups: list[dict[str, Any]], count: int) -> Iterator[tuple[int, torch.optim.Optimizer]]:
    """Yield step numbers while the rates rise for a twentieth and fall as a cosine."""
    optimizer = torch.optim.AdamW(groups, weight_decay=0.02, betas=(0.9, 0.98))
    rise = max(1, count // 20)
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / rise, 0.505 + 0.495 * math.cos(math.pi * step / count)),
    )
    for step in range(count):
        yield step, optimizer
        rates.step()


def _unfold(folded: nn.Module, tower: nn.Module) -> None:
    """Copy convolutions that carry a bias into a tower with a BatchNorm after each."""
    sources = [module for module in folded.modules() if isinstance(module, nn.Conv2d)]
    targets = [module for module in tower.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in tower.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for source, target, norm in zip(sources, targets, norms, strict=True):
            target.weight.copy_(source.weight)
            norm.weight.fill_((1 + norm.eps) ** 0.5)
            norm.bias.copy_(source.bias)


def _configuration(vocabulary: int) -> dict[str, Any]:
    """Return open_clip's description; ``.`` as a name means the folder itself."""
    image = {
        "image_size": INPUT_SIZE,
        "timm_model_name": IMAGE_TOWER,
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
    }
    text = {
        "context_length": CONTEXT,
        "vocab_size": vocabulary,
        "hf_model_name": ".",
        "hf_tokenizer_name": ".",
        "hf_model_pretrained": False,
        "hf_proj_type": "linear",
        "hf_pooler_type": "mean_pooler",
    }
    preprocess = {
        "size": [INPUT_SIZE, INPUT_SIZE],
        "mode": "RGB",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    model = {"embed_dim": DIMENSION, "vision_cfg": image, "text_cfg": text}
    return {"model_cfg": model, "preprocess_cfg": preprocess}
