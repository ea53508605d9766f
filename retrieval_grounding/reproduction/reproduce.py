"""A benchmark from end to end: the stages, in order, and what each depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import GroundingError
from ..core.version import __version__
from .finetuned import FINETUNED, finetune
from .ladder import Step, measure_steps
from .locate import Located
from .machine import describe_machine
from .prepare import expression_file, image_list, prepare, source_facts
from .report import write_reports
from .stages import Stage, Stages, open_stages
from .variants import Models, Trained, Variant

__all__ = ["ReproductionOptions", "reproduce"]

_TRAIN, _VAL = "train", "val"
_PUBLISHED = "published"


@dataclass(frozen=True)
class ReproductionOptions:
    """What to reproduce with.

    Parameters
    ----------
    models : Models
        The published models.
    limit : int or None
        About how many images to use; all if None.
    finetune : sequence of str
        What to fine-tune before the matchers are trained: ``"yolo"``, ``"clip"``.
    epochs : int
        Passes over the expressions when a matcher is trained, over the images when a YOLO is
        fine-tuned, and at most so many over the images when a CLIP model is.
    seed : int
        Seed of every random choice.

    Raises
    ------
    GroundingError
        If a value is out of range.
    """

    models: Models
    limit: int | None = None
    finetune: Sequence[str] = ()
    epochs: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if unknown := set(self.finetune) - set(FINETUNED):
            raise GroundingError(
                f"{sorted(unknown)[0]!r} cannot be fine-tuned; choose of {', '.join(FINETUNED)}"
            )
        if self.limit is not None and self.limit < 1:
            raise GroundingError(f"the limit must be at least 1, not {self.limit}")


def reproduce(
    located: Located,
    folder: Path,
    options: ReproductionOptions,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Build, train and evaluate on a benchmark, and write ``report.html``, ``.json`` and ``.md``.

    Every stage is done once: a run that was killed, or is repeated, continues after the last
    stage that was finished, and ends with the same figures.

    Parameters
    ----------
    located : Located
        The data.
    folder : Path
        For everything that is made; new, or of an earlier run.
    options : ReproductionOptions
        What to reproduce with.
    say : callable
        Takes a line about each stage.

    Returns
    -------
    dict
        The content of ``report.json``.

    Raises
    ------
    GroundingError
        If the data or the models cannot be used, or the folder has other files.
    """
    with open_stages(folder, say) as stages:
        return _Run(located, folder, options, stages).report()


