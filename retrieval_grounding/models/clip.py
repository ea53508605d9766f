"""open_clip's dual encoders."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..core.fork import ForkSafeLock
from ..core.phrases import clean_phrase
from ..core.regions import Regions
from .clip_towers import load_towers
from .cpu_pool import cpu_pool
from .device import resolve_device
from .encoder import Fingerprint, FloatArray
from .gpu_resize import crop, upload
from .image_tower import ImageTower
from .streams import own_stream
from .text_tower import knows_a_word

if TYPE_CHECKING:
    import torch

__all__ = ["OpenClipEncoder", "load_encoder"]


_Crop = tuple[Image.Image, tuple[float, float, float, float]]

_CROPS_ON_GPU = 512
_CROPS_PER_THREAD = 4
"""The activations of so few stay in the cache; 64 at once are a quarter slower."""

_CACHED_PHRASES = 1 << 16
_FEW_PHRASES = 4
_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class OpenClipEncoder:
    """A dual encoder of open_clip.

    Each region is cut from the decoded image and squashed to the square input of the image tower.
    A center crop, which CLIP uses for photographs, would cut off the ends of long objects.

    Parameters
    ----------
    spec : str
        ``"nano"``, ``"MODEL:PRETRAINED"`` with a tag of open_clip or the path of a local
        checkpoint, ``"hf-hub:ORG/NAME"``, or a folder that holds ``open_clip_config.json`` and
        weights.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``. On a GPU, transformers run in float16.

    Raises
    ------
    ModelError
        If the name is unknown, or the weights are missing, unreachable or of another model.
    """

    def __init__(self, spec: str = "nano", device: str = "auto") -> None:
        import torch

        self.device = resolve_device(device)
        self._on_gpu = self.device.startswith("cuda")
        towers = load_towers(spec, self.device)
        config = towers.preprocessing
        self.input_size: int = int(np.max(config["size"]))
        named = config["interpolation"]
        self._interpolation = named if named in _RESAMPLING else "bicubic"
        self._mean = torch.tensor(config["mean"], device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(config["std"], device=self.device).view(1, 3, 1, 1)
        self.fingerprint = Fingerprint(
            spec,
            towers.weights,
            f"squash {self.input_size} {named} "
            f"mean {_join(config['mean'])} std {_join(config['std'])}",
        )
        self._text = towers.text
        self._tower = ImageTower(towers.load_image_tower, self.input_size, self.device)
        self._phrases: OrderedDict[str, FloatArray] = OrderedDict()
        self._lock = ForkSafeLock()
        self.dimension = len(self.encode_phrases(["a"])[0])

    def load_image_tower(self) -> None:
        """Load what embeds regions, which otherwise happens when the first are embedded.

        Raises
        ------
        ModelError
            If it cannot be loaded.
        """
        self._tower.load()

    def encode_regions(
        self, images: Sequence[Image.Image], regions: Sequence[Regions]
    ) -> FloatArray:
        """Embed every region of every image, in batches that span images.

        Parameters
        ----------
        images : sequence of PIL images
            Mode RGB, upright.
        regions : sequence of Regions
            Those of each image.

        Returns
        -------
        float32 array of shape (n, d)
            Unit length; n is the number of regions of all images together.
        """
        count = sum(map(len, regions))
        if not count:
            return np.zeros((0, self.dimension), np.float32)
        self._tower.load()  # here, since inference mode would mark its weights
        if self._on_gpu:
            return self._encode_on_gpu(images, regions)
        self._tower.convert_for(count)
        crops: list[_Crop] = [
            (image, (box[0], box[1], box[2], box[3]))
            for image, own in zip(images, regions, strict=True)
            for box in own.boxes.tolist()
        ]
        if self.device != "cpu":  # mps, xpu: crops are cut out here and embedded there
            steps = range(0, count, _CROPS_ON_GPU)
            return np.concatenate(
                [self._encode_crops(crops[start : start + _CROPS_ON_GPU]) for start in steps]
            )
        pool = cpu_pool()
        each = min(_CROPS_PER_THREAD, -(-count // pool.size))
        parts = [crops[start : start + each] for start in range(0, count, each)]
        return np.concatenate(pool.map(self._encode_crops, parts))

    def _encode_crops(self, crops: list[_Crop]) -> FloatArray:
        """Cut out, scale and embed a few regions on the CPU."""
        import torch

        size, method = (self.input_size, self.input_size), _RESAMPLING[self._interpolation]
        pixels = np.stack(
            [np.asarray(image.resize(size, method, box, reducing_gap=2.0)) for image, box in crops]
        )
        with torch.inference_mode():
            batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device).float()
            batch = self._normalized(batch)
            result: FloatArray = self._tower(batch).cpu().numpy()
        return result

    def _encode_on_gpu(
        self, images: Sequence[Image.Image], regions: Sequence[Regions]
    ) -> FloatArray:
        """Cut out, scale and embed on the GPU; only embeddings come back."""
        import torch

        pairs = [pair for pair in zip(images, regions, strict=True) if len(pair[1])]
        ends = np.cumsum([len(found) for _, found in pairs])
        groups = np.split(np.arange(len(pairs)), np.flatnonzero(np.diff(ends // _CROPS_ON_GPU)) + 1)
        parts: list[torch.Tensor] = []
        with torch.inference_mode(), own_stream(self.device):
            for group in groups:
                pixels = [upload(pairs[number][0], self.device) for number in group]
                boxes = [pairs[number][1].boxes for number in group]
                crops = crop(pixels, boxes, self.input_size, self._interpolation)
                parts.append(self._tower(self._normalized(crops)))
            result: FloatArray = torch.cat(parts).cpu().numpy()
        return result

    def _normalized(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalize pixels of 0 to 255 in place, as the tower was trained."""
        return pixels.sub_(self._mean * 255).div_(self._std * 255)

    @property
    def library(self) -> str:
        """Name of the library that runs the image tower in a build."""
        return self._tower.library

    def knows(self, phrase: str) -> bool:
        """Return whether the tokenizer knows a word of a phrase, function words aside.

        Examples
        --------
        >>> nano = load_encoder("nano")
        >>> [nano.knows(phrase) for phrase in ("a red bus", "der bus", "xxxx", "собака", "the")]
        [True, True, False, False, False]
        """
        return knows_a_word(self._text, phrase)

    def encode_phrases(self, phrases: Sequence[str]) -> FloatArray:
        """Embed phrases; recent ones come from a cache.

        Raises
        ------
        PhraseError
            If a phrase is empty or not text.
        """
        cleaned = [clean_phrase(phrase) for phrase in phrases]
        with self._lock:
            known = {phrase: self._phrases[phrase] for phrase in cleaned if phrase in self._phrases}
            missing = [phrase for phrase in dict.fromkeys(cleaned) if phrase not in known]
            if missing:
                few = self.device == "cpu" and len(missing) <= _FEW_PHRASES
                embed = functools.partial(self._embed_text, missing)
                # A few are not worth PyTorch's threads, which would spin beside what comes next.
                embeddings = cpu_pool().run(embed) if few else embed()
                known.update(zip(missing, embeddings, strict=True))
            for phrase, embedding in known.items():
                self._phrases[phrase] = embedding
                self._phrases.move_to_end(phrase)
            while len(self._phrases) > _CACHED_PHRASES:
                self._phrases.popitem(last=False)
        rows = [known[phrase] for phrase in cleaned]
        return np.stack(rows) if rows else np.zeros((0, self.dimension), np.float32)

    def _embed_text(self, phrases: list[str]) -> FloatArray:
        import torch

        parts = []
        with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=self._on_gpu):
            for start in range(0, len(phrases), 256):
                parts.append(self._text.embed(phrases[start : start + 256]).float().cpu())
        embeddings: FloatArray = torch.cat(parts).numpy()
        return embeddings


@functools.lru_cache(maxsize=2)
def load_encoder(spec: str = "nano", device: str = "auto") -> OpenClipEncoder:
    """Load an encoder; the last two are kept in memory. See :class:`OpenClipEncoder`."""
    return OpenClipEncoder(spec, device)


def _join(values: Sequence[float]) -> str:
    return "/".join(f"{value:.4g}" for value in values)
