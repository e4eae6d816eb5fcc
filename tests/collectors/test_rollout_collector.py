"""The collector against Tianshou's own: the same seeds and random draws give the same buffers, bit for bit."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from collecting import ACTIONS, OBSERVATIONS, Unsteady, assert_as_tianshou, assert_equal, collected
from gymnasium import spaces
from rollouts import make_actor_policy
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy, ProbabilisticActorPolicy
from tianshou.algorithm.multiagent.marl import MultiAgentOnPolicyAlgorithm
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import (
    Batch,
    Collector,
    CollectStats,
    PrioritizedVectorReplayBuffer,
    ReplayBuffer,
    VectorReplayBuffer,
)
from tianshou.env import DummyVectorEnv, ShmemVectorEnv, SubprocVectorEnv, VectorEnvNormObs
from tianshou.env.pettingzoo_env import PettingZooEnv
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import DiscreteActor
from tianshou.utils.torch_utils import policy_within_training_step
from tic_tac_toe import OBSERVATIONS as BOARD
from tic_tac_toe import TicTacToe
from torch.distributions import Independent, Normal

from trpo_ts import TRPO
from trpo_ts.collectors import RolloutCollector, VectorEnvNormReward
from trpo_ts.critics import make_critic
from trpo_ts.policies import make_policy, make_recurrent_policy
from trpo_ts.training import FiniteVectorEnv

ENVS = 3
COLLECTS: list[dict[str, Any]] = [{"n_step": 60}, {"n_step": 61}, {"n_episode": 2}, {"n_episode": 7}, {"n_step": 30}]
STEPS: list[dict[str, Any]] = [{"n_step": 60}, {"n_step": 61}]


def make_envs(kind: Any = DummyVectorEnv, **settings: Any) -> Any:
    return kind([lambda: Unsteady(**settings) for _ in range(ENVS)])


def buffer() -> ReplayBuffer:
    return VectorReplayBuffer(ENVS * 400, ENVS)


def assert_same(policy: Any, collects: Any = COLLECTS, wrap: Any = lambda env: env, **settings: Any) -> Any:
    return assert_as_tianshou(policy, lambda: wrap(make_envs(**settings)), buffer, collects)


def policy_for(obs: str, act: str, **options: Any) -> Any:
    return lambda: make_policy(OBSERVATIONS[obs], ACTIONS[act], **options)


PAIRS = list(itertools.product(["box", "float64", "discrete", "image", "dict"], ACTIONS))


@pytest.mark.parametrize(("obs", "act"), PAIRS)
def test_every_pair_of_spaces(obs: str, act: str) -> None:
    assert_same(policy_for(obs, act), obs=obs, act=act)


@pytest.mark.parametrize("ends", ["random", "every", "both", "never"])
@pytest.mark.parametrize("infos", ["none", "numbers", "nested", "some", "reused", "first"])
def test_ends_and_infos(ends: str, infos: str) -> None:
    assert_same(policy_for("box", "box"), STEPS if ends == "never" else COLLECTS, ends=ends, infos=infos)


@pytest.mark.parametrize(
    "options", [{"min_std": 0.2}, *({"distribution": name} for name in ("squashed_gaussian", "beta", "gsde"))], ids=str
)
@pytest.mark.parametrize("training", [True, False])
def test_distributions(options: dict[str, Any], training: bool) -> None:
    assert_as_tianshou(policy_for("box", "box", **options), make_envs, buffer, COLLECTS, training)


@pytest.mark.parametrize(
    "options",
    [{"std": "state_dependent"}, {"activation": torch.nn.ELU, "layer_norm": True}, {"hidden_sizes": (5,)}],
    ids=str,
)
@pytest.mark.parametrize("training", [True, False])
def test_networks(options: dict[str, Any], training: bool) -> None:
    assert_as_tianshou(policy_for("box", "box", **options), make_envs, buffer, COLLECTS, training)


@pytest.mark.parametrize("training", [True, False])
def test_distributions_of_others_are_not_written_over_by_the_next_step(training: bool) -> None:
    """The mode of a Gaussian is its mean, in whatever memory the actor has written it to."""

    def policy() -> Any:
        made = make_policy(OBSERVATIONS["box"], ACTIONS["box"])
        made.dist_fn = lambda output: Independent(Normal(*output), 1)
        return made

    assert_as_tianshou(policy, make_envs, buffer, COLLECTS, training)


def test_a_mask_in_the_observation_forbids_actions() -> None:
    ours = assert_same(policy_for("masked", "discrete", mask_key="mask"), obs="masked", act="discrete")
    rows = ours.buffer.sample_indices(0)
    assert ours.buffer.obs.mask[rows, ours.buffer.act[rows]].all()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_memory_is_carried_and_reset_where_episodes_end(cell: str) -> None:
    ours = assert_same(lambda: make_recurrent_policy(OBSERVATIONS["box"], ACTIONS["box"], cell=cell), STEPS)
    before = ours.buffer.policy.hidden_state["before"][:40].reshape(40, -1)
    first = np.append(True, ours.buffer.done[:39])
    assert first.sum() > 3
    np.testing.assert_array_equal(before.abs().sum(dim=1).numpy() == 0.0, first)


WRAPPERS = [
    VectorEnvNormObs,
    FiniteVectorEnv,
    lambda env: VectorEnvNormObs(FiniteVectorEnv(env)),
    VectorEnvNormReward,
    lambda env: VectorEnvNormObs(VectorEnvNormReward(env)),
]


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("obs", ["box", "float64"])
def test_wrappers_of_the_vector(wrap: Any, obs: str) -> None:
    ours = assert_same(policy_for(obs, "box"), wrap=wrap, obs=obs)
    if isinstance(ours.collector.env, VectorEnvNormObs):
        theirs = collected(Collector, policy_for(obs, "box"), lambda: wrap(make_envs(obs=obs)), buffer, COLLECTS)
        for name in ("mean", "var", "count"):
            left, right = (np.asarray(getattr(c.collector.env.obs_rms, name)) for c in (theirs, ours))
            assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize(
    ("kind", "obs"), [(SubprocVectorEnv, "box"), (SubprocVectorEnv, "dict"), (ShmemVectorEnv, "box")]
)
def test_environments_in_other_processes(kind: Any, obs: str) -> None:
    ours = assert_same(policy_for(obs, "box"), STEPS, kind=kind, obs=obs)
    ours.collector.close()


def test_a_dict_in_shared_memory_is_copied() -> None:
    """Tianshou's collector leaves obs_next equal to obs here."""
    shared, local = (
        collected(
            RolloutCollector, policy_for("dict", "box"), lambda kind=kind: make_envs(kind, obs="dict"), buffer, STEPS
        )
        for kind in (ShmemVectorEnv, DummyVectorEnv)
    )
    for name in ("obs", "obs_next", "act"):
        assert_equal(shared.buffer._meta[name], local.buffer._meta[name])
    shared.collector.close()


