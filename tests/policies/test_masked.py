"""Invalid actions: never taken, without a part in the mathematics, and named where a rollout holds one."""

from __future__ import annotations

import copy
import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from action_tasks import OBSERVATIONS, FirstValid, mean_return, train
from dense import dense, gauss_newton_product, generator
from gymnasium import spaces
from gymnasium.wrappers import TransformObservation
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from rollouts import Mlp, mean_kl, parameters_of, same, update
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, VectorReplayBuffer
from tianshou.utils.net.common import ModuleWithVectorOutput
from tianshou.utils.net.discrete import DiscreteCritic
from tianshou.utils.torch_utils import policy_within_training_step
from torch import Tensor, nn

from trpo_ts import KFAC, TRPO
from trpo_ts.autodiff.flat_parameters import FlatParameters
from trpo_ts.critics import make_critic
from trpo_ts.distributions.fisher_metric import fisher_metric
from trpo_ts.envs import FlatAction
from trpo_ts.kfac.factors import kronecker_factors
from trpo_ts.kfac.preconditioner import KroneckerPreconditioner
from trpo_ts.policies import MaskedCategorical, make_policy
from trpo_ts.policies.masked import MaskedActor, WithoutMask, make_unmasked_trunk
from trpo_ts.solver.conjugate_gradient import conjugate_gradient
from trpo_ts.solver.linear_operators import damped

ACTIONS = {
    "discrete": spaces.Discrete(5),
    "multi-discrete": spaces.MultiDiscrete([2, 3, 4]),
    "bits": spaces.MultiBinary((2, 2)),
    "mixed": FlatAction(spaces.Dict(a=spaces.Box(-1.0, 1.0, (2,)), b=spaces.Discrete(3), c=spaces.MultiDiscrete([2]))),
}
NVEC = {"discrete": [5], "multi-discrete": [2, 3, 4], "bits": [2, 2, 2, 2], "mixed": [3, 2]}
every_action = pytest.mark.parametrize("name", ACTIONS)


def masked_space(count: int, dtype: Any = np.int8) -> spaces.Dict:
    return spaces.Dict(observation=OBSERVATIONS, action_mask=spaces.Box(0, 1, (count,), dtype))


def random_masks(nvec: list[int], rows: int, rng: np.random.Generator) -> np.ndarray:
    """Return masks that leave each component at least one category, shape ``(rows, sum(nvec))``."""
    parts = []
    for n in nvec:
        part = rng.random((rows, n)) < 0.5
        part[np.arange(rows), rng.integers(n, size=rows)] = True
        parts.append(part)
    return np.concatenate(parts, axis=1)


def observations(nvec: list[int], rows: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    return Batch(
        observation=rng.standard_normal((rows, 3)).astype(np.float32), action_mask=random_masks(nvec, rows, rng)
    )


def allowed(act: Tensor, nvec: list[int], mask: np.ndarray) -> bool:
    indices = act.reshape(len(act), -1)[:, -len(nvec) :].long()
    starts = torch.as_tensor(np.cumsum([0, *nvec[:-1]]))
    return bool(torch.as_tensor(mask).bool().gather(1, indices + starts).all())


def masked_policy(name: str, **kwargs: Any) -> Any:
    space = masked_space(sum(NVEC[name]))
    return make_policy(space, ACTIONS[name], mask_key="action_mask", hidden_sizes=(8,), **kwargs)


def critic_of(space: spaces.Dict) -> nn.Module:
    return DiscreteCritic(preprocess_net=make_unmasked_trunk(space, "action_mask", (8,), nn.Tanh))


# --- acting


@examples(25)
@given(
    name=st.sampled_from(sorted(ACTIONS)),
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1.0, 1e3, 1e6]),
    training=st.booleans(),
)
def test_no_invalid_action_is_sampled_or_the_mode(name: str, seed: int, scale: float, training: bool):
    torch.manual_seed(seed)
    policy = masked_policy(name)
    with torch.no_grad():
        for p in policy.parameters():
            if p.dim() == 2:
                p.mul_(scale)
    obs = observations(NVEC[name], 200, seed)
    with torch.no_grad(), policy_within_training_step(policy, enabled=training):
        result = policy(Batch(obs=obs, info=Batch()))
    assert allowed(result.act, NVEC[name], obs.action_mask)
    assert allowed(result.dist.mode, NVEC[name], obs.action_mask)


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.int64, np.float32])
def test_masks_of_any_dtype_as_arrays_and_tensors(dtype: Any):
    torch.manual_seed(0)
    policy = masked_policy("discrete")
    obs = observations([5], 6)
    expected = policy.actor(obs)[0]
    array = obs.action_mask.astype(dtype)
    for mask in (array, torch.as_tensor(array)):
        outputs, _ = policy.actor(Batch(observation=obs.observation, action_mask=mask, agent_id="a"))
        assert torch.equal(outputs, expected)
    assert torch.equal(expected.isneginf(), torch.as_tensor(~obs.action_mask))


