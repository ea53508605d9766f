"""Charts of a report as inline SVG."""

from __future__ import annotations

import html
from collections.abc import Mapping

from .figures import CURVE, Figures

__all__ = ["accuracy_curves", "reliability_curves"]


_COLORS = ("#7570b3", "#d95f02", "#1b9e77", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666")
_WIDTH, _HEIGHT, _MARGIN = 460, 300, 40


def accuracy_curves(figures: Mapping[str, Figures]) -> str:
    """Return the accuracy of every method by IoU threshold, as an SVG figure."""
    lines = {name: list(zip(CURVE, method.curve, strict=True)) for name, method in figures.items()}
    return _chart("Accuracy by IoU threshold", "IoU", "accuracy", lines)


def reliability_curves(figures: Mapping[str, Figures]) -> str:
    """Return the reliability curves of the calibrated methods; empty if there are none."""
    lines = {
        name: [(part.probability, part.frequency) for part in method.reliability]
        for name, method in figures.items()
        if method.reliability
    }
    if not lines:
        return ""
    lines = {"perfect": [(0.0, 0.0), (1.0, 1.0)]} | lines
    return _chart("Reliability", "predicted probability", "share right", lines)


def _chart(
    title: str, x_name: str, y_name: str, lines: dict[str, list[tuple[float, float]]]
) -> str:
    """Return an SVG figure of lines in the unit square."""
    left, top, width, height = _MARGIN, 10, _WIDTH - _MARGIN - 10, _HEIGHT - _MARGIN - 10

    def place(x: float, y: float) -> str:
        return f"{left + x * width:.1f},{top + (1 - y) * height:.1f}"

    marks = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = left + tick * width, top + (1 - tick) * height
        marks.append(
            f'<path d="M{place(0, tick)} L{place(1, tick)} M{place(tick, 0)} L{place(tick, 1)}" '
            'stroke="#8884"/>'
            f'<text x="{left - 5}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
            f'<text x="{x:.1f}" y="{top + height + 15}" text-anchor="middle">{tick:g}</text>'
        )
    keys = []
    for number, (name, points) in enumerate(lines.items()):
        color = _COLORS[number % len(_COLORS)]
        path = " ".join(place(x, y) for x, y in points)
        marks.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        keys.append(f'<span style="color:{color}">■</span> {html.escape(name)}')
    middle, bottom = left + width / 2, top + height + 32
    return (
        f"<figure><figcaption><b>{title}</b> ({y_name} by {x_name})</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="{title}" '
        'font-size="12" fill="currentColor">'
        f'{"".join(marks)}<text x="{middle:.0f}" y="{bottom}" text-anchor="middle">{x_name}</text>'
        f"</svg><figcaption>{' &nbsp; '.join(keys)}</figcaption></figure>"
    )
