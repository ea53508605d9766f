"""Fine-tuning a CLIP model, from images and expressions to a folder with new weights."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ...builder import build
from ...core.errors import ExpressionError, GroundingError, SourceError, StoreError
from ...core.paths import absolute_path
from ...core.reports import BuildOptions
from ...core.types import PathLike
from ...core.version import __version__
from ...data.expressions import ExpressionSet, read_expressions
from ...data.resolve import ImageNames
from ...data.sources import as_list, find_images
from ...indexing.consent import check_consent
from ...indexing.model_spec import absolute_model
from ...matching.pseudo.nouns import all_nouns
from ...models.clip_weights import hash_weights, load_open_clip
from ...models.device import resolve_device
from ...models.presets import BUNDLED
from ...storage.catalog import Catalog
from ...storage.rows import ImageRow
from ..run_folder import RunFolder, open_run
from .batches import RegionSampler
from .captions import read_captions
from .examples import DescribedImage, Sets, read_described, split_images
from .export import check_folder, write_folder
from .measure import compare, measure
from .options import ClipTuningOptions
from .region_cache import RegionCache, cache_regions
from .report import ClipTuning, model_card
from .shares import choose_share, interpolate
from .towers import ClipTowers
from .trainer import train_towers

__all__ = ["finetune_clip"]

_MOST_PHRASES_IN_BANK = 4000


def finetune_clip(
    source: PathLike | Iterable[PathLike],
    refs: PathLike,
    output: PathLike,
    *,
    clip: str | None = None,
    detector: str | None = None,
    splits: Sequence[str] | None = None,
    held_out: Sequence[str] = (),
    captions: PathLike | None = None,
    limit: int | None = None,
    device: str = "auto",
    options: ClipTuningOptions | None = None,
) -> ClipTuning:
    """Fine-tune a CLIP model on regions and what people call them.

    A run that is killed resumes when it is started again with the same arguments, and gives the
    same result. What it needs for that is in the folder ``OUTPUT.unfinished``.

    Parameters
    ----------
    source : path or iterable of paths
        An index, whose boxes are used, or images as for :func:`build`; of these, only those that
        expressions name are looked at.
    refs : path
        Expressions, as for :func:`read_expressions`.
    output : path
        Folder for the new model; it must not exist.
    clip : str, optional
        The model to start from, as for :func:`load_encoder`; that of the index, or nano.
    detector : str, optional
        For images: what finds further regions, nano if left out.
    splits : sequence of str, optional
        Splits to train on; all others by default.
    held_out : sequence of str
        Splits to choose and to measure with, half of their images each. Without any, a tenth of the
        images is held out for each.
    captions : path, optional
        Captions of images, to train with and to guard; see :func:`.captions.read_captions`.
    limit : int, optional
        Use at most this many images.
    device : str
        Where to train: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    options : ClipTuningOptions, optional
        Steps, rates, layers.

    Returns
    -------
    ClipTuning
        If ``kept_original`` is false, `output` is a folder that ``--clip`` takes.

    Raises
    ------
    GroundingError
        If an input cannot be used, or `output` exists already.
    """
    options = options or ClipTuningOptions()
    started = time.perf_counter()
    folder = Path(absolute_path(output))
    wanted = [*splits, *held_out] if splits else None
    expressions = read_expressions(refs, splits=wanted)
    sentences = read_captions(captions) if captions is not None else {}
    spec = _spec(source, clip)
    model, tokenizer = load_open_clip(spec)
    weights = hash_weights(sorted(model.state_dict().items()))
    facts = {
        "release": __version__,
        "images": [os.fspath(part) for part in as_list(source)],
        "detector": detector,
        "model": weights,
        "expressions": _digest([repr(expression) for expression in expressions]),
        "captions": _digest(sentences),
        "held-out splits": list(held_out),
        "limit": limit,
        "max-regions": options.max_regions,
        "layers": options.layers,
        "seed": options.seed,
    }
    _check_output(folder)
    with open_run(folder.with_name(f"{folder.name}.unfinished"), facts) as run:
        index = _index(run, source, expressions, spec, detector, device, options.progress)
        with contextlib.closing(Catalog(index)) as catalog:
            images, skipped = read_described(catalog, expressions, options.max_regions, sentences)
        if not images:
            reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
            raise ExpressionError(f"no expression of {refs} is about an image here ({reasons})")
        sets = _limited(split_images(images, options.seed, held_out), limit)
        _check_same(run, sets)
        towers = ClipTowers(model, tokenizer, options.layers, resolve_device(device))
        report = _tune(run, folder, spec, tokenizer, towers, sets, options)
        report.seconds = time.perf_counter() - started
        report.skipped = dict(skipped)
        if not report.kept_original:
            folder.parent.mkdir(parents=True, exist_ok=True)
            (run.path / "export").replace(folder)
            run.delete()
    return report


def _tune(
    run: RunFolder,
    folder: Path,
    spec: str,
    tokenizer: Any,
    towers: ClipTowers,
    sets: Sets,
    options: ClipTuningOptions,
) -> ClipTuning:
    """Train, choose, measure and write."""
    images, device = sets.all, towers.device
    cache = cache_regions(run, images, towers, options.progress)
    usable = [n for n, image in enumerate(images) if image.path not in cache.unusable]
    first, second = len(sets.training), len(sets.training) + len(sets.validation)
    training = [number for number in usable if number < first]
    validation = [number for number in usable if first <= number < second]
    test = [number for number in usable if number >= second]
    if not (training and validation and test):
        raise SourceError(
            f"{len(cache.unusable)} of {len(images)} images cannot be read or have changed, so too "
            f"few are left ({_reasons(cache)}); bring them back, or build the index again"
        )
    original = towers.state()
    towers.upper.cut_off()
    before = [measure(towers, cache, images, part) for part in (validation, test)]
    sampler = RegionSampler(images, training, cache.offsets, options.batch_images, options.seed)
    name = f"training-{_digest(options.as_dict())[:8]}"
    bank = _bank([images[number] for number in training])
    losses = train_towers(run, name, towers, sampler, cache, bank, options)
    report = ClipTuning(
        output=str(folder),
        started_from=spec,
        images=(len(training), len(validation), len(test)),
        phrases=sum(len(images[number].phrases) for number in training),
        unusable=dict(cache.unusable),
        options=options.as_dict(),
        losses=losses or [],
    )
    if losses is None:
        report.reason = "training diverged"
        return report
    tuned = towers.state()

    def load(share: float) -> None:
        mixed = interpolate(original, tuned, share) if share else original
        towers.model.load_state_dict({name: value.to(device) for name, value in mixed.items()})

    def measured_at(share: float) -> Any:
        load(share)
        return measure(towers, cache, images, validation)

    finite = all(bool(value.isfinite().all()) for value in tuned.values())
    if not finite:
        report.reason = "training diverged"
        return report
    verdict, report.shares = choose_share(before[0], measured_at)
    report.shares[0.0] = before[0].figures
    report.share, report.reason = verdict.chosen, verdict.reason
    load(verdict.chosen or 1.0)
    report.gains = compare(before[1], measure(towers, cache, images, test))
    if report.kept_original:
        return report
    final = {name: value.cpu() for name, value in towers.model.state_dict().items()}
    report.weights = hash_weights(sorted(final.items()))
    export = run.path / "export"
    write_folder(export, spec, towers.model, tokenizer, final, model_card(report))
    check_folder(export, towers, report.weights)
    return report


def _spec(source: PathLike | Iterable[PathLike], clip: str | None) -> str:
    """Return the model to start from; one that only an index names needs the user's consent."""
    if clip is not None:
        return str(absolute_model(clip))
    index = _as_index(source)
    if index is None:
        return BUNDLED
    with contextlib.closing(Catalog(index)) as catalog:
        name = catalog.setting("clip")
    if not isinstance(name, str):
        raise GroundingError(f"{index} was built with an encoder object; name a model with --clip")
    check_consent(index, "clip", name)
    return name


