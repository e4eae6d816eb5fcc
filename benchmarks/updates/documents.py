"""The tables, figures and sentence that the documents take from the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import common
import plotly.graph_objects as go

from trpo_ts.diagnostics.style import BLUE, GREEN, GREY, VERMILLION, Panel, line, stack_panels
from updates.cases import LARGE, SMALL, WIDTH
from updates.sides import BASELINE, CLOSE, GAUSS_NEWTON, MICRO_BATCHES, OURS, TIANSHOU_LIKE

COLOURS = {BASELINE: VERMILLION, OURS: BLUE, GAUSS_NEWTON: GREEN, CLOSE: GREEN}
DASHES = {BASELINE: "dash", OURS: "solid", GAUSS_NEWTON: "dot"}


def tables(data: dict[str, Any]) -> dict[str, str]:
    """Return the tables by their names in docs/benchmarks.md."""
    cases, growth = data["cases"], data["growth"]
    return {
        "speed": _sides(cases, lambda side: f"{side['milliseconds']:.1f} ms, {side['speed_up']:.2f}"),
        "step": _sides(cases, _quality),
        "accuracy": _accuracy(cases),
        "growth": "\n\n".join(f"On {device}:\n\n{_growth(part['points'])}" for device, part in growth.items()),
        "memory": _memory(data["memory"]),
    }


def _sides(cases: list[dict[str, Any]], cell: Callable[[dict[str, Any]], str]) -> str:
    """Return a table with a row per side and a column per case."""
    names = max((list(case["sides"]) for case in cases), key=len)
    rows = [[name, *(cell(case["sides"][name]) if name in case["sides"] else "" for case in cases)] for name in names]
    return common.markdown_table(["side", *(case["case"] for case in cases)], rows)


def _quality(side: dict[str, Any]) -> str:
    errors = [f"{side[key]:.4f}" for key in ("critic_error", "critic_error_held_out") if key in side]
    return ", ".join([f"{side['products']:.0f}", f"{side['optimality']:.3f}", *errors])


def _accuracy(cases: list[dict[str, Any]]) -> str:
    solves = {case["case"]: [row for row in case["accuracy"] if row["target"] == 0.95] for case in cases}
    header = [f"damping {row['damping']:g}" for row in next(iter(solves.values()))]
    cells = "{products[K-FAC]}, {products[plain]}, {speed_up:.2f}"
    rows = [[name, *(cells.format(**row) for row in found)] for name, found in solves.items()]
    return common.markdown_table(["update", *header], rows)


def _growth(points: list[dict[str, Any]]) -> str:
    rows = [
        [f"{point['samples']:,}", str(point["width"])]
        + [f"{point['milliseconds'][name]:.1f} ms, {point['speed_up'][name]:.2f}" for name in TIANSHOU_LIKE]
        for point in points
    ]
    return common.markdown_table(["samples", "width", *TIANSHOU_LIKE], rows)


def _memory(megabytes: dict[str, float]) -> str:
    rows = [[name, f"{value:.0f} MB", f"{value / megabytes[BASELINE]:.2f}"] for name, value in megabytes.items()]
    return common.markdown_table(["side", "peak above the rollout", "of Tianshou's"], rows)


def summary(data: dict[str, Any]) -> str:
    """Return the sentence of the README."""
    speed_up = {case["case"]: f"{case['sides'][GAUSS_NEWTON]['speed_up']:.1f}" for case in data["cases"]}
    memory_ratio = data["memory"][MICRO_BATCHES] / data["memory"][BASELINE]
    return (
        f"An update with `GaussNewtonFit()` is {speed_up[SMALL]} times as fast as Tianshou's for {SMALL} and "
        f"{speed_up[LARGE]} times for\n{LARGE}; with `micro_batch_size=4096` an update of 200,000 samples takes "
        f"{memory_ratio:.2f}\nof its memory."
    )


def sides_figure(cases: Sequence[dict[str, Any]]) -> go.Figure:
    """Draw how many times as fast as Tianshou's each side's update is, a panel per case."""
    panels = []
    for case in cases:
        speed_up = {name: side["speed_up"] for name, side in case["sides"].items()}
        colours = [COLOURS.get(name, GREY) for name in speed_up]
        bars = go.Bar(x=list(speed_up), y=list(speed_up.values()), marker_color=colours, texttemplate="%{y:.2f}")
        bars.update(showlegend=False)
        panels.append(Panel(case["case"], "times as fast", [bars], y_axis={"rangemode": "tozero"}))
    return stack_panels(panels, x_title="", title="Time of one update, relative to Tianshou's")


def growth_figure(points: Sequence[dict[str, Any]]) -> go.Figure:
    """Draw time, and time relative to Tianshou's, over the samples on a logarithmic axis."""
    chosen = sorted((point for point in points if point["width"] == WIDTH), key=lambda point: point["samples"])
    x = [point["samples"] for point in chosen]

    def lines(key: str, shown: bool) -> list[go.Scatter]:
        return [
            line(x, [p[key][name] for p in chosen], name=name, color=COLOURS[name], dash=dash, showlegend=shown)
            for name, dash in DASHES.items()
        ]

    time_axis, ratio_axis = {"type": "log", "dtick": 1}, {"rangemode": "tozero"}
    times, ratios = lines("milliseconds", shown=True), lines("speed_up", shown=False)
    panels = [
        Panel(f"Time of one update, width {WIDTH}", "milliseconds", times, height=240, y_axis=time_axis),
        Panel("Relative to Tianshou's", "times as fast", ratios, height=150, y_axis=ratio_axis),
    ]
    ticks = {"type": "log", "tickvals": x, "ticktext": [f"{samples:,}" for samples in x]}
    return stack_panels(panels, x_title="samples of the rollout", title=None, **ticks)
