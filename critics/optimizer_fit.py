"""Critic fits by the steps of an optimiser: the documented one, and epochs of minibatches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trpo_ts.autodiff.ranks import Ranks, Shard
from trpo_ts.autodiff.rows import row_slices
from trpo_ts.critics.fit import CriticTask, reported
from trpo_ts.recurrent.sequences import sequence_starts
from trpo_ts.validation.batch_statistics import named_batch_statistics, takes_batch_statistics
from trpo_ts.validation.parameter_values import check_integer

__all__ = ["MinibatchFit", "OptimizerFit", "accumulate_gradient"]


@dataclass(frozen=True)
class OptimizerFit:
    r"""Tianshou's documented fit: so many steps on the whole rollout, or on each minibatch in turn.

    ``critic_fit=None`` means this one, with ``optim_critic_iters`` and the trainer's ``batch_size``. Each step lowers
    the mean of :math:`(V(s_n) - R_n)^2` over the minibatch. Only the optimiser's own parameters get a gradient. A step
    whose loss or gradient is not finite is left out, and the optimiser's moments stay sound.

    :param iterations: steps on each minibatch, >= 0; with 0 the losses are only measured.
    :param batch_size: rows of a minibatch, >= 1, shuffled, a smaller last one merged into the one before; None for the
        whole rollout. Sequences are shuffled and taken as wholes, one at least. With several ranks they are rows of
        all of them, in the order that rank 0 draws; each rank computes with those that it holds.
    """

    iterations: int = 5
    batch_size: int | None = None

    over_ranks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_integer("iterations", self.iterations, 0)
        if self.batch_size is not None:
            check_integer("batch_size", self.batch_size, 1)

    def fit(self, task: CriticTask) -> list[float]:
        """Fit as :class:`CriticFit` says; the losses are those at the last step on each minibatch."""
        own, losses = task.own, []
        minibatches = _minibatches(task, self.batch_size)
        task.optimizer.zero_grad()  # also of parameters that were frozen since: a step would keep moving them
        with _fused(task.optimizer), torch.set_grad_enabled(self.iterations > 0):
            for rows, count in minibatches:
                loss = math.inf
                for step in range(max(self.iterations, 1)):
                    for p in own:
                        p.grad = None
                    loss = accumulate_gradient(task, own, rows, count)
                    if step < self.iterations and math.isfinite(loss) and _gradients_are_finite(own):
                        task.optimizer.step()
                losses.append(reported(loss))
        return losses


@dataclass(frozen=True)
class MinibatchFit:
    """Epochs over the rollout, one step on each shuffled minibatch, as Stable-Baselines fits.

    :param epochs: passes over the rollout, >= 1.
    :param batch_size: rows of a minibatch, >= 1.
    """

    epochs: int = 10
    batch_size: int = 128

    over_ranks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_integer("epochs", self.epochs, 1)
        check_integer("batch_size", self.batch_size, 1)

    def fit(self, task: CriticTask) -> list[float]:
        """Fit as :class:`CriticFit` says; the losses are those of the last epoch."""
        losses: list[float] = []
        for _ in range(self.epochs):
            losses = OptimizerFit(1, self.batch_size).fit(task)
        return losses


@contextmanager
def _fused(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let Adam on the CPU take its fused kernel, where nothing else is asked for: a third of the time, same steps."""
    groups = [
        group
        for group in optimizer.param_groups
        if type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)
        and all(group.get(key, True) is None for key in ("fused", "foreach"))
        and not (group["differentiable"] or group["capturable"])
        and all(p.device.type == "cpu" and p.is_floating_point() for p in group["params"])
    ]
    for group in groups:
        group["fused"] = True
    try:
        yield
    finally:
        for group in groups:
            group["fused"] = None