def _as_index(source: PathLike | Iterable[PathLike]) -> Path | None:
    parts = as_list(source)
    if len(parts) == 1 and Catalog.exists(path := Path(absolute_path(parts[0]))):
        return path
    return None


def _index(
    run: RunFolder,
    source: PathLike | Iterable[PathLike],
    expressions: ExpressionSet,
    spec: str,
    detector: str | None,
    device: str,
    progress: bool | None,
) -> Path:
    """Return the index that has the regions; for images, one in the run's folder is built."""
    if (index := _as_index(source)) is not None:
        return index
    paths = find_images(source)
    names = ImageNames(ImageRow(path, 1, 1, n, 0, path) for n, path in enumerate(paths))
    wanted = {row.path for e in expressions for row in names.find(e.image)}
    named = [path for path in paths if path in wanted]
    if not named:
        raise ExpressionError(f"no expression of {expressions.source} names one of these images")
    directory = run.path / "index"
    build(
        named, directory, detector=detector, clip=spec, device=device,
        options=BuildOptions(progress=progress),
    ).close()  # fmt: skip
    return directory


def _limited(sets: Sets, limit: int | None) -> Sets:
    """Return the first images of each set, in proportion; the order is drawn already."""
    total = len(sets.all)
    if limit is None or limit >= total:
        return sets
    parts = (sets.training, sets.validation, sets.test)
    return Sets(*(part[: max(1, round(limit * len(part) / total))] for part in parts))


def _check_same(run: RunFolder, sets: Sets) -> None:
    """Refuse to resume if the index has other images or boxes than when the run began."""
    described = _digest([[i.content_hash, i.boxes.tolist(), i.phrases] for i in sets.all])
    if run.load_json("described") not in (None, described):
        raise GroundingError(
            f"the index has changed since the unfinished run in {run.path} began; delete that "
            "folder to begin anew"
        )
    run.save_json("described", described)


def _check_output(folder: Path) -> None:
    if os.path.lexists(folder):
        raise StoreError(f"{folder} exists; name a new folder for the model")


def _bank(images: Iterable[DescribedImage]) -> list[str]:
    """Return phrases to remember: what people said, and the nouns and ImageNet classes we know."""
    from open_clip import IMAGENET_CLASSNAMES

    said = dict.fromkeys(phrase for image in images for phrase in image.phrases)
    return [
        *dict.fromkeys([*IMAGENET_CLASSNAMES, *all_nouns(), *list(said)[:_MOST_PHRASES_IN_BANK]])
    ]


def _reasons(cache: RegionCache) -> str:
    reasons = list(cache.unusable.values())
    return ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))


def _digest(value: Any) -> str:
    data = json.dumps(value, sort_keys=True).encode()
    return hashlib.blake2b(data, digest_size=16).hexdigest()
