"""The commands ``info`` and ``models``."""

from __future__ import annotations

from typing import Any

from ..core.text import counted
from ..models.presets import PRESETS
from .build_report import print_skipped, skipped_as_dicts
from .logs import Verbose
from .options import IndexDirectory, Json
from .output import print_json, print_table

__all__ = ["info", "models"]


def info(index: IndexDirectory, as_json: Json = False, verbose: Verbose = 0) -> None:
    """Show what an index holds, which models built it, and which files were skipped.

    --json also has fingerprints and the measurements of the vector index.

    Example: retrieval-grounding info indexes/pictures
    """
    from ..index import Index

    opened = Index.open(index)
    facts = opened.info()
    if as_json:
        print_json(facts | {"skipped_files": skipped_as_dicts(opened.skipped())})
        return
    rows = [
        ("images", f"{facts['images']:,}"),
        ("regions", f"{facts['regions']:,}{', groups included' if facts['groups'] else ''}"),
        ("size on disk", f"{facts['bytes'] / 1e6:,.1f} MB"),
        ("detector", facts["detector"] or facts["detector_fingerprint"]),
        ("encoder", facts["clip"] or facts["encoder_fingerprint"]),
        ("matcher", _describe_matcher(facts)),
        ("vector index", _describe_vectors(facts["vectors"])),
        ("devices", facts["runs"]),
    ]
    due = facts["vectors"].get("reindex_because")
    rows += [("to do", f"retrieval-grounding reindex {index}, because {due}")] if due else []
    print_table(("", ""), rows)
    print_skipped(opened.skipped())


def models(as_json: Json = False, verbose: Verbose = 0) -> None:
    """List the presets: pairs of a detector and a CLIP model."""
    if as_json:
        print_json([vars(preset) for preset in PRESETS.values()])
        return
    rows = [(p.name, p.detector, p.clip, p.summary) for p in PRESETS.values()]
    print_table(("preset", "detector", "clip", ""), rows)


def _describe_vectors(facts: dict[str, Any]) -> str:
    """Return the kind of the vector index, and how queries search if that differs."""
    kind, search, unindexed = facts["kind"], facts["search"], facts["unindexed_shards"]
    text = str(kind) if search == kind else f"{kind}; queries use {search}"
    return f"{text}; {counted(unindexed, 'shard')} not yet in it" if unindexed else text


def _describe_matcher(facts: dict[str, Any]) -> str:
    """Return which matcher ranks regions, as in "bundled (residual)"."""
    name, kind, chosen = facts["matcher"], facts["matcher_kind"], facts["matcher_in_use"]
    text = str(name) if kind == name else f"{name} ({kind})"
    return text if chosen == name else f"{text}, because {chosen} cannot be used"
