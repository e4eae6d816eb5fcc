"""Discrete actions that are the mode in every row: refused where chance would hardly make them so."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical, Independent

from trpo_ts.validation.rollout_checks import check_sampled


def test_modes_throughout_are_refused_with_the_fix() -> None:
    behaviour = Categorical(logits=torch.tensor([[0.5, 0.0]]).expand(100, 2))  # 0.62 ** 100 is about 1e-21
    with pytest.raises(ValueError, match=r"batch.act must be drawn .* all of 100 rows; .* deterministic_eval=False"):
        check_sampled(behaviour, torch.zeros(100, dtype=torch.long))


def test_one_other_action_shows_that_they_were_drawn() -> None:
    behaviour = Categorical(logits=torch.tensor([[0.5, 0.0]]).expand(100, 2))
    for row in (0, 99):
        act = torch.zeros(100, dtype=torch.long)
        act[row] = 1
        check_sampled(behaviour, act)


@pytest.mark.parametrize(("p", "rows"), [(0.9999999, 100), (0.62, 40), (0.5, 25)])
def test_what_chance_can_do_is_no_error(p: float, rows: int) -> None:
    """All rows the mode has the probabilities 1 - 1e-5, 5e-9 and 3e-8."""
    check_sampled(Categorical(probs=torch.tensor([[p, 1.0 - p]]).expand(rows, 2)), torch.zeros(rows, dtype=torch.long))


def test_choices_of_several_components_are_one_action() -> None:
    behaviour = Independent(Categorical(logits=torch.tensor([0.5, 0.0]).expand(50, 3, 2)), 1)
    act = torch.zeros(50, 3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"batch.act must be drawn"):
        check_sampled(behaviour, act)
    act[-1, -1] = 1
    check_sampled(behaviour, act)
