"""The sides of a comparison: each can be set back to the start, and update once."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import tianshou.algorithm
from tianshou.utils.torch_utils import policy_within_training_step
from torch import nn

from trpo_ts import KFAC, TRPO
from trpo_ts.critics import GaussNewtonFit
from updates.start import Start


class Side:
    """A TRPO at a start: an algorithm of Tianshou here, other libraries' in `updates.peer`."""

    validates: bool = True
    """Whether torch checks the arguments of distributions where the library is used alone."""
    products: float = 10.0
    """The Fisher products that conjugate gradient took in the last update; only trpo_ts does not have a fixed count."""

    def __init__(self, start: Start, build: Callable[..., Any], **extra: Any) -> None:
        self._start = start
        self._algorithm = start.algorithm(build, **extra)

    def reset(self) -> None:
        """Go back to the start: parameters, moments, statistics, rollout."""
        self._start.restore(self._algorithm)

    def update(self) -> None:
        """Do what the library does between two rollouts; this is timed."""
        with policy_within_training_step(self._algorithm.policy):
            stats = self._algorithm.update(self._start.rollout, None, 1)
        self.products = getattr(stats, "cg_iterations", self.products)

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Return policy and critic as they now are, in the modules of the start."""
        return self._algorithm.policy, self._algorithm.critic


def _peer(module: str, start: Start, **settings: Any) -> Side:
    """Return the side of a library that is imported only where it takes part."""
    side: Side = importlib.import_module(f"updates.peer_{module}").PeerSide(start, **settings)
    return side


BASELINE, OURS, GAUSS_NEWTON = "Tianshou", "trpo_ts", "trpo_ts, Gauss-Newton critic"
CLOSE = "the same, relative damping 0"
MINIBATCHES = "SB3-contrib, 10 epochs of minibatches"
MICRO_BATCHES = "trpo_ts, micro-batches of 4,096"
_ACCURATE = KFAC(relative_damping=0.0)
_SIDES: Mapping[str, Callable[[Start], Side]] = {
    BASELINE: partial(Side, build=tianshou.algorithm.TRPO),
    "SB3-contrib": partial(_peer, "sb3"),
    MINIBATCHES: partial(_peer, "sb3", epochs=10, batch_size=128),
    "skrl": partial(_peer, "skrl"),
    OURS: partial(Side, build=TRPO),
    GAUSS_NEWTON: partial(Side, build=TRPO, critic_fit=GaussNewtonFit()),
    CLOSE: partial(Side, build=TRPO, critic_fit=GaussNewtonFit(), preconditioner=_ACCURATE),
    MICRO_BATCHES: partial(Side, build=TRPO, micro_batch_size=4096),
}
TIANSHOU_LIKE = (BASELINE, OURS, GAUSS_NEWTON)
ALL = (BASELINE, "SB3-contrib", "skrl", OURS, GAUSS_NEWTON)


def build(name: str, start: Start) -> Side:
    """Return the side of that name, at the start."""
    return _SIDES[name](start)
