"""Tables and figures of the learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import common
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from curves.published import PPO, TRPO
from curves.scores import Runs, aggregates, largest, last, normalised, probabilities_of_improvement, time_ratios

__all__ = ["COLOURS", "aggregate_table", "curves_figure", "returns_table", "trials_table"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_COLUMNS = 3


def returns_table(runs: Runs, sides: Sequence[str], tasks: Sequence[str]) -> str:
    """Return largest and last return over seeds with standard deviations, beside the best published ones."""
    rows = []
    for task in tasks:
        name = task.rpartition("-v")[0]
        cells = [_figures(runs.get(side, {}).get(task, [])) for side in sides]
        published = [f"{max(cell[name].values()):,g}" if name in cell else "" for cell in (TRPO, PPO)]
        rows.append([task, *cells, *published])
    return common.markdown_table(["task", *sides, "best published TRPO", "best published PPO"], rows)


def _figures(runs: Sequence[dict[str, object]]) -> str:
    if not runs:
        return ""
    most, end = (np.array([figure(run) for run in runs]) for figure in (largest, last))
    form = ".1f" if abs(most.mean()) < 20 else ",.0f"
    spread = f" ± {most.std():{form}}" if len(runs) > 1 else ""
    return f"{most.mean():{form}}{spread}, {end.mean():{form}} ({len(runs)})"


def trials_table(trials: Runs, tasks: Sequence[str]) -> str:
    """Return largest and last return of every setting that was tried, as means over its seeds."""
    rows = []
    for name, by_task in trials.items():
        cells = [_figures(by_task.get(task, [])) for task in tasks]
        rows.append([name, *cells])
    return common.markdown_table(["trial", *tasks], rows)


def aggregate_table(runs: Runs, side: str, other: str) -> str:
    """Return interquartile means, the probability that ``side`` is better, and its speed relative to ``other``."""
    scores = {name: values for name, values in normalised(runs, largest).items() if values.size}
    ends = {name: values for name, values in normalised(runs, last).items() if values.size}
    means, last_means = aggregates(scores), aggregates(ends)
    chances = probabilities_of_improvement(scores, side)
    rows = [
        [name, _interval(means[name]), _interval(last_means[name]), _interval(chances[name]) if name in chances else ""]
        for name in scores
    ]
    text = common.markdown_table(["side", "largest return", "last return", f"probability that {side} is better"], rows)
    ratios = time_ratios(runs, side, other)
    return (
        text
        + "\n\n"
        + common.markdown_table(
            ["task", f"{side} is as good as {other} at its end in this part of its time"],
            [[task, "not reached" if ratio is None else f"1 / {ratio:.1f}"] for task, ratio in sorted(ratios.items())],
        )
    )


def _interval(values: tuple[float, float, float]) -> str:
    point, low, high = values
    return f"{point:.2f} ({low:.2f} to {high:.2f})"


def curves_figure(runs: Runs, sides: Sequence[str], tasks: Sequence[str]) -> go.Figure:
    """Return the test returns: mean over seeds, and a band from the least to the largest seed."""
    shown = [task for task in tasks if any(task in runs.get(side, {}) for side in sides)]
    rows = max(1, math.ceil(len(shown) / _COLUMNS))
    plot = make_subplots(rows=rows, cols=_COLUMNS, subplot_titles=shown, horizontal_spacing=0.06, vertical_spacing=0.09)
    named: set[str] = set()
    for i, task in enumerate(shown):
        place = {"row": i // _COLUMNS + 1, "col": i % _COLUMNS + 1}
        for side, colour in zip(sides, COLOURS, strict=False):
            found = runs.get(side, {}).get(task, [])
            if not found:
                continue
            steps = found[0]["steps"]
            returns = np.array([np.interp(steps, run["steps"], run["returns"]) for run in found])
            band = {"x": [*steps, *steps[::-1]], "y": [*returns.max(0), *returns.min(0)[::-1]]}
            plot.add_scatter(
                **band,
                fill="toself",
                fillcolor=colour,
                opacity=0.15,
                line_width=0,
                hoverinfo="skip",
                showlegend=False,
                **place,
            )
            plot.add_scatter(
                x=steps,
                y=returns.mean(0),
                name=side,
                line={"color": colour, "width": 2.5},
                showlegend=side not in named,
                **place,
            )
            named.add(side)
    plot.update_xaxes(title_text="environment steps", row=rows).update_yaxes(title_text="test return", col=1)
    legend = {"orientation": "h", "y": 1.0 + 0.2 / rows, "x": 0.0}
    return plot.update_layout(template="plotly_white", width=1100, height=300 * rows + 80, legend=legend)
