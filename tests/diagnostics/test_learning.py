"""The figure of a training."""

from __future__ import annotations

import itertools

import pytest
from recorded import UPDATES, headings, trace

from trpo_ts.diagnostics import EvaluationRecord, UpdateRecord, learning_figure
from trpo_ts.diagnostics.style import VERMILLION


def test_learning_figure_draws_returns_across_updates_in_which_no_episode_ended():
    tests = [EvaluationRecord(0, (0.0, 1.0))]
    figure = learning_figure(UPDATES, reference_return=5.0, reference_name="optimum", tests=tests)
    mean, band = trace(figure, "mean"), trace(figure, "10th to 90th percentile")
    assert (mean.x, mean.y) == ((100, 300), (2.0, 4.0))
    assert band.x == (100, 300, 300, 100)
    assert band.y == pytest.approx((2.8, 4.0, 4.0, 1.2))
    assert band.fill == "toself"
    assert (trace(figure, "test mean").x, trace(figure, "test mean").y) == ((0,), (0.5,))
    reference = trace(figure, "optimum")
    assert (reference.x, reference.y, reference.line.dash) == ((0, 300), (5.0, 5.0), "dash")
    assert figure.layout.xaxis.title.text == "environment steps"


def test_learning_figure_leaves_gaps_and_shows_lonely_points():
    figure = learning_figure(UPDATES, max_kl=0.01)
    std = trace(figure, "standard deviation")
    assert (std.x, std.y, std.mode) == ((100, 200, 300), (1.0, None, 0.9), "lines+markers")
    kl = trace(figure, "KL")
    assert kl.y == (0.009, 0.0, None)
    assert "nats" in kl.hovertemplate
    assert trace(figure, "max_kl = 0.01").y == (0.01, 0.01)
    many = [UpdateRecord(n, n, kl=0.1 if n % 2 else None) for n in range(1, 400)]
    assert trace(learning_figure(many), "KL").mode == "lines+markers"
    whole = [UpdateRecord(n, n, kl=0.1) for n in range(1, 400)]
    assert trace(learning_figure(whole), "KL").mode == "lines"


def test_learning_figure_marks_rejected_updates_where_their_step_would_be():
    crosses = [trace for trace in learning_figure(UPDATES).data if trace.name == "rejected update"]
    assert [(cross.x, cross.y, cross.yaxis) for cross in crosses] == [((200,), (0.0,), "y2"), ((200,), (0.0,), "y5")]
    assert {(cross.marker.symbol, cross.marker.color) for cross in crosses} == {("x", VERMILLION)}
    assert "rejected update" not in {trace.name for trace in learning_figure(UPDATES[:1]).data}


def test_learning_figure_puts_backtracks_on_their_own_axis():
    figure = learning_figure(UPDATES)
    fraction, backtracks = trace(figure, "step fraction"), trace(figure, "backtracks")
    assert fraction.y == (1.0, 0.0, 0.8)
    assert (backtracks.type, backtracks.y) == ("bar", (0.0, 10.0, 1.0))
    assert (fraction.yaxis, backtracks.yaxis) == ("y5", "y4")
    assert (figure.layout.yaxis5.overlaying, figure.layout.yaxis4.side) == ("y4", "right")
    alone = learning_figure([UpdateRecord(1, 10, backtracks=2.0)])
    assert [(trace.name, trace.yaxis) for trace in alone.data] == [("backtracks", "y")]


def test_learning_figure_draws_achieved_and_expected_improvement_and_explained_variance():
    updates = [
        UpdateRecord(n, n, surrogate_improvement=0.1 * n, expected_improvement=0.2 * n, explained_variance=0.5)
        for n in (1, 2)
    ]
    figure = learning_figure(updates)
    assert trace(figure, "achieved").y == (0.1, 0.2)
    assert trace(figure, "expected").y == (0.2, 0.4)
    assert trace(figure, "explained variance").y == (0.5, 0.5)
    assert len(headings(figure)) == 2


@pytest.mark.parametrize(
    ("statistics", "first_words"),
    [
        ({}, []),
        ({"vf_loss": 1.0}, []),
        ({"episode_returns": (1.0,)}, ["Return:"]),
        ({"kl": 0.1, "policy_std": 1.0, "entropy": 2.0}, ["Mean", "Standard"]),
        ({"kl": 0.1, "entropy": 2.0}, ["Mean", "Entropy"]),
        ({"step_fraction": 0.1}, ["Line"]),
        ({"surrogate_improvement": 0.1, "explained_variance": 0.0}, ["Gain", "Explained"]),
    ],
)
def test_panels_without_data_are_left_out(statistics, first_words):
    figure = learning_figure([UpdateRecord(1, 10, **statistics)], max_kl=0.01, reference_return=1.0)
    if first_words:
        assert [heading.split()[0] for heading in headings(figure)] == first_words
    else:
        assert headings(figure) == ["nothing was recorded"]
        assert not figure.data


def test_panels_do_not_overlap_and_share_one_horizontal_axis():
    figure = learning_figure(UPDATES, max_kl=0.01)
    domains = [figure.layout[name].domain for name in ("yaxis", "yaxis2", "yaxis3", "yaxis4")]
    inner = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    for above, below in itertools.pairwise(domains):
        assert (above[0] - below[1]) * inner > 40
    assert domains[-1][0] == pytest.approx(0.0)
    assert {trace.xaxis for trace in figure.data} == {"x"}
    assert figure.layout.xaxis.anchor == "y4"
    assert figure.layout.width is None
