"""Networks that a user has compiled: updates are those of the networks as written, and compile nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from rollouts import ACT_DIM, BOX, OBS_DIM, OBSERVATIONS, Actor, Mlp, make_actor_policy, make_rollout, update
from sequenced import acting
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch
from tianshou.utils.torch_utils import policy_within_training_step
from torch import Tensor, nn

from trpo_ts import TRPO
from trpo_ts.critics import GaussNewtonFit, make_critic, make_recurrent_critic
from trpo_ts.network_inputs import takes_tensors
from trpo_ts.policies import make_policy, make_recurrent_policy
from trpo_ts.solver.update import trust_region_update
from trpo_ts.uncompiled import original, uncompiled

graphs: list[Any] = []


def counting(graph: Any, inputs: Any) -> Any:
    """A backend of torch.compile that counts how often it compiles. Its code has no second derivative."""
    graphs.append(graph)
    return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)


def compiled(module: Any) -> Any:
    return torch.compile(module, backend=counting)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Any:
    torch._dynamo.reset()
    graphs.clear()
    yield
    torch._dynamo.reset()


def make_networks() -> tuple[Any, Any]:
    torch.manual_seed(0)
    return make_policy(OBSERVATIONS, BOX, hidden_sizes=(8, 8)), make_critic(OBSERVATIONS, hidden_sizes=(8, 8))


def make_trpo(policy: Any, critic: Any, **options: Any) -> TRPO:
    return TRPO(policy=policy, critic=critic, optim=AdamOptimizerFactory(lr=1e-3), **options)


def sampled_rollout(policy: Any) -> Any:
    with policy_within_training_step(policy):
        return make_rollout(policy)


def act(policy: Any, buffer: Any) -> None:
    with policy_within_training_step(policy):
        policy(Batch(obs=buffer.obs[:4], info={}))


def with_actor(policy: Any, critic: Any) -> Any:
    policy.actor = compiled(policy.actor)
    return policy, critic


def with_critic(policy: Any, critic: Any) -> Any:
    return policy, compiled(critic)


def with_policy(policy: Any, critic: Any) -> Any:
    return compiled(policy), critic


def in_place(policy: Any, critic: Any) -> Any:
    policy.actor.compile(backend=counting)
    critic.compile(backend=counting)
    return policy, critic


def with_trunks(policy: Any, critic: Any) -> Any:
    for module in (policy.actor, critic):
        module.preprocess = compiled(module.preprocess)
    return policy, critic


def with_layers(policy: Any, critic: Any) -> Any:
    for module in (policy.actor, critic):
        module.preprocess.layers = compiled(module.preprocess.layers)
    return policy, critic


def with_methods(policy: Any, critic: Any) -> Any:
    for module in (policy.actor, critic):
        module.forward = compiled(module.forward)
    return policy, critic


def with_function(policy: Any, critic: Any) -> Any:
    policy.dist_fn = compiled(policy.dist_fn)
    return policy, critic


WAYS = [with_actor, with_critic, with_policy, in_place, with_trunks, with_layers, with_methods, with_function]


@pytest.mark.parametrize("fit", [None, GaussNewtonFit()], ids=["optimiser", "Gauss-Newton"])
@pytest.mark.parametrize("way", WAYS)
def test_updates_are_those_of_the_networks_as_written_and_compile_nothing(way: Callable[..., Any], fit: Any) -> None:
    policy, critic = make_networks()
    buffer = sampled_rollout(policy)
    plain = make_trpo(policy, critic, critic_fit=fit)
    algorithm = make_trpo(*way(*make_networks()), critic_fit=fit)
    counts = []
    for _ in range(3):
        act(algorithm.policy, buffer)
        counts.append(len(graphs))
        expected, stats = update(plain, buffer), update(algorithm, buffer)
        assert stats.accepted == 1.0
        assert stats.kl.mean == expected.kl.mean
        assert len(graphs) == counts[0]
    assert counts == [counts[0]] * 3
    assert (counts[0] > 0) == (way is not with_critic)  # acting is compiled
    for network, reference in ((algorithm.policy, policy), (algorithm.critic, critic)):
        for p, q in zip(network.parameters(), reference.parameters(), strict=True):
            assert torch.equal(p, q)


class Decorated(nn.Module):
    """A body whose forward pass is compiled by a decorator, as a whole graph."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(OBS_DIM, 8), nn.Tanh(), nn.Linear(8, ACT_DIM))

    @torch.compile(backend=counting, fullgraph=True)
    def forward(self, obs: Any) -> Tensor:
        return self.net(torch.as_tensor(obs, dtype=torch.float32))


def test_a_decorated_forward_pass_is_run_as_written() -> None:
    torch.manual_seed(0)
    policy = make_actor_policy(actor=Actor(Decorated(), -0.5))
    buffer = make_rollout(policy)
    count = len(graphs)
    assert count > 0
    stats = update(make_trpo(policy, Mlp((OBS_DIM, 8, 1))), buffer)
    assert stats.accepted == 1.0
    assert 0.0 < stats.kl.mean <= 0.01
    assert len(graphs) == count


