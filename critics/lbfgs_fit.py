"""The critic's fit by L-BFGS."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from trpo_ts.critics.fit import CriticTask
from trpo_ts.critics.optimizer_fit import OptimizerFit, accumulate_gradient
from trpo_ts.validation.parameter_values import check_integer

__all__ = ["LBFGSFit"]


@dataclass(frozen=True)
class LBFGSFit:
    """Minimise the mean squared error over the whole rollout by L-BFGS with a strong-Wolfe line search.

    The deterministic fit of the first TRPO codes. It comes close to this rollout's minimum, so that few iterations
    generalise better than many. The algorithm's optimiser is not used.

    :param iterations: the most iterations per fit, >= 1.
    :param history: curvature pairs that are kept, >= 1.
    """

    iterations: int = 10
    history: int = 10

    over_ranks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_integer("iterations", self.iterations, 1)
        check_integer("history", self.history, 1)

    def fit(self, task: CriticTask) -> list[float]:
        """Fit as :class:`CriticFit` says; a fit that does not lower the error is undone."""
        own = task.own
        before = OptimizerFit(iterations=0).fit(task)
        if not own:
            return before
        values = [p.detach().clone() for p in own]
        optimizer = torch.optim.LBFGS(
            own, max_iter=self.iterations, history_size=self.history, line_search_fn="strong_wolfe"
        )

        def closure() -> float:
            optimizer.zero_grad()
            return accumulate_gradient(task, own, slice(0, len(task.returns)), task.rows.total)

        optimizer.step(closure)
        optimizer.zero_grad()
        after = OptimizerFit(iterations=0).fit(task)
        if after[0] < before[0] and all(math.isfinite(float(p.detach().sum())) for p in own):
            return after
        with torch.no_grad():
            for p, value in zip(own, values, strict=True):
                p.copy_(value)
        return before
