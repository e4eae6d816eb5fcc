r"""Recurrent cells: GRU and LSTM.

The cells are made of linear layers, evaluated step by step: unlike the fused kernels they can be differentiated twice
on every device, as the products with the Fisher matrix demand, and K-FAC finds a Kronecker factor for each of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trpo_ts.choices import RecurrentCell
from trpo_ts.validation.parameter_values import check_integer

__all__ = ["GRU", "LSTM", "Cell", "make_cell"]


class Cell(nn.Module):
    r"""A recurrent cell :math:`s_t = f(W x_t + b, s_{t-1})`; its output is the first part of its state.

    :param input_size: the width of :math:`x`.
    :param hidden_size: the width of the output.
    :param gates: how many vectors of that width the cell computes from :math:`x`.
    :param states: how many such vectors make up its state.
    """

    def __init__(self, input_size: int, hidden_size: int, *, gates: int, states: int) -> None:
        super().__init__()
        self.hidden_size, self.state_size = hidden_size, states * hidden_size
        self.input = nn.Linear(input_size, gates * hidden_size)
        self.recurrent = nn.Linear(hidden_size, gates * hidden_size)
        for layer in (self.input, self.recurrent):
            for gate in layer.weight.split(hidden_size):
                nn.init.orthogonal_(gate)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.input.bias[self._keeping()] = 1.0  # memory is kept until the network learns to drop it

    def _keeping(self) -> slice:
        """Return the part of the bias whose gate keeps the state when it is open."""
        raise NotImplementedError

    def step(self, gates: Tensor, state: Tensor) -> Tensor:
        """Return the next state.

        :param gates: what :attr:`input` made of the input, shape ``(n, gates * hidden_size)``.
        :param state: shape ``(n, state_size)``.
        """
        raise NotImplementedError


class GRU(Cell):
    r"""The gated recurrent unit of Cho et al. 2014 (arXiv:1406.1078), gates as in :class:`torch.nn.GRU`.

    .. math::
        r = \sigma(W_r x + U_r h), \quad z = \sigma(W_z x + U_z h), \quad
        n = \tanh(W_n x + r \odot U_n h), \quad h' = (1 - z) \odot n + z \odot h
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, gates=3, states=1)

    def _keeping(self) -> slice:
        return slice(self.hidden_size, 2 * self.hidden_size)

    def step(self, gates: Tensor, state: Tensor) -> Tensor:
        """See :meth:`Cell.step`."""
        sizes = [2 * self.hidden_size, self.hidden_size]
        gates_rz, gates_n = gates.split(sizes, dim=1)
        recurrent_rz, recurrent_n = self.recurrent(state).split(sizes, dim=1)
        r, z = torch.sigmoid(gates_rz + recurrent_rz).chunk(2, dim=1)
        return torch.lerp(torch.tanh(torch.addcmul(gates_n, r, recurrent_n)), state, z)


class LSTM(Cell):
    r"""Long short-term memory with a forget gate (Gers et al. 2000), gates as in :class:`torch.nn.LSTM`.

    .. math::
        i, f, o = \sigma(W_{ifo} x + U_{ifo} h), \quad g = \tanh(W_g x + U_g h), \quad
        c' = f \odot c + i \odot g, \quad h' = o \odot \tanh(c')

    Its state is :math:`(h, c)`.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, gates=4, states=2)

    def _keeping(self) -> slice:
        return slice(self.hidden_size, 2 * self.hidden_size)

    def step(self, gates: Tensor, state: Tensor) -> Tensor:
        """See :meth:`Cell.step`."""
        h, c = state.chunk(2, dim=1)
        i, f, g, o = (gates + self.recurrent(h)).chunk(4, dim=1)
        c = torch.addcmul(torch.sigmoid(f) * c, torch.sigmoid(i), torch.tanh(g))
        return torch.cat([torch.sigmoid(o) * torch.tanh(c), c], dim=1)


_CELLS: dict[RecurrentCell, type[GRU] | type[LSTM]] = {"gru": GRU, "lstm": LSTM}


def make_cell(cell: RecurrentCell, input_size: int, hidden_size: int) -> Cell:
    """Return a new cell.

    :param cell: "gru" or "lstm".
    :raises ValueError: for another name, or a width that is no positive integer.
    """
    if cell not in _CELLS:
        raise ValueError(f"cell must be one of {', '.join(map(repr, _CELLS))}, got {cell!r}")
    return _CELLS[cell](input_size, check_integer("hidden_size", hidden_size, 1))
