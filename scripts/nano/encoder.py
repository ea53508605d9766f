"""Train nano's dual encoder: EfficientNet-Lite0 and a shortened MiniLM in one space.

The lower layers of the image tower stay as ImageNet left them, so their output is computed once
for every crop. The text tower first learns to say what its teacher says. Then three stages train
the two projections, first with the text tower, then alone, and last with the upper image layers.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from open_clip import IMAGENET_CLASSNAMES
from torch import nn
from torch.nn import functional

from .export import DIMENSION, INPUT_SIZE, image_tower, write_folder
from .features import WHOLE, Crops, cache_crops, lower_layers
from .pairs import Batch, PairSampler, held_out_photos
from .text_tower import Student, Teacher, distil, prune_vocabulary
from .texts import COCO_NAMES, Caption, class_words, read_captions

FROZEN_STAGES = 5

_LESSON_BATCH = 37
_LESSON_CAPTIONS = 16_000
_LESSON_EPOCHS = 3
_LESSON_RATE = 4e-4
_HIGHEST_SCALE = math.log(60)
_NAME_WEIGHT = 0.5
_PROMPTS = ("{}", "a {}", "a photo of a {}", "the {}")


@dataclass(frozen=True)
class Stage:
    """One stage of joint training.

    Parameters
    ----------
    part : str
        What is trained beside the two projections: ``"text"`` tower, upper ``"image"`` layers, or
        ``"none"``.
    steps : int
        Number of batches.
    captions, phrases : int
        Whole photographs with a caption, and crops with a phrase, in a batch.
    rate, head_rate : float
        Peak learning rates of the part and of the projections.
    dropout : float
        Share of the towers' outputs that is dropped before the projections.
    """

    part: Literal["text", "image", "none"]
    steps: int
    captions: int
    phrases: int
    rate: float
    head_rate: float
    dropout: float = 0.0


STAGES = (
    Stage("text", 160, 75, 149, 1e-4, 1e-3),
    # With both towers fixed, each phrase and crop is computed once and a step is nearly free.
    Stage("none", 1200, 768, 224, 0.0, 2e-3, dropout=0.1),
    Stage("image", 360, 128, 112, 4e-4, 4e-4),
)


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
        device=device, seed=seed,
    )  # fmt: skip


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
    names = [*COCO_NAMES, *class_words(), *IMAGENET_CLASSNAMES]
    master = Teacher(teacher, device)
    vocabulary = prune_vocabulary(master, [*texts, *nouns, *names * 3])
    student = Student(master, vocabulary).to(device)
    words = [word for word in vocabulary if word.isalpha() and len(word) > 2]
    few = np.random.default_rng(seed).choice(
        texts, min(len(texts), _LESSON_CAPTIONS), replace=False
    )
    phrases = [*few.tolist(), *nouns, *words, *names]
    lesson = Lesson(phrases, master.embed(phrases))
    distil(student, phrases, lesson.states, epochs=_LESSON_EPOCHS, rate=_LESSON_RATE, seed=seed)
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
    """
    torch.manual_seed(seed)
    held_out = held_out_photos(captions, seed)
    training = [caption for caption in captions if caption.photo not in held_out]
    sampler = PairSampler(crops, training, held_out, seed)
    joint = JointTraining(tower, student, lesson, device, seed)
    pooled = joint.pool(crops.features)
    for stage in STAGES:
        joint.run(sampler, crops.features if stage.part == "image" else pooled, stage)
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
        width = student.config.hidden_size
        middle = (width + DIMENSION) // 2  # as open_clip's "mlp" projection has it
        self.text_head = nn.Sequential(
            nn.Linear(width, middle, bias=False),
            nn.GELU(),
            nn.Linear(middle, DIMENSION, bias=False),
        ).to(device)
        self.log_scale = nn.Parameter(torch.tensor(math.log(14.0), device=device))
        self.generator = np.random.default_rng(seed)
        self._heard: dict[str, torch.Tensor] = {}

    @torch.inference_mode()
    def pool(self, features: np.ndarray) -> np.ndarray:
        """Return what the upper layers make of cached features, float16 (n, width)."""
        parts = [self.upper(self._images(features[start : start + 64], flip=False)).half().cpu()
                 for start in range(0, len(features), 64)]  # fmt: skip
        pooled: np.ndarray = torch.cat(parts).numpy()
        return pooled

    def run(self, sampler: PairSampler, features: np.ndarray, stage: Stage) -> None:
        """Train on pairs of crop and text.

        Parameters
        ----------
        sampler : PairSampler
            Draws the batches.
        features : float16 array of shape (n, ...)
            Output of the frozen layers if the stage trains image layers, else pooled features.
        stage : Stage
            What to train, how long.
        """
        part = {"text": self.student, "image": self.upper, "none": nn.Identity()}[stage.part]
        heads = [*self.image_head.parameters(), *self.text_head.parameters()]
        groups: list[dict[str, Any]] = [
            {"params": heads, "lr": stage.head_rate},
            {"params": [self.log_scale], "lr": 1e-3, "weight_decay": 0.0},
        ]
        if stage.part != "none":
            groups.append({"params": [*part.parameters()], "lr": stage.rate})
        began = time.monotonic()
        for step, optimizer in _steps(groups, stage.steps):
            batches = (sampler.draw_captions(stage.captions), sampler.draw(stage.phrases))
            images = self._images(features[np.concatenate([batch.crops for batch in batches])])
            if stage.part == "image":
                images = self.upper(images)
            prompt = _PROMPTS[self.generator.integers(len(_PROMPTS))]
            classes = [prompt.format(name) for name in COCO_NAMES]
            phrases = [*batches[0].texts, *batches[1].texts, *classes]
            spoken = (self._speak if stage.part == "text" else self._recall)(phrases)
            shown = functional.normalize(self.image_head(_drop(images, stage.dropout)), dim=-1)
            said = functional.normalize(self.text_head(_drop(spoken, stage.dropout)), dim=-1)
            sizes = [stage.captions, stage.phrases]
            captioned, cropped = shown.split(sizes)
            captions, named, classes_said = said.split([*sizes, len(classes)])
            whole = self._pair_loss(captioned, captions, batches[0])
            pairs = self._pair_loss(cropped, named, batches[1])
            names = self._name_loss(cropped, classes_said, batches[1])
            loss = whole + pairs + _NAME_WEIGHT * names
            if stage.part == "text":
                loss = loss + self._lesson_loss()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            for group in groups:
                nn.utils.clip_grad_norm_(group["params"], 1.0)
            optimizer.step()
            if step % 20 == 0:
                print(
                    f"{stage.part} {step} / {stage.steps}: captions {whole:.3f} "
                    f"phrases {pairs:.3f} names {names:.3f}, {time.monotonic() - began:.0f} s",
                    flush=True,
                )

    def save(self, folder: Path) -> None:
        """Write the open_clip folder with weights in half precision."""
        folder.mkdir(parents=True, exist_ok=True)
        copy.deepcopy(self.student).save(folder)  # saving strips the tokenizer's padding
        parts = {
            "text.transformer.": self.student.transformer.state_dict(),
            "visual.head.proj.": self.image_head.state_dict(),
            "text.proj.": self.text_head.state_dict(),
            "": {"logit_scale": self.log_scale.detach()},
        }
        write_folder(folder, self.tower, parts, self.student.config.vocab_size)

    def _images(self, values: np.ndarray, *, flip: bool = True) -> torch.Tensor:
        images = torch.from_numpy(values).to(self.device).float()
        if images.ndim == 2:
            return images  # pooled already
        if flip:
            mirrored = torch.from_numpy(self.generator.random(len(values)) < 0.5).to(self.device)
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        return images.contiguous(memory_format=torch.channels_last)

    def _scale(self) -> torch.Tensor:
        return self.log_scale.clamp(max=_HIGHEST_SCALE).exp()

    def _pair_loss(self, shown: torch.Tensor, said: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Contrastive loss in both directions, without the pairs that are unclear."""
        unclear = torch.from_numpy(batch.unclear).to(self.device)
        logits = (self._scale() * shown @ said.T).masked_fill(unclear, -1e4)
        own = torch.arange(len(logits), device=self.device)
        both = functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)
        return both / 2

    def _name_loss(self, shown: torch.Tensor, classes: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Loss of naming regions among the 80 classes."""
        labels = torch.from_numpy(batch.labels).to(self.device)
        known = labels != WHOLE
        logits = self._scale() * shown[known] @ classes.T
        return functional.cross_entropy(logits, labels[known], label_smoothing=0.05)

    def _lesson_loss(self) -> torch.Tensor:
        rows = self.generator.integers(len(self.lesson.phrases), size=_LESSON_BATCH)
        said = self._speak([self.lesson.phrases[row] for row in rows])
        wanted = self.lesson.states[rows].to(self.device)
        return 1 - functional.cosine_similarity(said, wanted).mean()

    def _speak(self, phrases: list[str]) -> torch.Tensor:
        """Return the text tower's pooled states, computed in groups of similar length."""
        order = np.argsort([len(phrase) for phrase in phrases], kind="stable")
        groups = np.array_split(order, -(-len(phrases) // 64))
        states = torch.cat([self.student([phrases[row] for row in group]) for group in groups])
        return states[torch.from_numpy(np.argsort(order)).to(self.device)]

    @torch.no_grad()
    def _recall(self, phrases: list[str]) -> torch.Tensor:
        """Return states like `_speak`, each phrase's computed once: the text tower is fixed."""
        new = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._heard]
        if new:
            self._heard.update(zip(new, self._speak(new), strict=True))
        return torch.stack([self._heard[phrase] for phrase in phrases])


def _drop(values: torch.Tensor, share: float) -> torch.Tensor:
    return functional.dropout(values, share, training=share > 0)


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
