"""What a distribution must be, and what it must say of the recorded actions."""

from __future__ import annotations

import math

import pytest
import torch
from enumeration import mixed
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from torch import Tensor
from torch.distributions import Beta, Categorical, Distribution, Independent, MultivariateNormal, Normal

from trpo_ts.policies import MaskedCategorical, Product
from trpo_ts.validation.distribution_checks import check_joint, check_possible, is_discrete

# --- one distribution per row


def distribution_of_shape(batch: tuple[int, ...], event: tuple[int, ...]) -> Distribution:
    return Independent(Normal(torch.zeros(batch + event), torch.ones(batch + event)), len(event))


@pytest.mark.parametrize(
    ("distribution", "n", "action_shape"),
    [
        (distribution_of_shape((5,), (2,)), 5, (2,)),
        (distribution_of_shape((5,), ()), 5, ()),
        (distribution_of_shape((1,), (2, 3)), 1, [2, 3]),
        (Categorical(logits=torch.zeros(5, 4)), 5, ()),
        (Independent(Categorical(logits=torch.zeros(5, 2, 4)), 1), 5, (2,)),
        (MultivariateNormal(torch.zeros(5, 2), torch.eye(2)), 5, torch.Size([2])),
    ],
    ids=["vector", "scalar", "matrix", "categorical", "multi-categorical", "multivariate normal"],
)
def test_joint_distributions_over_whole_actions_pass(distribution: Distribution, n: int, action_shape: tuple[int, ...]):
    check_joint(distribution, n, action_shape)
    act = distribution.sample()
    assert act.shape == (n, *action_shape)
    assert distribution.log_prob(act).shape == (n,)


@pytest.mark.parametrize(
    ("distribution", "n", "action_shape", "parts"),
    [
        (
            Normal(torch.zeros(5, 2), torch.ones(5, 2)),
            5,
            (2,),
            ["one joint distribution per observation", "Normal", "(5, 2)", "Independent(distribution, 1)"],
        ),
        (
            Normal(torch.zeros(1, 2), torch.ones(1, 2)),
            1,
            (2,),
            ["one joint distribution per observation", "(1, 2)", "Independent(distribution, 1)"],
        ),
        (
            Categorical(logits=torch.zeros(5, 2, 3, 4)),
            5,
            (2, 3),
            ["Categorical", "(5, 2, 3)", "Independent(distribution, 2)"],
        ),
        (
            Normal(torch.zeros(2), torch.ones(2)),
            5,
            (2,),
            ["one distribution per observation", "(2,)", "5 observations"],
        ),
        (Categorical(logits=torch.zeros(4)), 1, (), ["one distribution per observation", "()", "1 observations"]),
        (distribution_of_shape((5,), (2,)), 5, (3,), ["Independent", "(2,)", "(3,)"]),
        (distribution_of_shape((5,), ()), 5, (1,), ["()", "(1,)"]),
        # As many components as rows: only the shape of the actions tells them apart.
        (Normal(torch.zeros(2), torch.ones(2)), 2, (2,), ["Normal", "()", "(2,)"]),
    ],
    ids=[
        "components",
        "components of one row",
        "matrix of components",
        "no rows",
        "no row",
        "other width",
        "scalar",
        "as many components as rows",
    ],
)
def test_a_distribution_that_is_not_joint_is_named_with_its_fix(
    distribution: Distribution, n: int, action_shape: tuple[int, ...], parts: list[str]
):
    with pytest.raises(ValueError, match="must") as caught:
        check_joint(distribution, n, action_shape)
    assert [part for part in parts if part not in str(caught.value)] == []


@examples(60)
@given(
    n=st.integers(1, 4),
    batch=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    event=st.lists(st.integers(1, 3), max_size=2).map(tuple),
    action=st.lists(st.integers(1, 3), max_size=2).map(tuple),
)
def test_check_joint_passes_exactly_the_right_shapes(
    n: int, batch: tuple[int, ...], event: tuple[int, ...], action: tuple[int, ...]
):
    distribution = distribution_of_shape(batch, event)
    if batch == (n,) and event == action:
        check_joint(distribution, n, action)
    else:
        with pytest.raises(ValueError, match="must"):
            check_joint(distribution, n, action)


# --- actions that the policy cannot have taken


MASKED = MaskedCategorical(logits=torch.tensor([[0.0, -math.inf], [0.0, 0.0]]))


@pytest.mark.parametrize(
    ("distribution", "act", "got"),
    [
        (MASKED, torch.tensor([1, 1]), "got 1 with"),
        (Independent(MaskedCategorical(logits=MASKED.logits[:, None]), 1), torch.tensor([[1], [1]]), r"got \[1\] with"),
        (
            Product([mixed(2).parts[0], Independent(MaskedCategorical(logits=MASKED.logits[:, None]), 1)]),
            torch.tensor([[0.5, 0.5, 1.0], [0.0, 0.0, 1.0]]),
            r"got \[0.5, 0.5, 1.0\] with",
        ),
    ],
    ids=["choice", "choices", "product"],
)
def test_an_impossible_action_is_an_error_with_its_row(distribution: Distribution, act: Tensor, got: str):
    with pytest.raises(ValueError, match=rf"^batch.act must be possible .*{got} probability 0 in row 7;.*mask"):
        check_possible(distribution, act, first_row=7)
    check_possible(distribution, torch.zeros_like(act))
    assert is_discrete(distribution)


def test_a_density_is_not_asked_for_possible_actions():
    assert not is_discrete(Beta(torch.full((2,), 2.0), torch.full((2,), 2.0)))


def test_a_distribution_without_a_support_is_not_checked():
    class Bare(Normal):
        @property
        def support(self) -> None:
            raise NotImplementedError

    assert not is_discrete(Bare(torch.zeros(1), torch.ones(1), validate_args=False))
