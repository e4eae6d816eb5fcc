"""The panels of the learning figure: each turns update records into traces over environment steps."""

__all__ = ["learning_panels"]

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from trpo_ts.diagnostics.records import EvaluationRecord, UpdateRecord
from trpo_ts.diagnostics.style import BLUE, GREY, LIGHT_BLUE, ORANGE, VERMILLION, Panel, line, translucent

_WHEN = "update %{customdata}, %{x:,d} environment steps<br>"


def learning_panels(
    updates: Sequence[UpdateRecord],
    *,
    max_kl: float | None,
    reference_return: float | None,
    reference_name: str,
    tests: Sequence[EvaluationRecord],
) -> list[Panel]:
    """Return the panels for which the records have data, from return to explained variance."""
    candidates = (
        _return_panel(updates, tests, reference_return, reference_name),
        _kl_panel(updates, max_kl),
        _spread_panel(updates),
        _line_search_panel(updates),
        _improvement_panel(updates),
        _explained_variance_panel(updates),
    )
    return [panel for panel in candidates if panel is not None]


def _return_panel(
    updates: Sequence[UpdateRecord],
    tests: Sequence[EvaluationRecord],
    reference_return: float | None,
    reference_name: str,
) -> Panel | None:
    ended = [update for update in updates if update.episode_returns]
    traces = []
    if ended:
        traces += [_return_band(ended), _return_mean(ended)]
    if tests:
        traces.append(_tests(tests))
    if not traces:
        return None
    if reference_return is not None:
        steps = [update.env_steps for update in updates] + [test.env_steps for test in tests]
        traces.append(_level(steps, reference_return, reference_name, "return"))
    heading = "Return: mean, 10th to 90th percentile"
    return Panel(heading, "episode return", traces, height=230)


def _return_band(ended: Sequence[UpdateRecord]) -> go.Scatter:
    """Return the closed outline of the band: along the 90th percentile and back along the 10th."""
    steps = [update.env_steps for update in ended]
    return go.Scatter(
        x=steps + steps[::-1],
        y=[update.return_p90 for update in ended] + [update.return_p10 for update in reversed(ended)],
        fill="toself",
        fillcolor=translucent(BLUE, 0.2),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        name="10th to 90th percentile",
        # The heading says it, and so leaves the width of the legend to the names that a caller gives.
        showlegend=False,
    )


def _return_mean(ended: Sequence[UpdateRecord]) -> go.Scatter:
    return line(
        [update.env_steps for update in ended],
        [update.return_mean for update in ended],
        name="mean",
        customdata=[
            (update.iteration, len(update.episode_returns), update.return_p10, update.return_p90) for update in ended
        ],
        hovertemplate=(
            "update %{customdata[0]}, %{x:,d} environment steps<br>mean return %{y:,.4g}"
            "<br>10th to 90th percentile: %{customdata[2]:,.4g} to %{customdata[3]:,.4g}"
            "<br>episodes ended: %{customdata[1]}<extra></extra>"
        ),
    )


def _tests(tests: Sequence[EvaluationRecord]) -> go.Scatter:
    return go.Scatter(
        x=[test.env_steps for test in tests],
        y=[test.return_mean for test in tests],
        customdata=[len(test.episode_returns) for test in tests],
        mode="markers",
        marker={"symbol": "diamond", "size": 9, "color": ORANGE, "line": {"width": 1, "color": "white"}},
        name="test mean",
        hovertemplate=(
            "test at %{x:,d} environment steps<br>mean return %{y:,.4g}<br>episodes: %{customdata}<extra></extra>"
        ),
    )


def _kl_panel(updates: Sequence[UpdateRecord], max_kl: float | None) -> Panel | None:
    if not _reported(updates, "kl"):
        return None
    traces = [_statistic(updates, "kl", "KL", "nats")]
    if max_kl is not None:
        traces.append(_level([update.env_steps for update in updates], max_kl, f"max_kl = {max_kl:g}", "nats"))
    traces += _rejected(updates, "kl")
    heading = "Mean KL(behaviour ‖ new) of an update"
    return Panel(heading, "KL (nats)", traces, height=150, y_axis={"rangemode": "tozero"})


def _spread_panel(updates: Sequence[UpdateRecord]) -> Panel | None:
    if _reported(updates, "policy_std"):
        trace = _statistic(updates, "policy_std", "standard deviation", "action units")
        return Panel("Standard deviation of the policy", "std (action units)", [trace])
    # A discrete policy has no standard deviation; its entropy says as well how much it explores.
    if _reported(updates, "entropy"):
        trace = _statistic(updates, "entropy", "entropy", "nats")
        return Panel("Entropy of the policy", "entropy (nats)", [trace])
    return None


