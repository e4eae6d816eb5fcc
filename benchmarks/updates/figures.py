"""The figures of the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from trpo_ts.diagnostics.style import BLUE, GREEN, GREY, VERMILLION, Panel, line, stack_panels
from updates.growth import SAMPLES, WIDTH
from updates.sides import BASELINE, CLOSE, GAUSS_NEWTON, OURS, TIANSHOU_LIKE

__all__ = ["figures", "growth_figure", "sides_figure"]

COLOURS = {BASELINE: VERMILLION, OURS: BLUE, GAUSS_NEWTON: GREEN, CLOSE: GREEN}
DASHES = {BASELINE: "dash", OURS: "solid", GAUSS_NEWTON: "dot"}


def figures(data: dict[str, Any]) -> dict[str, go.Figure]:
    """Return all figures for which there are data, by their headings."""
    found = {"One update": sides_figure(data["cases"])}
    for device, part in data.get("growth", {}).items():
        found[f"Over the rollout's size, {device}"] = growth_figure(part["points"], "samples")
        found[f"Over the width, {device}"] = growth_figure(part["points"], "width")
    return found


def sides_figure(cases: Sequence[dict[str, Any]]) -> go.Figure:
    """Draw how many times as fast as Tianshou's each side's update is, a panel per case."""
    panels = []
    for case in cases:
        names = list(case["sides"])
        bars = go.Bar(
            x=names,
            y=[case["sides"][name]["speed_up"] for name in names],
            customdata=[case["sides"][name]["milliseconds"] for name in names],
            marker={"color": [COLOURS.get(name, GREY) for name in names]},
            texttemplate="%{y:.2f}",
            hovertemplate="%{x}<br>%{y:.2f} times as fast as Tianshou's<br>%{customdata:.1f} ms<extra></extra>",
            showlegend=False,
        )
        panels.append(Panel(case["case"], "times as fast", [bars], y_axis={"rangemode": "tozero"}))
    return stack_panels(panels, x_title="", title="Time of one update, relative to Tianshou's")


def growth_figure(points: Sequence[dict[str, Any]], over: str) -> go.Figure:
    """Draw time, and time relative to Tianshou's, over `samples` or `width` on logarithmic axes."""
    fixed, value = ("width", WIDTH) if over == "samples" else ("samples", SAMPLES)
    held = f"width {value}" if over == "samples" else f"{value:,} samples"
    chosen = sorted((p for p in points if p[fixed] == value), key=lambda p: p[over])
    x = [point[over] for point in chosen]

    def lines(field: str, hover: str, shown: bool) -> list[go.Scatter]:
        return [
            line(
                x,
                [point[field][name] for point in chosen],
                name=name,
                color=COLOURS[name],
                dash=DASHES[name],
                showlegend=shown,
                hovertemplate=f"{name}<br>{over} %{{x:,d}}<br>{hover}<extra></extra>",
            )
            for name in TIANSHOU_LIKE
        ]

    panels = [
        Panel(
            f"Time of one update, {held}",
            "milliseconds",
            lines("milliseconds", "%{y:.1f} ms", shown=True),
            height=240,
            y_axis={"type": "log", "dtick": 1},
        ),
        Panel(
            "Relative to Tianshou's",
            "times as fast",
            lines("speed_up", "%{y:.2f} times as fast as Tianshou's", shown=False),
            height=150,
            y_axis={"rangemode": "tozero"},
        ),
    ]
    x_title = "samples of the rollout" if over == "samples" else "width of both hidden layers"
    return stack_panels(panels, x_title=x_title, title=None, type="log", tickvals=x, ticktext=[f"{v:,}" for v in x])