def tianshous_gaussian() -> ProbabilisticActorPolicy:
    return make_actor_policy()


def tianshous_net() -> DiscreteActorPolicy:
    net = Net(state_shape=(3,), hidden_sizes=[8])
    return DiscreteActorPolicy(
        actor=DiscreteActor(preprocess_net=net, action_shape=4, softmax_output=False), action_space=ACTIONS["discrete"]
    )


class _OwnForward(ProbabilisticActorPolicy):
    """Keeps its mean, and adds a constant to its actions."""

    def forward(self, batch: Any, state: Any = None, **kwargs: Any) -> Any:
        result = super().forward(batch, state)
        return Batch(act=result.act * 0.5, dist=result.dist, state=None, policy=Batch(mean=result.dist.mean))


def own_forward() -> ProbabilisticActorPolicy:
    policy = make_actor_policy()
    policy.__class__ = _OwnForward
    return policy


@pytest.mark.parametrize(
    ("policy", "act"), [(tianshous_gaussian, "box"), (tianshous_net, "discrete"), (own_forward, "box")]
)
def test_policies_of_others(policy: Any, act: str) -> None:
    assert_same(policy, act=act)


class _ReadsInfo(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Linear(4, 2)

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        said = info.steps if "steps" in info else np.zeros(len(obs))
        seen = np.concatenate([obs, np.asarray(said, dtype=np.float32).reshape(-1, 1)], axis=1)
        mean = self.mean(torch.as_tensor(seen, dtype=torch.float32))
        return (mean, torch.full_like(mean, 0.3)), None


def test_an_actor_that_reads_infos_gets_them() -> None:
    def policy() -> ProbabilisticActorPolicy:
        made = make_actor_policy(actor=_ReadsInfo())
        made.action_space = ACTIONS["box"]
        return made

    assert_same(policy)


def test_exploration_noise_is_added() -> None:
    def policy() -> ProbabilisticActorPolicy:
        made = make_actor_policy()
        made.add_exploration_noise = lambda act, batch: act + np.float32(0.125) * len(batch.obs)  # type: ignore
        return made

    assert_as_tianshou(policy, make_envs, buffer, STEPS, exploration_noise=True)


def test_one_environment_and_a_buffer_without_parts() -> None:
    assert_as_tianshou(
        policy_for("box", "box"), lambda: DummyVectorEnv([Unsteady]), lambda: ReplayBuffer(300), [{"n_step": 100}] * 2
    )


def test_episodes_overwrite_the_oldest_of_a_small_buffer_as_tianshous_do() -> None:
    small = VectorReplayBuffer
    assert_as_tianshou(
        policy_for("box", "box"), make_envs, lambda: small(ENVS * 8, ENVS), [{"n_episode": 9}, {"n_step": 20}]
    )


def test_lengths_are_those_of_whole_episodes() -> None:
    """Tianshou counts an episode's steps since the buffer was emptied, which its trainer does after each update."""
    lengths: dict[type, list[int]] = {Collector: [], RolloutCollector: []}
    for kind, found in lengths.items():
        envs = DummyVectorEnv([lambda: gym.wrappers.TimeLimit(Unsteady(ends="never"), 10) for _ in range(2)])
        collector = kind(policy_for("box", "box")(), envs, VectorReplayBuffer(80, 2))
        collector.reset()
        with policy_within_training_step(collector.policy):
            for _ in range(5):
                found += collector.collect(n_step=14).lens.tolist()
                collector.reset_buffer(keep_statistics=True)
    assert lengths[Collector] == [3, 3, 6, 6, 2, 2]
    assert lengths[RolloutCollector] == [10] * 6


def test_a_buffer_without_next_observations() -> None:
    ours = assert_as_tianshou(
        policy_for("box", "box"), make_envs, lambda: VectorReplayBuffer(900, ENVS, ignore_obs_next=True), COLLECTS
    )
    assert "obs_next" not in ours.buffer._meta.get_keys()


def test_random_actions_are_tianshous() -> None:
    def envs() -> Any:
        made = make_envs(act="discrete")
        for i, space in enumerate(made.action_space):
            space.seed(i)
        return made

    assert_as_tianshou(policy_for("box", "discrete"), envs, buffer, [{"n_step": 30, "random": True}, *STEPS])


def test_large_observations_are_written_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trpo_ts.collectors.recording._MOST_BYTES", 1000)
    assert_same(policy_for("image", "box"), obs="image")


def test_arrays_that_an_environment_changes_in_place_are_copied() -> None:
    """Tianshou's collector leaves obs_next equal to obs here."""
    made = collected(
        RolloutCollector, policy_for("dict", "box"), lambda: make_envs(obs="dict", own_arrays=True), buffer, STEPS
    )
    sound = collected(RolloutCollector, policy_for("dict", "box"), lambda: make_envs(obs="dict"), buffer, STEPS)
    for name in ("obs", "obs_next"):
        np.testing.assert_array_equal(made.buffer._meta[name].place, sound.buffer._meta[name].place)
    assert (made.buffer.obs.place[:20] != made.buffer.obs_next.place[:20]).all()


class _Counting(CollectStats):
    def update_at_step_batch(self, *args: Any, **kwargs: Any) -> None:
        super().update_at_step_batch(*args, **kwargs)
        self.n_collected_steps += 1000


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"on_step_hook": lambda action, batch: batch.__dict__.update(rew=batch.rew + 1)}, "a step hook"),
        ({"on_episode_done_hook": lambda batch: None}, "an episode hook"),
        ({"collect_stats_class": _Counting}, "_Counting computes statistics"),
    ],
)
def test_where_it_does_not_serve_it_says_why_and_tianshous_loop_collects(options: Any, reason: str) -> None:
    assert_as_tianshou(policy_for("box", "box"), make_envs, buffer, COLLECTS, **options)
    collector = RolloutCollector(policy_for("box", "box")(), make_envs(), buffer(), **options)
    collector.reset()
    with pytest.warns(UserWarning, match=f"Tianshou's loop collects, because it has {reason}|because {reason}"):
        collector.collect(n_step=30)


