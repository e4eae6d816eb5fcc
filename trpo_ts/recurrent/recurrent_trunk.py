"""The trunk that policies and critics with a memory have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import torch
from tianshou.data import Batch
from tianshou.utils.net.common import ModuleWithVectorOutput
from torch import Tensor, nn

from trpo_ts.choices import RecurrentCell
from trpo_ts.networks import make_trunk
from trpo_ts.recurrent.cells import Cell, make_cell
from trpo_ts.recurrent.sequences import Sequences

__all__ = ["RecurrentTrunk", "make_recurrent_trunk"]


class RecurrentTrunk(ModuleWithVectorOutput):
    """An encoder of single observations and a recurrent cell after it, with the initial state zero.

    :param encoder: Tianshou's kind of network: it returns features ``(n, F)`` and something that is not looked at, and
        knows ``F`` as ``get_output_dim()``.
    :param cell: takes the features.
    """

    def __init__(self, encoder: nn.Module, cell: Cell) -> None:
        super().__init__(cell.hidden_size)
        self.encoder, self.cell = encoder, cell

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Return features ``(n, hidden_size)``, and the state to hand back at the next step.

        :param obs: n observations: those of as many environments, or rows of a rollout.
        :param state: what this returned for the environments' step before, None at the start of episodes; or the
            :class:`Sequences` of the rows.
        :param info: not looked at.
        :raises ValueError: when the state is not what this returned for as many environments.
        """
        if isinstance(state, Sequences):
            return self.replay(obs, state)[:, : self.output_dim], None
        gates = self._gates(obs)
        if state is None:
            before = gates.new_zeros(gates.shape[0], self.cell.state_size)
        else:
            before = self._carried(state, gates.shape[0]).to(gates)
        after = self.cell.step(gates, before)
        # With the state before, each row of a buffer tells from which state it started.
        return after[:, : self.output_dim], {"before": before.detach(), "after": after.detach()}

    def replay(self, obs: Any, sequences: Sequences) -> Tensor:
        """Return the state after each row, shape ``(n, state_size)``, as a function of the parameters.

        All sequences advance together, longest first, so that a step takes a leading part of them.
        """
        gates, starts = self._gates(obs), sequences.starts
        lengths = torch.diff(starts, append=starts.new_tensor([len(gates)]))
        lengths, order = lengths.sort(descending=True, stable=True)
        first_rows = starts[order]
        widths = (lengths > torch.arange(int(lengths[0]), device=lengths.device)[:, None]).sum(dim=1).tolist()
        rows = torch.cat([first_rows[:width] + t for t, width in enumerate(widths)])
        state, states = sequences.state[first_rows], []
        for gates_t, width in zip(gates[rows].split(widths), widths, strict=True):
            state = self.cell.step(gates_t, state[:width])
            states.append(state)
        place = torch.empty_like(rows)
        place[rows] = torch.arange(len(rows), device=rows.device)
        return torch.cat(states)[place]

    def _carried(self, state: Any, count: int) -> Tensor:
        """Return the state after the step before, shape ``(n, state_size)``."""
        after = state.get("after") if isinstance(state, dict | Batch) else None
        expected = (count, self.cell.state_size)
        if after is None or tuple(after.shape) != expected:
            got = "none" if after is None else tuple(after.shape)
            raise ValueError(
                f"state must hold what the trunk returned for the step before, of shape {expected}, got {got}; hand it "
                "back at the next step. Multi-agent algorithms of Tianshou do not: their agents need policies without "
                "memory, and several past observations in each observation"
            )
        return torch.as_tensor(after)

    def _gates(self, obs: Any) -> Tensor:
        features, _ = self.encoder(obs)
        gates: Tensor = self.cell.input(features)
        return gates


def make_recurrent_trunk(
    observation_space: gym.Space[object],
    cell: RecurrentCell,
    hidden_size: int,
    encoder_sizes: Sequence[int],
    activation: type[nn.Module],
    *,
    make_encoder: Callable[..., ModuleWithVectorOutput] = make_trunk,
) -> RecurrentTrunk:
    """Return a new trunk; see :func:`trpo_ts.policies.make_recurrent_policy`.

    :param make_encoder: makes the encoder of a space, from widths and an activation.
    :raises ValueError: for a space or a value that is not supported, with what to do about it.
    """
    if len(encoder_sizes) == 0:
        raise ValueError(f"encoder_sizes must be a sequence of at least one width, got {encoder_sizes!r}; say (64,)")
    encoder = make_encoder(observation_space, encoder_sizes, activation)
    return RecurrentTrunk(encoder, make_cell(cell, encoder.get_output_dim(), hidden_size))
