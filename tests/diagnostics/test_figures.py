"""The figures of rollouts and policies."""

from __future__ import annotations

import re

import numpy as np
from recorded import ROLLOUT, SNAPSHOTS, headings

from trpo_ts.diagnostics import RolloutRecord, policy_snapshot_figure, rollout_figure


def test_rollout_figure_has_a_panel_per_dimension():
    figure = rollout_figure(ROLLOUT)
    assert headings(figure) == ["position (m)", "velocity (m/s)", "action[0]", "reward"]
    position, velocity, action, reward = figure.data
    assert (position.x, position.y) == ((0, 1, 2), (1.0, 0.9, 0.7))
    assert velocity.y == (0.0, -0.1, -0.2)
    assert (action.x, action.y, action.line.shape) == ((0, 1), (-1.0, 0.5), "hv")
    assert reward.y == (-1.0, -0.8)
    assert "velocity (m/s)" in velocity.hovertemplate
    assert figure.layout.title.text == "Return -1.8 in 2 steps"


def test_rollout_figure_of_many_dimensions_says_what_it_leaves_out():
    record = RolloutRecord(np.zeros((3, 50)), np.zeros((2, 3)), np.zeros(2))
    figure = rollout_figure(record, max_dimensions=3)
    assert len(figure.data) == 3 + 3 + 1
    assert headings(figure)[2] == "observation[2] (the other 47 observation dimensions are not shown)"
    assert headings(figure)[5] == "action[2]"


def test_policy_snapshot_figure_colours_lines_by_iteration():
    figure = policy_snapshot_figure(SNAPSHOTS, grid_title="position (m)", action_title="force (N)")
    *lines, bar = figure.data
    assert [(line.x, line.y) for line in lines] == [(snap.grid, snap.mean_action) for snap in SNAPSHOTS]
    scale = [color for _, color in bar.marker.colorscale]
    colors = [line.line.color for line in lines]
    assert colors[0] == scale[0]
    assert colors[2] == scale[-1]
    # Iteration 5 of 0 to 20 is a quarter of the way, between the third and the fourth of eleven colours.
    between = (channels(scale[2]) + channels(scale[3])) / 2
    np.testing.assert_allclose(channels(colors[1]), between, atol=1)
    assert (bar.marker.cmin, bar.marker.cmax) == (0, 20)
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("position (m)", "force (N)")


def channels(color: str) -> np.ndarray:
    return np.array([int(number) for number in re.findall(r"\d+", color)])


def test_policy_snapshot_figure_of_one_or_none():
    assert policy_snapshot_figure(SNAPSHOTS[:1]).data[1].marker.showscale is False
    assert headings(policy_snapshot_figure([])) == ["no snapshot was taken"]
