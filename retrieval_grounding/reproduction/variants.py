"""An index with one pair of models: build it, train its matchers, evaluate them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..builder import build
from ..core.reports import BuildOptions
from ..evaluation.html_report import report_body
from ..evaluation.report import EvaluationReport
from ..evaluation.results import write_predictions
from ..index import Index
from ..matching.options import TrainingOptions
from ..models.detector import Detector
from ..models.encoder import Encoder
from ..storage.files import as_store_error, atomic_write_bytes

__all__ = ["Models", "Trained", "Variant"]

_BUNDLED, _COSINE = "bundled", "cosine+label"


@dataclass(frozen=True)
class Models:
    """What an index is built with: a preset, and what replaces a part of it.

    Parameters
    ----------
    preset : str or None
        Name of a preset.
    detector, clip : str or object, optional
        As for :func:`retrieval_grounding.build`.
    device : str
        Where they run.
    """

    preset: str | None
    detector: str | Detector | None = None
    clip: str | Encoder | None = None
    device: str = "auto"

    def facts(self) -> dict[str, Any]:
        """Return what identifies the models, for the stamp of a stage."""
        detector, clip = self.detector, self.clip
        return {
            "preset": self.preset,
            "detector": detector if detector is None or isinstance(detector, str) else
            detector.fingerprint,
            "clip": clip if clip is None or isinstance(clip, str) else str(clip.fingerprint),
        }  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A matcher to train: the classifier of the course project, or the library's.

    Parameters
    ----------
    kind : str
        ``"concat"``, on the first sentence of one object of an image, as the course project did;
        or ``"residual"``, on all expressions.
    set_name : str
        The way of splitting whose training images it learns from.
    """

    kind: Literal["concat", "residual"]
    set_name: str

    @property
    def name(self) -> str:
        """What the index calls it."""
        return f"{self.kind}-{self.set_name}"


class Variant:
    """An index in the folder of a run.

    Parameters
    ----------
    folder : Path
        Of the run.
    name : str
        Of the variant: ``"published"``, or what was fine-tuned.
    models : Models
        What builds it.
    """

    def __init__(self, folder: Path, name: str, models: Models) -> None:
        self.folder = folder
        self.name = name
        self.models = models
        self.index = folder / f"index-{name}"

    def build(self, images: Path) -> dict[str, Any]:
        """Build the index of listed images, or continue; return what was done as plain values."""
        models = self.models
        with build(
            images,
            self.index,
            preset=models.preset,
            detector=models.detector,
            clip=models.clip,
            device=models.device,
            options=BuildOptions(),
        ) as index:
            info, report = index.info(), index.build_report
        assert report is not None  # every build sets it
        return {
            "images": info["images"],
            "regions": info["regions"],
            "skipped": len(report.skipped),
            "embedded": report.embedded,
        }

    def train(
        self,
        wanted: Trained,
        expressions: Path,
        epochs: int,
        seed: int,
        held_out: Sequence[str] = (),
        any_encoder: bool = False,
    ) -> dict[str, Any]:
        """Train one matcher from the state in which the index was built; return its figures.

        The splits `held_out` decide what is kept; without any, a part of ``train`` does. With
        `any_encoder`, the network sees only how similar embeddings are.
        """
        with self._open() as index:
            known = {entry.name for entry in index.matchers()}
            if wanted.name in known:  # by a run that ended before it could record that
                index.remove_matcher(wanted.name)
            # One that was trained on another split may have seen this one's held-out images.
            index.use_matcher(_BUNDLED if _BUNDLED in known else _COSINE)
            plain = wanted.kind == "concat"
            fit = index.train(
                expressions,
                kind=wanted.kind,
                any_encoder=any_encoder,
                name=wanted.name,
                splits=["train"],
                held_out=held_out,
                first_sentence_only=plain,
                one_object_per_image=plain,
                options=TrainingOptions(epochs=epochs, seed=seed),
            )
        return fit.as_dict()

    def use(self, name: str) -> None:
        """Let the index answer by one of its matchers."""
        with self._open() as index:
            index.use_matcher(name)

    def evaluate(
        self,
        key: str,
        expressions: Path,
        split: str,
        matchers: Sequence[str],
        *,
        as_course: bool = False,
    ) -> dict[str, Any]:
        """Evaluate matchers on one split; write predictions and a part of the page beside it.

        Parameters
        ----------
        key : str
            Names the files.
        expressions : Path
            The file of expressions.
        split : str
            One of its splits; empty if it has none.
        matchers : sequence of str
            Their names; cosine, and cosine with labels, are always measured.
        as_course : bool
            Use the first sentence of one object of an image, as the course project did.
        """
        with self._open() as index:
            known = [entry.name for entry in index.matchers()]
            bundled = [_BUNDLED] if _BUNDLED in known else []
            report = index.evaluate(
                expressions,
                splits=[split],
                matchers=[*bundled, *(name for name in matchers if name in known)],
                first_sentence_only=as_course,
                one_object_per_image=as_course,
            )
        assert report.results is not None  # every evaluation sets it
        files = self.files(key)
        with as_store_error(files[0]):
            files[0].parent.mkdir(parents=True, exist_ok=True)
            atomic_write_bytes(files[1], report_body(report).encode("utf-8", "backslashreplace"))
        write_predictions(report.results, files[0])
        return _figures(report)

    def files(self, key: str) -> tuple[Path, Path]:
        """Return the predictions, and the part of the page, of an evaluation."""
        folder = self.folder / "evaluations"
        return folder / f"{self.name}-{key}.jsonl", folder / f"{self.name}-{key}.html"

    def _open(self) -> Index:
        return Index.open(self.index, encoder=self.models.clip, device=self.models.device)


def _figures(report: EvaluationReport) -> dict[str, Any]:
    """Return a report as plain values, with its tables as text, and without its cases."""
    plain = report.as_dict()
    for cases in ("best", "worst"):
        del plain[cases]
    tables = [
        {"title": table.title, "header": list(table.header), "rows": [list(r) for r in table.rows]}
        for table in report.tables()
    ]
    found: dict[str, Any] = json.loads(
        json.dumps(plain | {"tables": tables, "about": report.summary})
    )
    return found
