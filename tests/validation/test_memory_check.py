"""What a policy returns as its state is its memory only where its actions depend on it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from rollouts import ACT_DIM, OBS_DIM, Actor, Mlp, make_actor_policy, make_trpo, parameters_of, update
from sequenced import acting
from tianshou.data import Batch
from torch import Tensor, nn

from trpo_ts.validation.memory_check import MemoryCheck


class Stating(nn.Module):
    """An actor that returns something as its state, and adds some of the state that it gets to its means."""

    def __init__(self, kind: Any, weight: float = 0.0) -> None:
        super().__init__()
        self.actor, self.kind, self.weight = Actor(Mlp((OBS_DIM, 8, ACT_DIM)), -0.5), kind, weight
        self.calls_with_state = 0

    def forward(self, obs: Any, state: Any = None, info: Any = None) -> Any:
        (mean, std), _ = self.actor(obs)
        if state is not None:
            self.calls_with_state += 1
            if self.weight:
                mean = mean + self.weight * state.features
        return (mean, std), self.kind(mean.detach())


def learner(kind: Any, weight: float = 0.0) -> tuple[Any, Any]:
    torch.manual_seed(0)
    policy = make_actor_policy(actor=Stating(kind, weight))
    torch.manual_seed(1)
    collected = acting(policy)
    collected.collect(16)
    return make_trpo(policy), collected.buffer


KINDS: dict[str, Any] = {
    "features": lambda x: x,
    "a dict": lambda x: {"features": x},
    "a container": lambda x: Batch(features=x),
    "nested containers": lambda x: Batch(agent=Batch(features=x), other=Batch()),
    "empty containers": lambda x: Batch(agent=Batch(), other=Batch()),
    "an empty one": lambda x: Batch(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_nobody_reads_changes_nothing(kind: str) -> None:
    algorithm, buffer = learner(KINDS[kind])
    reference, same_buffer = learner(lambda x: None)
    expected, stats = update(reference, same_buffer), update(algorithm, buffer)
    assert stats.accepted == 1.0
    assert stats.kl.mean == expected.kl.mean
    for p, q in zip(algorithm.parameters(), reference.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("weight", [1.0, 1e-3])
def test_a_state_that_is_read_is_refused_before_anything_changes(weight: float) -> None:
    algorithm, buffer = learner(KINDS["a dict"], weight)
    before = copy.deepcopy(algorithm.state_dict())
    with pytest.raises(
        ValueError, match=r"policy must .* got a Stating that keeps a state on which its actions depend"
    ):
        update(algorithm, buffer)
    after = algorithm.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if isinstance(before[k], Tensor))


def test_an_actor_that_finds_another_kind_of_state_than_it_needs_has_a_memory() -> None:
    algorithm, buffer = learner(KINDS["a dict"], 1.0)
    renamed = buffer._meta.policy.hidden_state
    renamed.other = renamed.pop("features")
    with pytest.raises(ValueError, match=r"keeps a state on which its actions depend"):
        update(algorithm, buffer)


def test_an_actor_is_looked_at_once() -> None:
    algorithm, buffer = learner(KINDS["features"])
    actor = algorithm.policy.actor
    for _ in range(3):
        actor.calls_with_state = 0
        before = parameters_of(actor)
        update(algorithm, buffer)
        assert any(not torch.equal(p, q) for p, q in zip(before, actor.parameters(), strict=True))
        assert actor.calls_with_state <= 1
    assert actor.calls_with_state == 0
    assert isinstance(algorithm._check_memory, MemoryCheck)


@pytest.mark.parametrize("size", [1, 5, 16, None])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_check_takes_no_more_rows_than_a_micro_batch(size: int | None, weight: float) -> None:
    algorithm, buffer = learner(KINDS["features"] if not weight else KINDS["a dict"], weight)
    algorithm.micro_batch_size = size
    seen: list[int] = []
    algorithm.policy.actor.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    batch, indices = buffer.sample(0)
    transitions = algorithm._transitions(batch, buffer, indices)
    check = MemoryCheck()
    if weight:
        with pytest.raises(ValueError, match="keeps a state"):
            check(algorithm.policy, transitions, batch.policy.hidden_state, size)
    else:
        check(algorithm.policy, transitions, batch.policy.hidden_state, size)
    assert max(seen) == (size or 32)
    assert sum(seen) == 64 or weight