def accumulate_gradient(task: CriticTask, own: Sequence[nn.Parameter], chosen: Tensor | slice, count: int) -> float:
    """Add the gradient of a minibatch's mean squared error to ``own``, part by part, and return the error.

    :param chosen: this rank's rows of the minibatch.
    :param count: how many rows all ranks have in it; the gradients are summed over them in one reduction.
    """
    total = _accumulated(task, own, chosen, count)
    if task.rows.is_whole:
        return total
    return _summed_over_ranks(task.rows.ranks, own, total)


def _accumulated(task: CriticTask, own: Sequence[nn.Parameter], chosen: Tensor | slice, count: int) -> float:
    targets, total = task.returns[chosen], 0.0
    if len(targets) == 0:
        return total
    obs = task.obs[chosen]
    # Statistics of parts would be others than those of the minibatch.
    whole = task.micro_batch_size is not None and takes_batch_statistics(task.critic)
    size = None if whole else task.micro_batch_size
    for part in row_slices(len(targets), size, sequence_starts(obs)):
        rows = part.stop - part.start
        share = rows / count
        with named_batch_statistics("critic", task.critic, rows):
            values = task.critic(obs[part]).flatten()
        loss = F.mse_loss(values, targets[part])
        loss = loss if share == 1.0 else share * loss
        if loss.requires_grad and own:
            loss.backward(inputs=own)
        total += float(loss.detach())
    return total


def _summed_over_ranks(ranks: Ranks, own: Sequence[nn.Parameter], loss: float) -> float:
    """Sum the gradients over the ranks, and return the sum of the losses.

    A parameter gets none, which an optimiser leaves alone, where no rank has one. Without gradients the loss is all.
    """
    if not torch.is_grad_enabled():
        return sum(loss for (loss,) in ranks.gather([loss]))
    numbers = torch.tensor([loss, *(p.grad is not None for p in own)], dtype=torch.float64)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in own]
    summed, *gradients = ranks.sum(numbers, *gradients)
    total, *holders = summed.tolist()
    for p, gradient, held in zip(own, gradients, holders, strict=True):
        p.grad = gradient if held else None
    return float(total)


def _gradients_are_finite(parameters: Sequence[nn.Parameter]) -> bool:
    """Whether the squares of the gradients, which optimisers average, have a finite sum."""
    gradients = [p.grad.reshape(-1) for p in parameters if p.grad is not None]
    return math.isfinite(sum(float(gradient.dot(gradient)) for gradient in gradients))


def _minibatches(task: CriticTask, batch_size: int | None) -> Iterator[tuple[Tensor | slice, int]]:
    """Yield this rank's rows of each minibatch, and how many rows it has on all ranks."""
    shard, starts = task.rows, sequence_starts(task.obs)
    if batch_size is None or batch_size >= shard.total:
        yield slice(0, shard.count), shard.total
    elif starts is None:
        order = shard.ranks.first(torch.randperm(shard.total))
        full = shard.total // batch_size
        for i in range(full):
            rows = order[i * batch_size : (i + 1) * batch_size if i < full - 1 else shard.total]
            yield shard.own(rows), len(rows)
    else:
        yield from _sequence_minibatches(task, batch_size, starts)


def _sequence_minibatches(task: CriticTask, batch_size: int, starts: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Cut the shuffled sequences where ``batch_size`` rows are reached, and as many are left."""
    shard, own = task.rows, task.sequence_shard or Shard.whole(len(starts))
    sequences = torch.arange(shard.count, device=starts.device).tensor_split(starts[1:].cpu())
    lengths = [length for part in own.ranks.gather_objects(list(map(len, sequences))) for length in part]
    order: list[int] = own.ranks.first(torch.randperm(own.total)).tolist()
    minibatch: list[Tensor] = [starts.new_empty(0)]
    taken = count = 0
    for i in order:
        if own.start <= i < own.start + own.count:
            minibatch.append(sequences[i - own.start])
        taken, count = taken + lengths[i], count + lengths[i]
        if count >= batch_size and shard.total - taken >= batch_size:
            yield torch.cat(minibatch), count
            minibatch, count = [starts.new_empty(0)], 0
    yield torch.cat(minibatch), count