def test_the_network_does_not_see_the_mask():
    torch.manual_seed(0)
    policy = masked_policy("discrete")
    first, second = observations([5], 6), observations([5], 6)
    second.action_mask = np.ones_like(second.action_mask)
    masked, free = policy.actor(first)[0], policy.actor(second)[0]
    torch.testing.assert_close(masked[~masked.isneginf()], free[~masked.isneginf()], rtol=0, atol=0)


def test_several_other_keys_reach_the_trunk_as_a_batch_and_one_as_its_array():
    class Trunk(ModuleWithVectorOutput):
        def forward(self, obs: Any, state: Any = None) -> Any:
            self.seen = obs
            return torch.zeros(2, 4), state

    obs = Batch(a=np.ones((2, 1)), b=np.zeros((2, 3)), mask=np.ones((2, 2)))
    trunk = Trunk(4)
    assert WithoutMask(trunk, ["a", "b"]).get_output_dim() == 4
    WithoutMask(trunk, ["a", "b"])(obs)
    assert sorted(trunk.seen.get_keys()) == ["a", "b"]
    _, state = WithoutMask(trunk, ["b"])(obs, state="kept")
    assert trunk.seen is obs.b
    assert state == "kept"


@every_action
def test_a_mask_that_leaves_nothing_is_an_error(name: str):
    obs = observations(NVEC[name], 4)
    obs.action_mask[2, -NVEC[name][-1] :] = False
    with pytest.raises(ValueError, match=r"mask must leave every component a valid category, .* row 2 of 4"):
        masked_policy(name)(Batch(obs=obs, info=Batch()))


# --- the mathematics


