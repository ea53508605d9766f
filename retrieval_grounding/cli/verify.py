"""The command ``verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.text import counted
from .logs import Verbose
from .options import DetectorName, Device, IndexClip, IndexDirectory, Json, Wait
from .output import note, print_json, print_table, printable, say
from .path_table import print_path_table

if TYPE_CHECKING:
    from ..core.reports import Fault, VerifyReport

__all__ = ["verify"]


def verify(
    index: IndexDirectory,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Embed damaged images again, move a damaged matcher aside, keep the rest.",
        ),
    ] = False,
    detector: DetectorName = None,
    clip: IndexClip = None,
    device: Device = "auto",
    wait: Wait = 0.0,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Check every byte of an index. The exit code is 1 if there are faults.

    Example: retrieval-grounding verify indexes/pictures --repair
    """
    from ..index import Index

    report = Index.open(index, device=device).verify(
        repair=repair, detector=detector, clip=clip, timeout=wait
    )
    if as_json:
        print_json(
            {
                "index": str(index),
                "images": report.images,
                "shards": report.shards,
                "faults": [_as_dict(fault) for fault in report.faults],
                "repaired": [_as_dict(fault) for fault in report.repaired],
                "embedded": report.embedded,
                "lost": report.lost,
                "notes": report.notes,
            }
        )
    else:
        _print_report(index, report)
    if report.faults:
        raise typer.Exit(1)


def _as_dict(fault: Fault) -> dict[str, str]:
    return {name: getattr(fault, name) for name in ("where", "kind", "detail", "repair")}


def _print_report(index: Path, report: VerifyReport) -> None:
    state = counted(len(report.faults), "fault") if report.faults else "no faults"
    if report.repaired:
        state += (
            f"; {counted(len(report.repaired), 'fault')} repaired, "
            f"{counted(report.embedded, 'image')} embedded again, "
            f"{len(report.lost)} lost"
        )
    say(f"{index}: {counted(report.images, 'image')} in {counted(report.shards, 'shard')}, {state}")
    for title, faults in (("fault", report.faults), ("repaired", report.repaired)):
        if faults:
            rows = [(fault.where, fault.kind, fault.detail, fault.repair) for fault in faults]
            print_table((title, "kind", "detail", "repair"), rows, header_in_pipe=True)
    if report.lost:
        print_path_table(("lost",), [(path,) for path in report.lost], 0, header_in_pipe=True)
    for text in report.notes:
        say(f"note: {printable(text)}")
    if report.faults and not report.repaired:
        note(f"to repair: retrieval-grounding verify {index} --repair")
