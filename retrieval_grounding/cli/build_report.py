"""Printing what a build did, or would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..core.text import counted
from .output import note, print_json, say, shown_path
from .path_table import print_path_table

if TYPE_CHECKING:
    from ..core.reports import BuildReport, SkippedFile

__all__ = [
    "build_as_dict",
    "fail_if_unusable",
    "print_build",
    "print_skipped",
    "show_build",
    "skipped_as_dicts",
]


_MAX_NAMED = 3


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
        "unreachable": report.unreachable,
        "pruned": report.pruned,
        "embedded": report.embedded,
        "regions": report.regions,
        "seconds": round(report.seconds, 3),
        "images_per_second": round(report.images_per_second, 2),
        "skipped": skipped_as_dicts(report.skipped),
        "notes": [{"path": n.path, "reason": n.reason, "detail": n.detail} for n in report.notes],
        "left_out": skipped_as_dicts(report.left_out),
        "other_files": report.other_files,
        "described": report.described,
        "unmatched": report.unmatched,
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
        "unreachable": len(report.unreachable),
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
    _note_repairs(report)
    _note_left_out(report)
    if report.unreachable:
        note(
            f"kept {counted(len(report.unreachable), 'image')} that cannot be reached now, such as "
            f"{report.unreachable[0]}; if a drive is not the reason, use --prune --allow-empty"
        )


def _note_repairs(report: BuildReport) -> None:
    """Say which files were indexed with a guess or a repair, and why."""
    if report.notes:
        counts = ", ".join(f"{number:,} {name}" for name, number in report.note_reasons.items())
        note(f"Indexed, but look at them: {counts}")
        for file in report.notes:
            note(f"  {shown_path(file.path)}: {file.reason}, {file.detail}")


def fail_if_unusable(report: BuildReport) -> None:
    """End with exit code 1 if there were files, but none of them could be used."""
    if report.found and len(report.skipped) == report.found:
        reasons = ", ".join(f"{number:,} {why}" for why, number in report.skipped_reasons.items())
        note(f"error: none of the {counted(report.found, 'file')} can be used: {reasons}")
        raise typer.Exit(1)


def _note_left_out(report: BuildReport) -> None:
    """Print on stderr what was not searched, by reason."""
    by_reason: dict[str, list[SkippedFile]] = {}
    for file in report.left_out:
        by_reason.setdefault(file.reason, []).append(file)
    for reason, files in by_reason.items():
        names = ", ".join(file.path for file in files[:_MAX_NAMED])
        more = ", …" if len(files) > _MAX_NAMED else ""
        note(f"left out: {len(files):,} {reason} ({names}{more}): {files[0].detail}")


def print_skipped(files: list[SkippedFile]) -> None:
    """Print skipped files with their reasons, if there are any."""
    if files:
        rows = [(file.path, file.reason, file.detail) for file in files]
        print_path_table(("skipped", "reason", "detail"), rows, 0, [file.path for file in files])