class Inner(nn.Module):
    """A float64 network on the observation's numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Mlp((3, 6, 5)).double()

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> tuple[Tensor, Any]:
        return self.body(obs["observation"]), state


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.actor = MaskedActor(Inner(), "action_mask", 0)

    def forward(self, obs: Any) -> MaskedCategorical:
        return MaskedCategorical(logits=self.actor(obs)[0])


@pytest.mark.parametrize("never", [False, True], ids=["masks that differ", "a category never valid"])
def test_fisher_products_and_the_preconditioned_solve_are_those_of_the_valid_actions(never: bool):
    torch.manual_seed(0)
    module, obs = Masked(), observations([5], 60)
    if never:
        obs.action_mask[:, 3] = False
        obs.action_mask[:, 1] = True
    parameters = FlatParameters(module)
    theta = parameters.read().requires_grad_(True)
    forward_pass = parameters.forward_pass(theta, obs)
    metric = fisher_metric(forward_pass.value)
    matrix = dense(gauss_newton_product(metric, theta), theta.numel())

    def logits_of(vector: Tensor) -> Tensor:
        inner = {name.removeprefix("actor.actor."): part for name, part in parameters.unflatten(vector).items()}
        return torch.func.functional_call(module.actor.actor, inner, (obs,))[0]

    logits, jacobian = logits_of(theta.detach()), torch.func.jacrev(logits_of)(theta.detach())
    expected = torch.zeros_like(matrix)
    for row, rows, valid in zip(logits, jacobian, torch.as_tensor(obs.action_mask), strict=True):
        p = row[valid].softmax(-1)
        expected += rows[valid].mT @ (torch.diag(p) - torch.outer(p, p)) @ rows[valid] / len(logits)
    torch.testing.assert_close(matrix, expected, rtol=1e-9, atol=1e-12)

    factors = kronecker_factors(forward_pass, metric)
    (group,) = factors.groups
    assert (group.derivative_factor[6 + 3] == 0).all() == never  # of the hidden layer's six and the output layer's five
    preconditioner = KroneckerPreconditioner(factors, parameters.slices, damping=0.05, inner_iterations=4)
    multiplied = dense(preconditioner.multiply, theta.numel())
    torch.testing.assert_close(multiplied, multiplied.mT)
    assert torch.linalg.eigvalsh(multiplied)[0] > 0.05 - 1e-10
    b = torch.randn(theta.numel(), dtype=torch.float64, generator=generator(1))
    operator = damped(gauss_newton_product(metric, theta), 0.05)
    solved = conjugate_gradient(operator, b, max_iterations=500, tolerance=1e-10, preconditioner=preconditioner)
    exact = torch.linalg.solve(expected + 0.05 * torch.eye(theta.numel(), dtype=torch.float64), b)
    torch.testing.assert_close(solved.x, exact, rtol=1e-6, atol=1e-7)


# --- updates


def rollout_of(policy: Any, name: str, length: int = 16) -> VectorReplayBuffer:
    """Return a buffer of random observations and masks with the policy's own actions, four environments."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    buffer = VectorReplayBuffer(4 * length, 4)
    for step in range(length):
        obs, obs_next = observations(NVEC[name], 4, step), observations(NVEC[name], 4, step + 1)
        with torch.no_grad(), policy_within_training_step(policy):
            act = policy(Batch(obs=obs, info=Batch())).act.numpy()
        ends = np.zeros(4, dtype=bool)
        buffer.add(
            Batch(
                obs=obs, act=act, rew=rng.random(4), terminated=ends, truncated=ends, obs_next=obs_next, info=Batch()
            ),
            buffer_ids=np.arange(4),
        )
    return buffer


def algorithm_of(policy: Any, **kwargs: Any) -> TRPO:
    return TRPO(
        policy=policy, critic=critic_of(policy.observation_space), optim=AdamOptimizerFactory(lr=1e-2), **kwargs
    )


@every_action
@pytest.mark.parametrize("preconditioner", [None, KFAC()], ids=["plain", "kfac"])
@pytest.mark.parametrize("ent_coef", [0.0, 5.0])
def test_the_trust_region_holds_under_masks(name: str, preconditioner: KFAC | None, ent_coef: float):
    policy = masked_policy(name)
    buffer = rollout_of(policy, name)
    before = copy.deepcopy(policy)
    algorithm = algorithm_of(policy, max_kl=0.02, preconditioner=preconditioner, ent_coef=ent_coef)
    stats = update(algorithm, buffer, None, 2)
    assert stats.accepted == 1.0
    assert 1e-4 < stats.kl.mean <= 0.02
    assert mean_kl(before, policy, buffer) == pytest.approx(stats.kl.mean, rel=1e-3)
    assert math.isfinite(stats.entropy)


@every_action
def test_a_recorded_action_that_its_mask_forbids_is_an_error_before_anything_changes(name: str):
    policy = masked_policy(name)
    buffer = rollout_of(policy, name)
    obs = buffer._meta.obs
    obs.action_mask[20, -NVEC[name][-1] :] = False
    obs.action_mask[20, -1 if buffer._meta.act[20].ravel()[-1] == 0 else -NVEC[name][-1]] = True
    algorithm = algorithm_of(policy, max_batchsize=16, return_scaling=True)
    before, statistics = parameters_of(algorithm), algorithm.ret_rms.var
    with pytest.raises(ValueError, match=r"^batch.act must be possible .* in row 20; nothing was updated.*mask"):
        update(algorithm, buffer)
    assert same(before, algorithm)
    assert algorithm.ret_rms.var == statistics