def test_other_buffers_are_filled_by_tianshous_loop() -> None:
    prioritised = PrioritizedVectorReplayBuffer(900, ENVS, alpha=0.5, beta=0.5)
    collector = RolloutCollector(policy_for("box", "box")(), make_envs(), prioritised)
    collector.reset()
    with pytest.warns(UserWarning, match="the buffer is a PrioritizedVectorReplayBuffer"):
        collector.collect(n_step=30)
    assert len(prioritised) == 30


def test_a_buffer_too_small_is_an_error_with_both_numbers_before_anything_is_stepped() -> None:
    collector = RolloutCollector(policy_for("box", "box")(), make_envs(), VectorReplayBuffer(ENVS * 10, ENVS))
    collector.reset()
    with pytest.raises(ValueError, match=r"buffer must hold the 34 steps .* n_step=100 .* room for 10.*\(102, 3\)"):
        collector.collect(n_step=102 - 2)
    assert len(collector.buffer) == 0


def test_it_must_be_reset_first() -> None:
    collector = RolloutCollector(policy_for("box", "box")(), make_envs(), buffer())
    with pytest.raises(ValueError, match="must be reset before it collects"):
        collector.collect(n_step=30)


def test_an_action_that_is_no_number_is_named() -> None:
    policy = policy_for("box", "box")()
    with torch.no_grad():
        policy.actor.mu.bias[1] = float("nan")
    collector = RolloutCollector(policy, make_envs(), buffer())
    collector.reset()
    with pytest.raises(ValueError, match=r"policy must give finite actions, got \[.*nan\]"):
        collector.collect(n_step=30)


