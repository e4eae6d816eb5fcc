"""A module over the rows of a rollout as a function of its parameter vector."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trpo_ts.autodiff.row_function import RowFunction

OBS = torch.randn(10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def function_of(module: nn.Module, **settings: Any) -> RowFunction:
    return RowFunction(module, lambda rows: (OBS[rows],), len(OBS), **settings)


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def test_it_is_the_module_at_its_own_parameters_and_leaves_it_alone_at_others():
    module = two_layers()
    function, before = function_of(module), module(OBS).detach()
    theta = function.parameters.read()
    torch.testing.assert_close(function(theta, slice(2, 5)), module(OBS[2:5]))
    torch.testing.assert_close(function(theta, torch.tensor([7, 1])), module(OBS[[7, 1]]))
    assert not torch.allclose(function(theta + 1.0, slice(0, 10)), before)
    assert torch.equal(module(OBS), before)


@pytest.mark.parametrize("record", [True, False])
def test_a_forward_pass_has_its_graph_and_records_layers_where_it_is_told_to(record: bool):
    function = function_of(two_layers(), record_layers=record)
    theta = function.parameters.read().requires_grad_(True)
    with torch.no_grad():
        forward_pass = function.forward_pass(theta, slice(0, 10))
        other = function.forward_pass(theta, slice(0, 10), record_layers=not record)
    assert (len(forward_pass.layer_calls), len(other.layer_calls)) == ((2, 0) if record else (0, 2))
    (gradient,) = torch.autograd.grad(forward_pass.value.sum(), theta)
    assert float(gradient.norm()) > 0.0


def test_only_the_chosen_parameters_are_in_the_vector():
    module = two_layers()
    function = function_of(module, only=module[2].parameters())
    assert len(function.parameters.read()) == 4 * 2 + 2
    moved = function(torch.zeros(10, dtype=torch.float64), slice(0, 10))
    assert torch.equal(moved, torch.zeros(10, 2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("settings", "slices"),
    [
        ({}, [(0, 10)]),
        ({"micro_batch_size": 4}, [(0, 4), (4, 8), (8, 10)]),
        ({"micro_batch_size": 4, "starts": torch.tensor([0, 3, 5])}, [(0, 3), (3, 5), (5, 10)]),
    ],
    ids=["all at once", "micro-batches", "sequences"],
)
def test_the_micro_batches_are_all_rows_and_cut_no_sequence(settings: dict[str, Any], slices: list[tuple[int, int]]):
    assert [(rows.start, rows.stop) for rows in function_of(two_layers(), **settings).micro_batches] == slices


def test_evenly_spaced_rows_are_cut_into_micro_batches_too():
    chosen, micro_batches = function_of(two_layers(), micro_batch_size=2).evenly_spaced(5)
    assert chosen.tolist() == [0, 2, 4, 6, 8]
    assert [chosen[rows].tolist() for rows in micro_batches] == [[0, 2], [4, 6], [8]]
    starts: Tensor = torch.tensor([0, 3, 5, 8])
    chosen, micro_batches = function_of(two_layers(), micro_batch_size=2, starts=starts).evenly_spaced(5)
    assert chosen.tolist() == [0, 1, 2, 5, 6, 7]  # two of the four sequences
    assert [chosen[rows].tolist() for rows in micro_batches] == [[0, 1, 2], [5, 6, 7]]