def test_a_component_beyond_its_number_of_categories_is_an_error():
    torch.manual_seed(0)
    policy = make_policy(OBSERVATIONS, ACTIONS["multi-discrete"], hidden_sizes=(8,))
    critic = make_critic(OBSERVATIONS, hidden_sizes=(8,))
    algorithm = TRPO(policy=policy, critic=critic, optim=AdamOptimizerFactory(lr=1e-2))
    buffer = VectorReplayBuffer(4, 1)
    for act in ([0, 0, 0], [1, 2, 3], [2, 0, 0], [0, 0, 0]):  # the first component has two
        step = {"obs": np.ones((1, 3)), "obs_next": np.ones((1, 3)), "rew": np.ones(1), "info": Batch()}
        ends = {"terminated": np.array([False]), "truncated": np.array([False])}
        buffer.add(Batch(act=np.array([act]), **step, **ends), buffer_ids=[0])
    with pytest.raises(ValueError, match=r"^batch.act must be possible for the policy, got \[2, 0, 0\] .* row 2;"):
        update(algorithm, buffer)


# --- learning


def test_what_only_the_mask_tells_is_learned_with_it_and_cannot_be_without():
    torch.manual_seed(0)
    space = FirstValid.observation_space
    policy = make_policy(space, FirstValid.action_space, mask_key="action_mask", hidden_sizes=(8,))
    masked, _ = train(policy, critic_of(space), FirstValid, updates=10)
    assert mean_return(masked, FirstValid) >= 9.5  # of 10

    def unmasked() -> gym.Env[Any, Any]:
        return TransformObservation(FirstValid(), lambda obs: obs["observation"], OBSERVATIONS)

    critic = make_critic(OBSERVATIONS, hidden_sizes=(8,))
    plain, _ = train(
        make_policy(OBSERVATIONS, FirstValid.action_space, hidden_sizes=(8,)), critic, unmasked, updates=10
    )
    assert mean_return(plain, unmasked) <= 1.5


# --- what is not a mask


@pytest.mark.parametrize(
    ("space", "action_space", "mask_key", "message"),
    [
        (OBSERVATIONS, ACTIONS["discrete"], "action_mask", r"mask_key must be one of several keys of a Dict"),
        (masked_space(5), ACTIONS["discrete"], "mask", r"mask_key must be one of several keys .* got 'mask'"),
        (spaces.Dict(mask=spaces.MultiBinary(5)), ACTIONS["discrete"], "mask", r"mask_key must be one of several"),
        (masked_space(4), ACTIONS["discrete"], "action_mask", r"observation_space\['action_mask'\] must .* 5 in all"),
        (masked_space(3), ACTIONS["multi-discrete"], "action_mask", r"must be a MultiBinary or Box .* 9 in all"),
        (
            spaces.Dict(observation=OBSERVATIONS, action_mask=spaces.Discrete(5)),
            ACTIONS["discrete"],
            "action_mask",
            r"must be a MultiBinary or Box",
        ),
        (masked_space(2), spaces.Box(-1.0, 1.0, (2,)), "action_mask", r"mask_key must be None for a Box"),
    ],
    ids=["no Dict", "no such key", "nothing else", "too short", "one for each component", "index", "Box"],
)
def test_masks_that_do_not_fit_are_refused(space: Any, action_space: Any, mask_key: str, message: str):
    with pytest.raises(ValueError, match=f"^(?=.*{message})"):
        make_policy(space, action_space, mask_key=mask_key)


def test_multi_binary_is_a_mask_too():
    space = spaces.Dict(observation=OBSERVATIONS, mask=spaces.MultiBinary(5))
    policy = make_policy(space, ACTIONS["discrete"], mask_key="mask")
    obs = Batch(observation=np.zeros((2, 3)), mask=[[False, False, True, False, False], [True] * 5])
    assert policy(Batch(obs=obs, info=Batch())).dist.probs[0].tolist() == [0, 0, 1, 0, 0]
