"""The charts of several runs on shared axes: one colour per group, seeds thin, their mean bold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trpo_ts.diagnostics.style import GREY
from trpo_ts.reports.aggregates import bootstrap_interval, interquartile_mean
from trpo_ts.reports.chart import Chart
from trpo_ts.reports.curves import Curve, bound_curve, common_steps, evaluation_curve, return_curve, series_curve
from trpo_ts.reports.groups import RunGroup
from trpo_ts.reports.quantities import SECTIONS, Quantity, Series
from trpo_ts.reports.recorded_run import RecordedRun
from trpo_ts.reports.traces import band, dashed, level, line

__all__ = ["overlay_charts"]

_FEWEST_FOR_QUARTILES = 4
"""With fewer seeds the interquartile mean is the mean."""
_SEEDS_CAPTION = "Thin: a seed each. Bold: their mean."
_INTERVAL_CAPTION = (
    " Band: 95 % bootstrap interval of the interquartile mean, which is the thin dark line from four seeds on."
)


def overlay_charts(groups: Sequence[RunGroup]) -> list[tuple[str, list[Chart]]]:
    """Return the charts that one of the runs has data for, by section."""
    sections = [("Return", _return_charts(groups))]
    for heading, quantities in SECTIONS:
        charts = [_series_chart(groups, quantity, series) for quantity in quantities for series in quantity.series]
        sections.append((heading, [chart for chart in charts if chart is not None]))
    return [(heading, charts) for heading, charts in sections if charts]


def _return_charts(groups: Sequence[RunGroup]) -> list[Chart]:
    charts = []
    for key, heading, curve_of, caption in (
        ("return", "Return in training", _mean_return, "Mean of the episodes that ended in an update."),
        ("test_return", "Return in tests", evaluation_curve, "Mean of a test, which plays the most probable action."),
    ):
        traces = _overlaid(groups, curve_of, interval=True)
        if traces:
            whole = f"{caption} {_seeds_caption(groups, interval=True)}"
            charts.append(Chart(key, heading, whole, "return (sum of rewards)", traces, wide=True, legend=False))
    return charts


def _mean_return(run: RecordedRun) -> Curve:
    return return_curve(run, lambda update: update.return_mean)


def _series_chart(groups: Sequence[RunGroup], quantity: Quantity, series: Series) -> Chart | None:
    traces = _overlaid(groups, lambda run: series_curve(run, series))
    if not traces:
        return None
    several = len(quantity.series) > 1
    if quantity.bounded_by_max_kl:
        runs = [run for group in groups for run in group.runs]
        last = max(run.env_steps for run in runs)
        bounds = {run.max_kl for run in runs if run.max_kl is not None}
        traces += [level(last, bound, f"max_kl = {bound:g}") for bound in sorted(bounds)]
        moving = {run.settings.get("max_kl"): run for run in runs if run.max_kl is None and bound_curve(run)}
        traces += [dashed(bound_curve(run), "max_kl") for run in moving.values()]
    return Chart(
        f"{quantity.key}-{series.name}" if several else quantity.key,
        f"{quantity.heading.split(':')[0]}: {series.name}" if several else quantity.heading,
        "" if several else quantity.caption,
        quantity.y_title,
        traces,
        quantity.axis,
        legend=False,
    )


def _seeds_caption(groups: Sequence[RunGroup], *, interval: bool) -> str:
    if all(len(group.runs) == 1 for group in groups):
        return ""
    return _SEEDS_CAPTION + (_INTERVAL_CAPTION if interval else "")


def _overlaid(
    groups: Sequence[RunGroup], curve_of: Callable[[RecordedRun], Curve], *, interval: bool = False
) -> list[dict[str, Any]]:
    """Return bands, then thin lines, then bold ones, so that none hides a bolder one."""
    bands, thin, bold = [], [], []
    for group in groups:
        curves = [(run, curve) for run in group.runs if (curve := curve_of(run))]
        if len(curves) == 1:
            ((run, curve),) = curves
            name = run.name if len(group.runs) > 1 else group.name
            bold.append(line(curve, name, color=group.color, dash=group.dash))
            continue
        for run, curve in curves:
            label = f"{group.name}, {run.name}" if len(groups) > 1 else run.name
            thin.append({**line(curve, label, color=group.color, width=1, opacity=0.45), "mode": "lines"})
        steps, values = common_steps([curve for _, curve in curves]) if curves else (np.empty(0), np.empty((0, 0)))
        if not len(steps):
            continue
        mean = Curve(steps, values.mean(axis=0))
        bold.append(line(mean, f"mean of {group.name}", color=group.color, dash=group.dash, width=3))
        if interval:
            bands.append(band(steps, *bootstrap_interval(values), group.color))
        if interval and len(values) >= _FEWEST_FOR_QUARTILES:
            middle = Curve(steps, interquartile_mean(values))
            bold.append(line(middle, f"interquartile mean of {group.name}", color=GREY, dash=group.dash, width=1.2))
    return [*bands, *thin, *bold]