def test_no_random_number_is_drawn_and_no_mode_kept() -> None:
    policy = policy_for("box", "box")()
    policy.train()
    collector = RolloutCollector(policy, make_envs(), buffer())
    collector.reset()
    before = torch.get_rng_state()
    collector.collect(n_step=30)  # outside of a training step it acts by its mode
    assert torch.equal(before, torch.get_rng_state())
    assert policy.training
    assert all(module.training for module in policy.modules())


def test_a_single_environment_is_wrapped() -> None:
    with pytest.warns(UserWarning, match="Single environment"):
        collector = RolloutCollector(policy_for("box", "box")(), Unsteady(), ReplayBuffer(50))
    collector.reset()
    assert collector.collect(n_step=20).n_collected_steps == 20


def test_memory_of_an_update_is_not_an_inference_tensor() -> None:
    ours = assert_same(lambda: make_recurrent_policy(OBSERVATIONS["box"], ACTIONS["box"]), STEPS)
    assert not any(value.is_inference() for value in ours.buffer.policy.hidden_state.values())


def test_what_was_collected_before_an_error_is_in_the_buffer() -> None:
    class Failing(Unsteady):
        def step(self, action: Any) -> Any:
            if self._steps == 7:
                raise RuntimeError("the simulator broke")
            return super().step(action)

    collectors = []
    for kind in (Collector, RolloutCollector):
        collector = kind(policy_for("box", "box")(), DummyVectorEnv([lambda: Failing(ends="never")] * 2), buffer())
        collector.reset(gym_reset_kwargs={"seed": 3})
        with pytest.raises(RuntimeError, match="the simulator broke"):
            collector.collect(n_step=30)
        collectors.append(collector)
    assert len(collectors[1].buffer) == len(collectors[0].buffer) == 14
    assert collectors[1].buffer.buffers[0]._ep_len == 7


def test_a_buffer_of_its_own_may_be_overwritten() -> None:
    """Nobody trains from it: it is what a test collector has."""
    collector = RolloutCollector(policy_for("box", "box")(), make_envs())
    collector.reset()
    assert collector.collect(n_step=ENVS * 10_050).n_collected_steps == ENVS * 10_050
    assert len(collector.buffer) == ENVS * 10_000


def test_several_agents_that_take_turns() -> None:
    def policy() -> Any:
        agents = [
            TRPO(
                policy=make_policy(BOARD, spaces.Discrete(9), mask_key="mask", deterministic_eval=False),
                critic=make_critic(BOARD),
                optim=AdamOptimizerFactory(lr=1e-3),
            )
            for _ in range(2)
        ]
        return MultiAgentOnPolicyAlgorithm(algorithms=agents, env=PettingZooEnv(TicTacToe())).policy

    assert_as_tianshou(
        policy, lambda: DummyVectorEnv([lambda: PettingZooEnv(TicTacToe()) for _ in range(ENVS)]), buffer, COLLECTS
    )


def test_a_compiled_actor_acts_and_is_updated() -> None:
    def policy() -> Any:
        made = policy_for("box", "box")()
        made.actor = torch.compile(made.actor, backend="eager")
        return made

    ours = assert_same(policy, STEPS)
    with torch.enable_grad():
        ours.collector.policy.actor(np.zeros((2, 3), np.float32))[0][0].sum().backward()
