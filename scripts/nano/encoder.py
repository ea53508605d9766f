"""Train nano's dual encoder: EfficientNet-Lite0 and a shortened MiniLM in one space.

The lower layers of the image tower stay as ImageNet left them, so their output is computed once
for every crop. The text tower first learns to say what its teacher says. Then three stages train
the projections: alone, with the upper image layers, and with the text tower.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from open_clip import IMAGENET_CLASSNAMES
from torch import nn
from torch.nn import functional

from .export import DIMENSION, TRAINING_SIZE, image_tower, write_folder
from .features import WHOLE, cache_crops, lower_layers
from .lesson import Lesson, teach_student
from .pairs import Batch, PairSampler, held_out_photos
from .text_tower import Student
from .texts import COCO_NAMES, read_captions

FROZEN_STAGES = 5

_LESSON_BATCH = 32
_LESSON_WEIGHT = 3.0
_HIGHEST_SCALE = math.log(60)
_NAME_WEIGHT = 0.5
_PROMPTS = ("{}", "a {}", "a photo of a {}", "the {}")
_SPOKEN_CLASSES = 24
_REMEMBERED = 1500
_SMALLEST_WINDOW = 0.75


@dataclass(frozen=True)
class Stage:
    """One stage of joint training.

    Parameters
    ----------
    part : str
        What is trained beside the two projections: upper ``"image"`` layers, the ``"text"``
        tower, or ``"none"``.
    steps : int
        Number of batches.
    captions, phrases : int
        Whole photographs with a caption, and crops with a phrase, in a batch.
    rate, head_rate : float
        Peak learning rates of the part and of the projections.
    decay : float
        Weight decay.
    average : float
        The weights that are kept are running averages with this decay; 0 keeps the last.
    """

    part: Literal["text", "image", "none"]
    steps: int
    captions: int
    phrases: int
    rate: float
    head_rate: float
    decay: float = 0.05
    average: float = 0.0


STAGES = (
    # With both towers fixed, each phrase and crop is computed once and a step is nearly free.
    Stage("none", 400, 768, 448, 0.0, 2e-3, decay=0.02),
    Stage("image", 500, 144, 144, 4e-4, 6e-4, average=0.998),
    Stage("text", 250, 160, 80, 8e-5, 3e-4, average=0.995),
    Stage("none", 160, 768, 448, 0.0, 5e-4, average=0.98),
)


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
    tower, classifier = image_tower(image_weights)
    crops = cache_crops(photos, labels, lower_layers(tower, FROZEN_STAGES), TRAINING_SIZE, device)
    captions = read_captions(photos / "captions.tsv")
    student, lesson = teach_student(captions, teacher, device=device, seed=seed)
    torch.manual_seed(seed)
    held_out = held_out_photos(captions, seed)
    training = [caption for caption in captions if caption.photo not in held_out]
    sampler = PairSampler(crops, training, held_out, seed)
    joint = JointTraining(tower, classifier, student, lesson, device, seed)
    joint.recognize(crops.features)
    for stage in STAGES:
        features = crops.features if stage.part == "image" else joint.pool(crops.features)
        joint.run(sampler, features, stage)
        joint.save(output)


class JointTraining:
    """Both towers, their projections and the losses.

    Parameters
    ----------
    tower : nn.Module
        Image tower without classifier, BatchNorm folded.
    classifier : nn.Linear
        The classifier that ImageNet has taught on top of it, for the thousand classes.
    student : Student
        Text tower.
    lesson : Lesson
        Kept in mind while training.
    device : str
        Where to train.
    seed : int
        For prompts, flips and windows.
    """

    def __init__(
        self,
        tower: nn.Module,
        classifier: nn.Linear,
        student: Student,
        lesson: Lesson,
        device: str,
        seed: int,
    ) -> None:
        self.device = device
        self.tower = tower.to(device).eval()
        self.classifier = classifier.to(device)
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
        self._known_states: dict[str, torch.Tensor] = {}
        self._recognized = torch.empty(0)

    @torch.inference_mode()
    def pool(self, features: np.ndarray) -> np.ndarray:
        """Return what the upper layers make of cached features, float16 (n, width)."""
        parts = [self.upper(self._maps(features[start : start + 16])).half().cpu()
                 for start in range(0, len(features), 16)]  # fmt: skip
        pooled: np.ndarray = torch.cat(parts).numpy()
        return pooled

    @torch.inference_mode()
    def recognize(self, features: np.ndarray) -> None:
        """Remember which ImageNet classes the untrained tower sees in each crop."""
        pooled = torch.from_numpy(self.pool(features))
        self._recognized = torch.cat(
            [self.classifier(part.float().to(self.device)).softmax(-1).half().cpu()
             for part in pooled.split(2048)]
        )  # fmt: skip

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
        trained = nn.ModuleList([self.image_head, self.text_head])
        parts = {"text": self.student, "image": self.upper}
        groups: list[dict[str, Any]] = [
            {"params": [*trained.parameters()], "lr": stage.head_rate},
            {"params": [self.log_scale], "lr": stage.head_rate, "weight_decay": 0.0},
        ]
        if stage.part in parts:
            groups.append({"params": [*parts[stage.part].parameters()], "lr": stage.rate})
            trained.append(parts[stage.part])
        average = {name: value.clone() for name, value in trained.state_dict().items()}
        gallery = _Gallery(sampler, features, stage, self)
        began = time.monotonic()
        for step, optimizer in _steps(groups, stage.steps, stage.decay):
            batches = (sampler.draw_captions(stage.captions), sampler.draw(stage.phrases))
            losses = self._losses(batches, features, stage, gallery)
            optimizer.zero_grad(set_to_none=True)
            sum(losses.values()).backward()
            for group in groups:
                nn.utils.clip_grad_norm_(group["params"], 1.0)
            optimizer.step()
            kept = min(stage.average, (1 + step) / (10 + step))
            with torch.no_grad():
                for name, value in trained.state_dict().items():
                    if value.is_floating_point():
                        average[name].lerp_(value, 1 - kept)
            if step % 20 == 0:
                summary = " ".join(
                    f"{name} {float(loss.detach()):.3f}" for name, loss in losses.items()
                )
                seconds = time.monotonic() - began
                print(
                    f"{stage.part} {step} / {stage.steps}: {summary}, {seconds:.0f} s", flush=True
                )
        trained.load_state_dict(average)

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

    def shown(self, images: torch.Tensor, *, dropout: float) -> torch.Tensor:
        """Return unit-length embeddings of pooled images."""
        return functional.normalize(self.image_head(_drop(images, dropout)), dim=-1)

    def _losses(
        self, batches: tuple[Batch, Batch], features: np.ndarray, stage: Stage, gallery: _Gallery
    ) -> dict[str, torch.Tensor]:
        rows = np.concatenate([batch.crops for batch in batches])
        images = torch.from_numpy(features[rows]).to(self.device).float()
        if stage.part == "image":
            images = self.upper(self._varied(images))
        classes = self._classes(COCO_NAMES)
        every = np.arange(len(IMAGENET_CLASSNAMES))
        few = stage.part == "text"  # speaking a thousand names at each step would take too long
        numbers = self.generator.choice(every, _SPOKEN_CLASSES, replace=False) if few else every
        phrases = [
            *batches[0].texts, *batches[1].texts, *classes,
            *self._classes([IMAGENET_CLASSNAMES[number] for number in numbers]),
        ]  # fmt: skip
        losses = {}
        if stage.part == "text":
            spoken, losses["lesson"] = self._speak_and_repeat(phrases)
        else:
            spoken = self._recall(phrases)
        shown = self.shown(images, dropout=0.2)
        said = functional.normalize(self.text_head(_drop(spoken, 0.1)), dim=-1)
        sizes = [stage.captions, stage.phrases]
        captioned, cropped = shown.split(sizes)
        captions, named, names, known = said.split([*sizes, len(classes), len(numbers)])
        losses["captions"] = gallery.loss(captioned, captions, batches[0], self._scale())
        losses["phrases"] = self._pair_loss(cropped, named, batches[1])
        losses["names"] = _NAME_WEIGHT * self._name_loss(cropped, names, batches[1])
        seen = self._recognized[rows][:, numbers].to(self.device).float()
        losses["imagenet"] = _soft_loss(self._scale() * shown @ known.T, seen)
        return losses

    def _maps(self, values: np.ndarray) -> torch.Tensor:
        images = torch.from_numpy(np.asarray(values)).to(self.device).float()
        return images.contiguous(memory_format=torch.channels_last)

    def _varied(self, images: torch.Tensor) -> torch.Tensor:
        """Mirror half of the maps and cut a window, the same for all, from them."""
        mirrored = torch.from_numpy(self.generator.random(len(images)) < 0.5).to(self.device)
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        side = images.shape[-1]
        window = int(self.generator.integers(math.ceil(_SMALLEST_WINDOW * side), side + 1))
        top, left = self.generator.integers(0, side - window + 1, 2)
        cut = images[:, :, top : top + window, left : left + window]
        return cut.contiguous(memory_format=torch.channels_last)

    def _scale(self) -> torch.Tensor:
        return self.log_scale.clamp(max=_HIGHEST_SCALE).exp()

    def _classes(self, names: Sequence[str]) -> list[str]:
        prompt = _PROMPTS[self.generator.integers(len(_PROMPTS))]
        return [prompt.format(name) for name in names]

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

    def _speak_and_repeat(self, phrases: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the states of `phrases`, and how far a part of the lesson is forgotten."""
        rows = self.generator.integers(len(self.lesson.phrases), size=_LESSON_BATCH)
        states = self._phrase_states([*phrases, *(self.lesson.phrases[row] for row in rows)])
        wanted = self.lesson.states[torch.from_numpy(rows)].to(self.device)
        angle = 1 - functional.cosine_similarity(states[len(phrases) :], wanted).mean()
        return states[: len(phrases)], _LESSON_WEIGHT * angle

    def _phrase_states(self, phrases: list[str]) -> torch.Tensor:
        """Return the text tower's pooled states, computed in groups of similar length."""
        order = np.argsort([len(phrase) for phrase in phrases], kind="stable")
        groups = np.array_split(order, -(-len(phrases) // 64))
        states = torch.cat([self.student([phrases[row] for row in group]) for group in groups])
        return states[torch.from_numpy(np.argsort(order)).to(self.device)]

    @torch.no_grad()
    def _recall(self, phrases: list[str]) -> torch.Tensor:
        """Return `_phrase_states`, computed once for each phrase: the text tower is fixed."""
        new = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._known_states]
        if new:
            self._known_states.update(zip(new, self._phrase_states(new), strict=True))
        return torch.stack([self._known_states[phrase] for phrase in phrases])


class _Gallery:
    """More photographs for the captions of a batch to be contrasted with.

    While image layers are trained, these are the pairs of recent batches (Wang et al.,
    Cross-batch memory, 2020); with fixed pooled features, simply all photographs; in the first
    stage, whose batches are large, none.
    """

    def __init__(
        self, sampler: PairSampler, features: np.ndarray, stage: Stage, joint: JointTraining
    ) -> None:
        self._joint = joint
        self._part = stage.part
        self._photos = sampler.photos
        self._recent: tuple[torch.Tensor, torch.Tensor, np.ndarray] | None = None
        if stage.part == "text":
            self._place = {int(row): place for place, row in enumerate(sampler.wholes)}
            self._all = torch.from_numpy(features[sampler.wholes]).to(joint.device).float()

    def loss(
        self, shown: torch.Tensor, said: torch.Tensor, batch: Batch, scale: torch.Tensor
    ) -> torch.Tensor:
        """Return the contrastive loss of photographs and captions in both directions."""
        own = torch.arange(len(said), device=said.device)
        if self._part == "text":
            place = torch.tensor([self._place[int(row)] for row in batch.crops], device=own.device)
            every = self._joint.shown(self._all, dropout=0.2)
            found = functional.cross_entropy(scale * said @ every.T, place)
            return (found + functional.cross_entropy(scale * shown @ said.T, own)) / 2
        photos = self._photos[batch.crops]
        images = texts = scale * shown @ said.T
        texts = texts.T
        if self._recent is not None:
            old_shown, old_said, old_photos = self._recent
            same = torch.from_numpy(photos[:, None] == old_photos[None]).to(own.device)
            more = (scale * shown @ old_said.T).masked_fill(same, -1e4)
            images = torch.cat([images, more], dim=1)
            more = (scale * said @ old_shown.T).masked_fill(same, -1e4)
            texts = torch.cat([texts, more], dim=1)
        if self._part == "image":
            self._remember(shown.detach(), said.detach(), photos)
        return (functional.cross_entropy(images, own) + functional.cross_entropy(texts, own)) / 2

    def _remember(self, shown: torch.Tensor, said: torch.Tensor, photos: np.ndarray) -> None:
        if self._recent is not None:
            shown = torch.cat([shown, self._recent[0]])
            said = torch.cat([said, self._recent[1]])
            photos = np.concatenate([photos, self._recent[2]])
        self._recent = shown[:_REMEMBERED], said[:_REMEMBERED], photos[:_REMEMBERED]


def _soft_loss(logits: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy to soft targets, each row weighing as much as its targets do."""
    return -(shares * functional.log_softmax(logits, dim=-1)).sum(-1).mean()


def _drop(values: torch.Tensor, share: float) -> torch.Tensor:
    return functional.dropout(values, share, training=share > 0)


def _steps(
    groups: list[dict[str, Any]], count: int, decay: float
) -> Iterator[tuple[int, torch.optim.Optimizer]]:
    """Yield step numbers while the rates rise for a twentieth and fall as a cosine."""
    optimizer = torch.optim.AdamW(groups, weight_decay=decay, betas=(0.9, 0.98))
    rise = max(1, count // 20)
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / rise, 0.505 + 0.495 * math.cos(math.pi * step / count)),
    )
    for step in range(count):
        yield step, optimizer
        rates.step()
