"""The unit in which a critic's targets are scaled: Tianshou's order of things, beside the algorithm's own."""

from __future__ import annotations

from typing import Any

from trpo_ts import TRPO

__all__ = ["TianshousUnit", "Unscaled"]


class TianshousUnit(TRPO):
    """Divides scaled targets as Tianshou does: by the deviation of the returns before this rollout."""

    def _add_returns_and_advantages(self, *args: Any) -> Any:
        before = self._return_unit()
        batch = super()._add_returns_and_advantages(*args)
        ratio = self._return_unit() / before
        batch.returns, batch.v_s = batch.returns * ratio, batch.v_s * ratio
        return batch


class Unscaled(TRPO):
    """Without ``return_scaling``; keeps the statistics of the returns all the same."""

    def _add_returns_and_advantages(self, *args: Any) -> Any:
        batch = super()._add_returns_and_advantages(*args)
        self._observe_returns(batch.returns.cpu().numpy())
        return batch