class _Run:
    def __init__(
        self, located: Located, folder: Path, options: ReproductionOptions, stages: Stages
    ) -> None:
        self._located = located
        self._folder = folder
        self._options = options
        self._stages = stages

    def report(self) -> dict[str, Any]:
        """Do what has not been done, and write the reports."""
        options, stages = self._options, self._stages
        data = stages.run(
            "prepare",
            {
                "version": __version__,
                "limit": options.limit,
                "data": source_facts(self._located),
            },
            lambda: prepare(self._located, self._folder, options.limit),
            [image_list(self._folder), *map(self._expressions, self._located.sources)],
        )
        variants, built = self._variants(data)
        trained = self._train(variants[-1], built[-1])
        evaluations: dict[str, dict[str, Any]] = {}
        for variant, state in zip(variants, built, strict=True):
            last = variant is variants[-1]
            matchers = trained if last else []
            evaluations[variant.name] = self._evaluate(variant, state, data, matchers)
        report = {
            "dataset": self._located.name,
            "title": self._located.title,
            "reference": self._located.reference,
            "models": options.models.facts(),
            "limit": options.limit,
            "finetuned": list(options.finetune),
            "data": data.result,
            "indexes": {v.name: state.result for v, state in zip(variants, built, strict=True)},
            "finetuning": {s.name: s.result for s in stages.done if s.name.startswith("finetune-")},
            "training": {stage.name: stage.result for stage in trained},
            "evaluations": evaluations,
            "steps": self._steps(variants, evaluations),
            "stages": [
                {"name": s.name, "seconds": s.seconds, "interrupted": s.interrupted}
                for s in stages.done
            ],
            "machine": describe_machine(),
        }
        write_reports(report, self._folder, {v.name: v.files for v in variants})
        return report

    def _expressions(self, set_name: str) -> Path:
        return expression_file(self._folder, set_name)

    def _variants(self, data: Stage) -> tuple[list[Variant], list[Stage]]:
        """Build with the published models, and again with each model that is fine-tuned."""
        models = self._options.models
        variants = [Variant(self._folder, _PUBLISHED, models)]
        built = [self._build(variants[0], data)]
        name = next(iter(self._located.sources))
        for kind in self._options.finetune:
            done = self._finetune(kind, variants[-1], built[-1], name)
            weights: str | None = done.result["weights"]
            if weights is None:
                continue  # the original is better
            if kind == "yolo":
                models = replace(models, detector=weights)
            else:
                models = replace(models, clip=weights)
            variants.append(Variant(self._folder, kind, models))
            built.append(self._build(variants[-1], data))
        return variants, built

    def _finetune(self, kind: str, variant: Variant, built: Stage, set_name: str) -> Stage:
        splits = self._stages.done[0].result["sets"][set_name]["splits"]
        epochs, seed = self._options.epochs, self._options.seed
        return self._stages.run(
            f"finetune-{kind}",
            {"built": built.stamp, "kind": kind, "epochs": epochs, "seed": seed},
            lambda: finetune(
                kind,
                variant.models,
                variant.index,
                self._expressions(set_name),
                self._folder / f"finetuned-{kind}",
                splits,
                epochs=epochs,
                seed=seed,
            ),
        )

    def _build(self, variant: Variant, data: Stage) -> Stage:
        return self._stages.run(
            f"build-{variant.name}",
            {"data": data.stamp, "models": variant.models.facts()},
            lambda: variant.build(image_list(self._folder)),
            [variant.index / "catalog.sqlite"],
        )

    def _train(self, variant: Variant, built: Stage) -> list[Stage]:
        """Train both matchers for every way of splitting; use the first residual."""
        options, stages = self._options, []
        encoder_tuned = variant.models.clip != options.models.clip
        wanted = [
            Trained(kind, name)
            for name in self._located.sources
            if _TRAIN in self._splits(name)
            for kind in ("concat", "residual")
        ]
        for matcher in wanted:
            # Images that have trained the encoder look easier than they are, to cosine above all.
            # One that sees only similarities can start from the bundled matcher for all encoders.
            similar_only = encoder_tuned and matcher.kind == "residual"
            apart = [_VAL] if encoder_tuned and _VAL in self._splits(matcher.set_name) else []
            facts = {
                "built": built.stamp,
                "matcher": matcher.name,
                "epochs": options.epochs,
                "seed": options.seed,
                "held_out": apart,
                "any_encoder": similar_only,
            }
            stages.append(
                self._stages.run(
                    f"train-{matcher.name}",
                    facts,
                    lambda matcher=matcher, apart=apart, similar=similar_only: variant.train(  # type: ignore[misc]
                        matcher,
                        self._expressions(matcher.set_name),
                        options.epochs,
                        options.seed,
                        apart,
                        similar,
                    ),
                )
            )
        first = next((stage for stage in stages if stage.result["kind"] == "residual"), None)
        if first is not None and first.result["installed"]:
            variant.use(first.result["name"])
        return stages

    def _splits(self, set_name: str) -> list[str]:
        prepared = self._stages.done[0].result
        return list(prepared["sets"][set_name]["splits"])

    def _evaluate(
        self, variant: Variant, built: Stage, data: Stage, trained: Sequence[Stage]
    ) -> dict[str, Any]:
        """Evaluate on every split but those for training, by the matchers trained beside it."""
        found: dict[str, dict[str, Any]] = {}
        for name in self._located.sources:
            splits = [split for split in self._splits(name) if split != _TRAIN]
            jobs = [(split, False) for split in splits]
            if splits and self._located.reference is not None and not found:
                jobs.append((_main_split(splits), True))
            for split, as_course in jobs:
                parts = (name, split, "course" if as_course else "")
                key = "-".join(part for part in parts if part)
                matchers = [s.result["name"] for s in trained if s.name.endswith(f"-{name}")]
                matchers = [matcher for matcher in matchers if matcher]
                stage = self._stages.run(
                    f"evaluate-{variant.name}-{key}",
                    {
                        "data": data.stamp,
                        "built": built.stamp,
                        "trained": [stage.stamp for stage in trained],
                        "matchers": matchers,
                    },
                    lambda key=key, name=name, split=split, matchers=matchers, course=as_course: (  # type: ignore[misc]
                        variant.evaluate(
                            key, self._expressions(name), split, matchers, as_course=course
                        )
                    ),
                    variant.files(key),
                )
                found[key] = stage.result
        return found

    def _steps(
        self, variants: Sequence[Variant], evaluations: dict[str, dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Measure what each step adds, on the main split of the first way of splitting."""
        name = next(iter(self._located.sources))
        splits = [split for split in self._splits(name) if split != _TRAIN]
        if not splits:
            return []
        key = "-".join(part for part in (name, _main_split(splits)) if part)
        titles = {_PUBLISHED: "published models, cosine"} | FINETUNED
        steps = [Step(titles[v.name], v.files(key)[0], "cosine") for v in variants]
        last = variants[-1]
        shown = evaluations[last.name][key]["figures"]
        for matcher, title in (
            (f"residual-{name}", "matcher trained on the expressions"),
            ("bundled", "bundled matcher"),
        ):
            if matcher in shown:
                steps.append(Step(title, last.files(key)[0], matcher))
                break
        return measure_steps(steps)


def _main_split(splits: Sequence[str]) -> str:
    """Return the split whose figures papers quote first."""
    return next((split for split in ("test", "testA", "val") if split in splits), splits[-1])