def _line_search_panel(updates: Sequence[UpdateRecord]) -> Panel | None:
    heading, backtracks = "Line search", _backtracks(updates)
    most = max([update.backtracks or 0.0 for update in updates], default=0.0)
    # Both axes have their zero at the same height, and room for a cross there.
    counts = {"range": _with_margin(max(most, 1.0)), "dtick": math.ceil(max(most, 1.0) / 2)}
    if not _reported(updates, "step_fraction"):
        return Panel(heading, "backtracks", backtracks, y_axis=counts) if backtracks else None
    fraction = _statistic(updates, "step_fraction", "step fraction", "")
    return Panel(
        heading,
        "step fraction",
        [fraction, *_rejected(updates, "step_fraction", named=not _reported(updates, "kl"))],
        y_axis={"range": _with_margin(1.0), "tickvals": [0, 0.5, 1]},
        right_title="backtracks",
        right_traces=backtracks,
        right_axis=counts,
    )


def _with_margin(top: float) -> tuple[float, float]:
    return (-0.08 * top, 1.08 * top)


def _backtracks(updates: Sequence[UpdateRecord]) -> list[go.Bar]:
    if not _reported(updates, "backtracks"):
        return []
    steps = [update.env_steps for update in updates]
    return [
        go.Bar(
            x=steps,
            y=[update.backtracks for update in updates],
            customdata=[update.iteration for update in updates],
            # Left to itself, the smallest distance between two updates would set the width of all bars.
            width=0.8 * (max(steps) - min(steps)) / (len(steps) - 1) if len(steps) > 1 else None,
            marker={"color": translucent(LIGHT_BLUE, 0.55), "line": {"width": 0}},
            name="backtracks",
            hovertemplate=f"{_WHEN}backtracks: %{{y:.3g}}<extra></extra>",
        )
    ]


def _improvement_panel(updates: Sequence[UpdateRecord]) -> Panel | None:
    traces = []
    if _reported(updates, "expected_improvement"):
        trace = _statistic(updates, "expected_improvement", "expected", "advantage units", color=ORANGE, dash="dot")
        traces.append(trace)
    if _reported(updates, "surrogate_improvement"):
        traces.append(_statistic(updates, "surrogate_improvement", "achieved", "advantage units"))
    if not traces:
        return None
    return Panel("Gain of the surrogate objective", "advantage units", traces, height=150)


def _explained_variance_panel(updates: Sequence[UpdateRecord]) -> Panel | None:
    if not _reported(updates, "explained_variance"):
        return None
    trace = _statistic(updates, "explained_variance", "explained variance", "")
    return Panel("Explained variance of the returns", "share (at most 1)", [trace])


def _reported(updates: Sequence[UpdateRecord], name: str) -> bool:
    return any(getattr(update, name) is not None for update in updates)


def _statistic(
    updates: Sequence[UpdateRecord],
    field: str,
    name: str,
    unit: str,
    *,
    color: str = BLUE,
    dash: str = "solid",
) -> go.Scatter:
    """Return one statistic as a line, with a gap wherever it is None."""
    return line(
        [update.env_steps for update in updates],
        [getattr(update, field) for update in updates],
        customdata=[update.iteration for update in updates],
        color=color,
        dash=dash,
        name=name,
        hovertemplate=f"{_WHEN}{name}: %{{y:.4g}} {unit}<extra></extra>",
    )


def _level(steps: Sequence[int], height: float, name: str, unit: str) -> go.Scatter:
    """Return a dashed horizontal line; a trace and not a shape, so that the axis makes room for it."""
    first, last = min(steps), max(steps)
    if first == last:
        first = 0
    hover = f"{name}: %{{y:.4g}} {unit}<extra></extra>"
    return line([first, last], [height, height], mode="lines", color=GREY, dash="dash", name=name, hovertemplate=hover)


def _rejected(updates: Sequence[UpdateRecord], field: str, *, named: bool = True) -> list[go.Scatter]:
    """Return the trace of crosses at the updates that left the policy as it was, if there are any.

    :param named: whether the legend says what a cross is; one panel that says it is enough.
    """
    rejected = [update for update in updates if update.rejected]
    if not rejected:
        return []
    return [
        go.Scatter(
            x=[update.env_steps for update in rejected],
            # Nothing was applied where nothing was reported.
            y=[getattr(update, field) or 0.0 for update in rejected],
            customdata=[update.iteration for update in rejected],
            mode="markers",
            cliponaxis=False,
            marker={"symbol": "x", "size": 9, "color": VERMILLION, "line": {"width": 1, "color": "white"}},
            name="rejected update",
            showlegend=named,
            hovertemplate=f"{_WHEN}rejected: the policy was not changed<extra></extra>",
        )
    ]
