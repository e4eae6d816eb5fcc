"""Recurrent cells."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sequenced import CELLS
from torch import nn

from trpo_ts.recurrent.cells import GRU, LSTM, make_cell


@pytest.mark.parametrize(("cell", "reference"), [(GRU, nn.GRU), (LSTM, nn.LSTM)])
def test_cells_are_pytorchs(cell: Any, reference: Any) -> None:
    own = cell(3, 4).double()
    theirs = reference(3, 4, batch_first=True).double()
    with torch.no_grad():
        for ours, name in ((own.input, "ih"), (own.recurrent, "hh")):
            ours.bias.normal_()
            getattr(theirs, f"weight_{name}_l0").copy_(ours.weight)
            getattr(theirs, f"bias_{name}_l0").copy_(ours.bias)
    obs = torch.randn(2, 6, 3, dtype=torch.float64)
    state = torch.zeros(2, own.state_size, dtype=torch.float64)
    outputs = []
    for obs_t in obs.unbind(1):
        state = own.step(own.input(obs_t), state)
        outputs.append(state[:, :4])
    torch.testing.assert_close(torch.stack(outputs, 1), theirs(obs)[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("cell", CELLS)
def test_a_new_cell_keeps_its_state_more_than_it_writes(cell: str) -> None:
    """The gate that keeps the state stands open by the bias alone."""
    new = make_cell(cell, 3, 4)
    state = torch.full((1, new.state_size), 0.5)
    after = new.step(new.input(torch.zeros(1, 3)), torch.cat([torch.zeros(1, 4), state[:, 4:]], 1))
    gates = new.input(torch.zeros(1, 3))
    assert torch.sigmoid(gates[0, 4:8]).min() > 0.7
    assert torch.sigmoid(gates[0, :4]).max() <= 0.5
    assert torch.isfinite(after).all()
