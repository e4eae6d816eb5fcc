"""The charts of one run."""

from __future__ import annotations

from typing import Any

import numpy as np

from trpo_ts.diagnostics.style import BLUE, ORANGE
from trpo_ts.reports.chart import Chart
from trpo_ts.reports.curves import MOST_POINTS, Curve, bound_curve, evaluation_curve, return_curve, series_curve
from trpo_ts.reports.quantities import SECTIONS, Quantity
from trpo_ts.reports.recorded_run import RecordedRun
from trpo_ts.reports.traces import band, crosses, dashed, level, line, points

__all__ = ["run_charts"]

_STROKES = ((BLUE, "solid"), (ORANGE, "dot"))
"""Colour and dash of a chart's series."""


def run_charts(run: RecordedRun) -> list[tuple[str, list[Chart]]]:
    """Return the charts that the run has data for, by section."""
    sections = [("Return", _return_charts(run))]
    for heading, quantities in SECTIONS:
        sections.append((heading, [chart for quantity in quantities for chart in _quantity_charts(run, quantity)]))
    return [(heading, charts) for heading, charts in sections if charts]


def _return_charts(run: RecordedRun) -> list[Chart]:
    mean = return_curve(run, lambda update: update.return_mean)
    tests = evaluation_curve(run)
    traces: list[dict[str, Any]] = []
    if mean:
        low = return_curve(run, lambda update: update.return_p10)
        high = return_curve(run, lambda update: update.return_p90)
        traces = [band(mean.steps, low.values, high.values, BLUE), line(mean, "training", color=BLUE)]
    if tests:
        traces.append(points(tests, "test", color=ORANGE, symbol="diamond"))
    if not traces:
        return []
    if run.reference is not None:
        traces.append(level(run.env_steps, run.reference[1], run.reference[0]))
    caption = "Training: mean of the episodes that ended in an update, and band from the 10th to the 90th percentile."
    if tests:
        caption += " Tests play the most probable action."
    return [Chart("return", "Return of an episode", caption, "return (sum of rewards)", traces, wide=True)]


def _quantity_charts(run: RecordedRun, quantity: Quantity) -> list[Chart]:
    curves = [series_curve(run, series) for series in quantity.series]
    if not any(curves):
        return []
    traces: list[dict[str, Any]] = [
        line(curve, series.name, color=color, dash=dash)
        for series, curve, (color, dash) in zip(quantity.series, curves, _STROKES, strict=False)
        if curve
    ]
    if quantity.bounded_by_max_kl and (bound := bound_curve(run)):
        traces.append(dashed(bound, "max_kl" if run.max_kl is None else f"max_kl = {run.max_kl:g}"))
    if quantity.marks_rejected:
        traces += _rejected(run, quantity)
    return [Chart(quantity.key, quantity.heading, quantity.caption, quantity.y_title, traces, quantity.axis)]


def _rejected(run: RecordedRun, quantity: Quantity) -> list[dict[str, Any]]:
    updates = [update for update in run.updates if update.rejected]
    if not updates:
        return []
    (series,) = quantity.series
    # Nothing was applied where nothing was reported.
    values = [value or 0.0 for value in series.values(updates)]
    shown = slice(None, None, -(-len(updates) // MOST_POINTS))
    steps = np.array([update.env_steps for update in updates], dtype=np.float64)
    return [crosses(Curve(steps[shown], np.array(values)[shown]))]
