"""An optimiser's moments follow parameters that are moved to another dtype."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from bandit import Critic, acted, as_float, divergence, make_algorithm, observations, rollout, update
from tianshou.algorithm.optim import AdamOptimizerFactory, RMSpropOptimizerFactory
from torch import Tensor, nn

from trpo_ts.optimizer_state import follow_parameters

pytestmark = pytest.mark.usefixtures("seeded")


class AnyActor(nn.Module):
    """A Gaussian actor in the dtype of its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
        self.log_std = nn.Parameter(torch.full((1,), -0.5))

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        mean = self.net(as_float(obs).to(self.log_std.dtype))
        return (mean, self.log_std.exp().expand_as(mean)), state


class AnyCritic(Critic):
    def __init__(self) -> None:
        super().__init__(lambda obs: as_float(obs).to(self.last.weight.dtype))


OPTIMISERS = {
    "adam": AdamOptimizerFactory(lr=1e-2),
    "rmsprop": RMSpropOptimizerFactory(lr=1e-3, momentum=0.9),
}


def moments(algorithm: Any) -> list[Tensor]:
    states = algorithm.optim._optim.state.values()
    return [value for state in states for name, value in state.items() if name != "step"]


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("moved", ["algorithm", "critic", "parameters"])
def test_training_continues_in_float64_from_the_moments_there_are(name: str, moved: str):
    algorithm = make_algorithm(AnyActor(), AnyCritic(), optim=OPTIMISERS[name])
    buffer = rollout(algorithm.policy, observations())
    update(algorithm, buffer)
    state = copy.deepcopy(algorithm.state_dict())
    if moved == "parameters":
        for p in algorithm.parameters():
            p.data = p.data.double()
    else:
        {"algorithm": algorithm, "critic": algorithm.critic}[moved].to(torch.float64)
    twin = make_algorithm(AnyActor(), AnyCritic(), optim=OPTIMISERS[name])
    (twin if moved != "critic" else twin.critic).to(torch.float64)
    twin.load_state_dict(state)  # where torch converts the moments
    recorded = buffer.sample(0)[0].obs
    before = acted(algorithm.policy, recorded)
    stats = update(algorithm, buffer)
    update(twin, buffer)
    for p, q in zip(algorithm.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-12)
    assert all(value.dtype == torch.float64 for value in moments(algorithm))
    true = divergence(before, acted(algorithm.policy, recorded))
    assert true == pytest.approx(stats.kl.mean, rel=1e-3)
    assert true <= 0.02 * 1.001


def test_back_in_float32_it_trains_too():
    algorithm = make_algorithm(AnyActor(), AnyCritic())
    buffer = rollout(algorithm.policy, observations())
    for dtype in (torch.float32, torch.float64, torch.float32):
        algorithm.to(dtype)
        assert update(algorithm, buffer) is not None
        assert all(value.dtype == dtype for value in moments(algorithm))


def test_moments_that_fit_stay_the_same_tensors():
    algorithm = make_algorithm()
    buffer = rollout(algorithm.policy, observations())
    update(algorithm, buffer)
    before = moments(algorithm)
    groups = algorithm.optim._optim.param_groups
    update(algorithm, buffer)
    assert all(a is b for a, b in zip(before, moments(algorithm), strict=True))
    assert algorithm.optim._optim.param_groups is groups


def test_steps_are_counted_in_their_own_dtype():
    parameter = nn.Parameter(torch.ones(()))
    optimizer = torch.optim.Adam([parameter])
    parameter.grad = torch.ones(())
    optimizer.step()
    parameter.data = parameter.data.double()
    follow_parameters(optimizer)
    state = optimizer.state[parameter]
    assert (state["step"].dtype, state["exp_avg"].dtype) == (torch.float32, torch.float64)
    assert float(state["step"]) == 1.0


def test_an_error_after_the_move_leaves_everything_ready_for_the_next_update():
    algorithm = make_algorithm(AnyActor(), AnyCritic())
    buffer = rollout(algorithm.policy, observations())
    update(algorithm, buffer)
    algorithm.to(torch.float64)

    class Failing:
        def fit(self, task: Any) -> list[float]:
            raise RuntimeError("broken")

    algorithm.critic_fit = Failing()
    with pytest.raises(RuntimeError, match="broken"):
        update(algorithm, buffer)
    algorithm.critic_fit = None
    assert update(algorithm, buffer).vf_loss.mean >= 0.0
