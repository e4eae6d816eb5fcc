"""The tables of the scaling study are those of the committed data, and the model costs what it says."""

from __future__ import annotations

import common
import pytest
from repository import between_markers
from scaling.cost_figure import COLOURS, cost_figure
from scaling.cost_model import RANKS, RING, TREE, Costs, Network, efficiency, fewest, halved, reduction, step
from scaling.scaling_tables import SHARES, ratios, tables

COSTS = Costs(0.06, 0.002, 0.0001, 0.02, (1024, 20_000, 80_000, 20_000), 40e-6, 4e9)


def test_the_tables_are_those_of_the_data():
    for name, text in tables(common.load("data_parallel")).items():
        assert between_markers("docs/distributed.md", name) == text


def test_a_ring_takes_two_hops_for_each_other_machine_and_a_tree_two_for_each_doubling():
    network = Network(latency=1e-3, bandwidth=1e12, per_node=1)
    assert reduction(8, 16, COSTS, network, RING) == pytest.approx(30e-3, rel=1e-6)
    assert reduction(8, 16, COSTS, network, TREE) == pytest.approx(8e-3, rel=1e-6)
    network = Network(latency=0.0, bandwidth=1e6, per_node=1)
    assert reduction(1_000_000, 2, COSTS, network, RING) == pytest.approx(1.0)


def test_more_ranks_wait_longer_and_are_less_efficient():
    waits = [step(COSTS, ranks, Network()).wait for ranks in RANKS]
    assert waits[0] == 0.0
    assert waits == sorted(waits)
    for algorithm in (RING, TREE):
        found = [efficiency(COSTS, ranks, Network(), algorithm=algorithm) for ranks in RANKS]
        assert found[0] == 1.0
        assert found == sorted(found, reverse=True)


def test_fused_and_halved_messages():
    assert fewest(COSTS.messages) == [1024, 100_000, 20_000]
    assert halved(COSTS.messages) == [1024, 10_000, 40_000, 10_000]


def test_the_figure_shows_measured_points_beside_the_model():
    data = common.load("data_parallel")
    drawn = [trace for trace in cost_figure(data).data if trace.type == "scatter" and trace.mode == "markers"]
    shares = [SHARES[label] for label in COLOURS]
    assert [trace.y[0] for trace in drawn] == [ratios(data, s.task, *s.pair).together / 2 for s in shares]
