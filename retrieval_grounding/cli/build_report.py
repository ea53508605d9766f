"""Printing what a build did, or would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.text import counted
from .output import note, print_json, print_table, say

if TYPE_CHECKING:
    from ..core.reports import BuildReport, SkippedFile

__all__ = ["build_as_dict", "print_build", "print_skipped", "show_build", "skipped_as_dicts"]


def build_as_dict(report: BuildReport) -> dict[str, Any]:
    """Return a report as plain values, for JSON."""
    return {
        "found": report.found,
        "unchanged": report.unchanged,
        "added": report.added,
        "updated": report.updated,
        "moved": report.moved,
        "duplicates": report.duplicates,
        "missing": report.missing,
        "pruned": report.pruned,
        "embedded": report.embedded,
        "regions": report.regions,
        "seconds": round(report.seconds, 3),
        "images_per_second": round(report.images_per_second, 2),
        "skipped": skipped_as_dicts(report.skipped),
    }


def skipped_as_dicts(files: list[SkippedFile]) -> list[dict[str, str]]:
    """Return skipped files as plain values, for JSON."""
    return [{"path": f.path, "reason": f.reason, "detail": f.detail} for f in files]


def show_build(
    report: BuildReport,
    directory: Path,
    as_json: bool,
    *,
    images: int | None = None,
    dry_run: bool = False,
) -> None:
    """Print a report as text or JSON."""
    if as_json:
        print_json(build_as_dict(report) | {"index": str(directory), "dry_run": dry_run})
    else:
        print_build(report, directory, images=images, dry_run=dry_run)


def print_build(
    report: BuildReport, directory: Path, *, images: int | None = None, dry_run: bool = False
) -> None:
    """Print a report as text; `images` is the number of images in the index afterwards."""
    missing = len(report.missing)
    changes = {
        "to add" if dry_run else "added": report.added,
        "to update" if dry_run else "updated": report.updated,
        "moved": report.moved,
        "duplicate" if report.duplicates == 1 else "duplicates": report.duplicates,
        "to remove" if dry_run else "removed": missing if report.pruned else 0,
    }
    others = {
        "unchanged": report.unchanged,
        "skipped": len(report.skipped),
        "missing (use --prune to remove them)": 0 if report.pruned else missing,
    }
    parts = [] if any(changes.values()) else ["nothing new"]
    parts += [f"{number:,} {name}" for name, number in (changes | others).items() if number]
    line = ", ".join(parts)
    if report.embedded:
        line += (
            f"; {counted(report.regions, 'region')} in {report.seconds:.1f} s "
            f"({report.images_per_second:.1f} images/s)"
        )
    if images is not None:
        line += f"; {counted(images, 'image')} in the index"
    say(f"{directory}: {line}")
    if dry_run:
        note("Dry run: nothing was written. New files were not decoded; some may be skipped later.")
    print_skipped(report.skipped)


def print_skipped(files: list[SkippedFile]) -> None:
    """Print skipped files with their reasons, if there are any."""
    if files:
        print_table(("skipped", "reason", "detail"), [(f.path, f.reason, f.detail) for f in files])
