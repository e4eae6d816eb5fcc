"""An update gives a network what acting gave it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollouts import (
    ACT_DIM,
    BOX,
    DISCRETE,
    OBS_DIM,
    OBSERVATIONS,
    Actor,
    Mlp,
    make_actor_policy,
    make_rollout,
    make_trpo,
    update,
)
from tianshou.data import Batch
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic
from torch import Tensor, nn

from trpo_ts.critics import make_critic, make_recurrent_critic
from trpo_ts.network_inputs import NetworkInput, as_tensors, copied, rows_of, takes_tensors
from trpo_ts.policies import make_policy, make_recurrent_policy

CPU = torch.device("cpu")
MASKED = spaces.Dict(observation=OBSERVATIONS, action_mask=spaces.MultiBinary(4))


def net() -> Net:
    return Net(state_shape=OBS_DIM, hidden_sizes=(8,))


KNOWN = {
    "Gaussian": lambda: make_policy(OBSERVATIONS, BOX).actor,
    "Beta": lambda: make_policy(OBSERVATIONS, BOX, distribution="beta").actor,
    "categorical": lambda: make_policy(OBSERVATIONS, DISCRETE).actor,
    "masked": lambda: make_policy(MASKED, DISCRETE, mask_key="action_mask").actor,
    "recurrent": lambda: make_recurrent_policy(OBSERVATIONS, DISCRETE).actor,
    "critic": lambda: make_critic(OBSERVATIONS),
    "recurrent critic": lambda: make_recurrent_critic(OBSERVATIONS),
    "Tianshou's continuous actor": lambda: ContinuousActorProbabilistic(preprocess_net=net(), action_shape=2),
    "Tianshou's discrete actor": lambda: DiscreteActor(preprocess_net=net(), action_shape=4),
    "Tianshou's continuous critic": lambda: ContinuousCritic(preprocess_net=net()),
    "Tianshou's discrete critic": lambda: DiscreteCritic(preprocess_net=net()),
}


@pytest.mark.parametrize("name", KNOWN)
def test_networks_of_the_package_and_of_tianshou_take_tensors(name: str):
    assert takes_tensors(KNOWN[name]())


class Own(Net):
    """A subclass may do anything."""


def with_hook() -> nn.Module:
    critic = make_critic(OBSERVATIONS)
    critic.preprocess.register_forward_pre_hook(lambda module, args: None)
    return critic


def with_another_forward() -> nn.Module:
    critic = make_critic(OBSERVATIONS)
    critic.forward = lambda obs: obs
    return critic


@pytest.mark.parametrize(
    "build",
    [
        lambda: Mlp((OBS_DIM, 1)),
        lambda: nn.Sequential(nn.Linear(OBS_DIM, 1)),
        lambda: DiscreteCritic(preprocess_net=Own(state_shape=OBS_DIM, hidden_sizes=(8,))),
        lambda: Net(state_shape=OBS_DIM, hidden_sizes=()),
        with_hook,
        with_another_forward,
    ],
    ids=["a user's", "torch's", "a subclass", "no layer", "a hook", "another forward"],
)
def test_others_take_arrays(build: Any):
    assert not takes_tensors(build())


def test_known_networks_get_one_tensor_of_their_dtype_and_others_a_copy_in_each_pass():
    obs = np.arange(12, dtype=np.float64).reshape(4, 3)
    known = NetworkInput(make_critic(OBSERVATIONS), obs, device=CPU, dtype=torch.float32)
    assert known[1:3].dtype is torch.float32
    assert known[1:3].data_ptr() == known.value[1:3].data_ptr()
    unknown = NetworkInput(Mlp((OBS_DIM, 1)), obs, device=CPU, dtype=torch.float32)
    for rows in (slice(1, 3), torch.tensor([1, 2])):
        taken = unknown[rows]
        assert taken.dtype == np.float64
        taken += 100.0
        np.testing.assert_array_equal(unknown[rows], obs[1:3])
    assert len(known) == len(unknown) == 4


def test_rows_of_nested_observations_by_slices_and_by_indices():
    obs = Batch(a=np.arange(5.0), b=Batch(c=torch.arange(10).view(5, 2), words=np.array(list("abcde"), dtype=object)))
    for rows in (slice(3, 4), torch.tensor([3])):
        chosen = rows_of(obs, rows)
        assert chosen.a.tolist() == [3.0]
        assert chosen.b.c.tolist() == [[6, 7]]
        assert chosen.b.words.tolist() == ["d"]
    twin = copied(obs)
    twin.a += 1.0
    twin.b.c += 1
    assert obs.a.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert obs.b.c[0].tolist() == [0, 1]


def test_tensors_are_of_the_networks_dtype_where_they_are_floating():
    obs = Batch(a=np.ones(2), b=np.ones(2, np.uint8), c=np.array(["x", "y"], dtype=object), d=torch.ones(2).double())
    found = as_tensors(obs, CPU, torch.float32)
    assert [found[key].dtype for key in "abd"] == [torch.float32, torch.uint8, torch.float32]
    assert found.c.tolist() == ["x", "y"]


class SinceTheFirst(nn.Module):
    """Centres float64 times of the order of 1e9 seconds, in place, before it rounds them."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.net = Mlp((OBS_DIM, 8, outputs))

    def forward(self, obs: Any) -> Tensor:
        assert obs.dtype == np.float64
        obs -= 1.7e9
        return self.net(torch.as_tensor(obs, dtype=torch.float32))


@pytest.mark.parametrize("settings", [{}, {"micro_batch_size": 16, "max_batchsize": 10}], ids=str)
def test_a_network_may_work_in_place_on_numbers_that_float32_does_not_hold(settings: dict[str, Any]):
    torch.manual_seed(0)
    body = SinceTheFirst(ACT_DIM)
    policy = make_actor_policy(actor=Actor(body.net, -0.5))
    buffer = make_rollout(policy)
    for part in buffer.buffers:
        part._meta.obs += 1.7e9
        part._meta.obs_next += 1.7e9
    recorded = buffer.sample(0)[0].obs.copy()
    policy.actor.body = body
    stats = update(make_trpo(policy, SinceTheFirst(1), **settings), buffer, 16, 2)
    assert stats.accepted == 1.0
    assert 0.0 < stats.kl.mean <= 0.01
    np.testing.assert_array_equal(buffer.sample(0)[0].obs, recorded)