def test_compiled_networks_with_a_memory_replay_their_sequences() -> None:
    def run(wrap: Callable[[Any], Any]) -> tuple[Any, Any]:
        torch.manual_seed(0)
        policy = make_recurrent_policy(OBSERVATIONS, BOX, hidden_size=4, encoder_sizes=(4,), hidden_sizes=(4,))
        critic = make_recurrent_critic(OBSERVATIONS, hidden_size=4, encoder_sizes=(4,), hidden_sizes=(4,))
        collected = acting(policy)
        collected.collect(16)  # before it is compiled, so that both see the same bits
        policy.actor, critic = wrap(policy.actor), wrap(critic)
        algorithm = make_trpo(policy, critic)
        return [update(algorithm, collected.buffer) for _ in range(2)], original(critic)

    (expected, critic), (found, compiled_critic) = run(lambda module: module), run(compiled)
    assert [s.kl.mean for s in found] == [s.kl.mean for s in expected]
    assert [s.vf_loss.mean for s in found] == [s.vf_loss.mean for s in expected]
    assert torch.equal(compiled_critic.get_extra_state()["state"], critic.get_extra_state()["state"])
    assert not graphs


def test_the_step_of_an_own_loop_takes_compiled_modules() -> None:
    policy, _ = make_networks()
    obs = torch.randn(64, OBS_DIM)

    class Distributions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.actor = policy.actor

        def forward(self, obs: Tensor) -> Any:
            return policy.dist_fn(self.actor(obs)[0])

    module = Distributions()
    step = trust_region_update(compiled(module), obs, module(obs).sample(), torch.randn(64), max_kl=0.01)
    assert step.accepted
    assert 0.0 < step.kl <= 0.01
    assert not graphs


def test_compiled_networks_are_given_tensors_made_once_like_others() -> None:
    policy, critic = make_networks()
    for network in (policy.actor, critic):
        assert takes_tensors(network)
        assert takes_tensors(compiled(network))
    policy.actor.preprocess = compiled(policy.actor.preprocess)
    assert takes_tensors(policy.actor)


def test_the_original_is_the_module_that_was_compiled() -> None:
    module = nn.Linear(1, 1)
    assert original(module) is module
    assert original(compiled(module)) is module


def stance() -> str:
    return torch._dynamo.eval_frame._stance.stance


def test_the_compilers_stance_is_put_back_after_an_exception_too() -> None:
    def fail() -> None:
        with torch.compiler.set_stance("eager_on_recompile"), uncompiled():
            assert stance() == "force_eager"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert stance() == "default"
    with torch.compiler.set_stance("eager_on_recompile"):
        with uncompiled(), uncompiled():
            pass
        assert stance() == "eager_on_recompile"


def test_of_updates_that_overlap_the_last_puts_the_stance_back() -> None:
    entered, may_leave = threading.Event(), threading.Event()

    def other() -> None:
        with uncompiled():
            entered.set()
            may_leave.wait(10.0)

    thread = threading.Thread(target=other)
    with uncompiled():
        thread.start()
        assert entered.wait(10.0)
    assert stance() == "force_eager"
    may_leave.set()
    thread.join()
    assert stance() == "default"


def test_the_compiler_is_not_imported_where_nothing_is_compiled() -> None:
    code = (
        "import sys, torch; from trpo_ts.uncompiled import original, uncompiled; module = torch.nn.Linear(1, 1)\n"
        "with uncompiled(): assert original(module) is module\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("way", [with_actor, with_critic, in_place])
def test_inductors_code_costs_an_update_no_time(way: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured: 1.0 to 1.15 times the time; before, an update took 40 times as long, or raised."""

    def inductor(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return torch._inductor.compile(graph, inputs)

    monkeypatch.setitem(globals(), "counting", inductor)
    policy, critic = make_networks()
    buffer = sampled_rollout(policy)
    plain, algorithm = make_trpo(policy, critic), make_trpo(*way(*make_networks()))
    act(algorithm.policy, buffer)
    count = len(graphs)
    times: dict[Any, list[float]] = {plain: [], algorithm: []}
    for _ in range(15):
        for learner, taken in times.items():
            start = time.perf_counter()
            update(learner, buffer)
            taken.append(time.perf_counter() - start)
            act(learner.policy, buffer)
    assert len(graphs) == count
    expected, found = (statistics.median(taken) for taken in times.values())
    assert found <= 1.5 * expected
    np.testing.assert_allclose(
        [float(p.detach().sum()) for p in algorithm.critic.parameters()],
        [float(p.detach().sum()) for p in plain.critic.parameters()],
        rtol=1e-4,
        atol=1e-5,
    )
