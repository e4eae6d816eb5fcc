"""Interactive Plotly figures of rollouts, of training and of how the policy changed."""

__all__ = ["learning_figure", "policy_snapshot_figure", "rollout_figure"]

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from trpo_ts.diagnostics.learning import learning_panels
from trpo_ts.diagnostics.records import EvaluationRecord, PolicySnapshot, RolloutRecord, UpdateRecord
from trpo_ts.diagnostics.style import BLUE, GREEN, VERMILLION, Panel, line, placeholder, stack_panels


def learning_figure(
    updates: Sequence[UpdateRecord],
    max_kl: float | None = None,
    reference_return: float | None = None,
    reference_name: str = "reference",
    *,
    tests: Sequence[EvaluationRecord] = (),
    title: str | None = "Training diagnostics",
) -> go.Figure:
    """Draw a training run over its environment steps.

    The panels, each left out if no record has data for it: episode return (mean, and band from the 10th to
    the 90th percentile), KL per update, standard deviation of the policy (or else its entropy), line search,
    surrogate improvement, explained variance. A rejected update is marked by a cross in the panels of the KL
    and of the line search.

    :param updates: records of the training steps, in their order. Returns are connected over steps in which
        no episode ended; any other statistic that is None leaves a gap.
    :param max_kl: the trust region's limit in nats, drawn in the panel of the KL.
    :param reference_return: a return to compare with, such as another policy's or the optimum.
    :param reference_name: what the legend calls it.
    :param tests: records of tests, drawn as points in the panel of the return.
    """
    panels = learning_panels(
        updates,
        max_kl=max_kl,
        reference_return=reference_return,
        reference_name=reference_name,
        tests=tests,
    )
    return stack_panels(panels, x_title="environment steps", title=title, tickformat="~s")


def rollout_figure(record: RolloutRecord, *, max_dimensions: int = 16, title: str | None = None) -> go.Figure:
    """Draw one episode over its time steps: each observation dimension, each action dimension, the reward.

    An observation belongs to an instant and is drawn as a line through the instants; an action and its reward
    belong to the step that begins there, and are drawn as steps.

    :param max_dimensions: the number of observation dimensions, and of action dimensions, that are drawn; the
        heading of the last one says how many there are in all.
    :param title: the title; None for one that says the episode's length and return.
    """
    panels: list[Panel] = []
    for kind, names, rows, shape, color in (
        ("observation", record.observation_names, record.observations, "linear", BLUE),
        ("action", record.action_names, record.actions, "hv", VERMILLION),
        ("reward", ("reward",), [(reward,) for reward in record.rewards], "hv", GREEN),
    ):
        for index, name in enumerate(names[:max_dimensions]):
            heading = name
            if index + 1 == max_dimensions < len(names):
                heading += f" (the other {len(names) - max_dimensions} {kind} dimensions are not shown)"
            trace = line(
                range(len(rows)),
                [row[index] for row in rows],
                color=color,
                name=name,
                hovertemplate=f"time step %{{x}}<br>{name}: %{{y:.4g}}<extra></extra>",
            )
            trace.update(line={"shape": shape})
            panels.append(Panel(heading=heading, y_title=kind, traces=[trace], height=110))
    if title is None:
        title = f"Return {sum(record.rewards):,.4g} in {len(record.rewards):,} steps"
    return stack_panels(panels, x_title="time step (environment steps)", title=title)


def policy_snapshot_figure(
    snapshots: Sequence[PolicySnapshot],
    *,
    grid_title: str = "observation",
    action_title: str = "mean action",
    title: str | None = "Mean action of the policy during training",
) -> go.Figure:
    """Draw the policy's mean action over a grid, one line per snapshot, coloured by iteration.

    :param grid_title: title of the horizontal axis: what varies, what is held fixed, the unit.
    :param action_title: title of the vertical axis, with the unit.
    """
    if not snapshots:
        return placeholder("no snapshot was taken", title=title)
    first = min(snapshot.iteration for snapshot in snapshots)
    last = max(snapshot.iteration for snapshot in snapshots)
    # Without the scale's yellow end, which is hardly visible on white.
    scale = sample_colorscale("Viridis", [0.9 * step / 10 for step in range(11)])
    traces = []
    for snapshot in snapshots:
        position = (snapshot.iteration - first) / max(last - first, 1)
        traces.append(
            line(
                snapshot.grid,
                snapshot.mean_action,
                mode="lines",
                color=sample_colorscale(scale, [position])[0],
                name=f"iteration {snapshot.iteration}",
                showlegend=False,
                hovertemplate=(
                    f"after {snapshot.iteration:,} updates<br>{grid_title}: %{{x:.4g}}"
                    f"<br>{action_title}: %{{y:.4g}}<extra></extra>"
                ),
            )
        )
    panel = Panel(heading="", y_title=action_title, traces=[*traces, _iteration_bar(scale, first, last)], height=360)
    return stack_panels([panel], x_title=grid_title, title=title)


def _iteration_bar(scale: Sequence[str], first: int, last: int) -> go.Scatter:
    """Return a trace that draws nothing but the colour bar: lines have none of their own."""
    bar = {"title": {"text": "iteration", "side": "right"}, "tickformat": ",d", "thickness": 14, "outlinewidth": 0}
    marker = {"color": [first, last], "colorscale": list(scale), "cmin": first, "cmax": max(last, first + 1)}
    return go.Scatter(
        x=[None, None],
        y=[None, None],
        mode="markers",
        marker={**marker, "showscale": last > first, "colorbar": bar},
        name="iteration",
        hoverinfo="skip",
        showlegend=False,
    )
