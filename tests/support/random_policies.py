"""Random policies: hand-written networks, distributions and faults drawn from a number, and a verdict on each update.

    python tests/support/random_policies.py --cases 2000   # the cases that results/random_policies.json lacks
    python tests/support/random_policies.py --table        # the table in docs/reliability.md only

`PolicyCase` draws a case from its number, `run` judges some. A new network is one more line in random_networks.py, a
new distribution one in random_distributions.py, a new fault one in FAULTS.
"""

from __future__ import annotations

import copy
import pickle
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from random_distributions import FAMILIES, WITHOUT_ENTROPY, Head
from random_networks import BODIES, EPOCH, INPUTS, READERS, WORDS, Actor, Critic, Trunk
from repository import ROOT
from tianshou.algorithm.algorithm_base import policy_within_training_step
from tianshou.algorithm.modelfree.reinforce import ProbabilisticActorPolicy
from tianshou.algorithm.modelfree.trpo import TRPO as TianshouTRPO
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, VectorReplayBuffer
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from trpo_ts import KFAC, TRPO
from trpo_ts.critics import GaussNewtonFit, LBFGSFit, MinibatchFit

sys.path.append(str(ROOT / "benchmarks"))

import common

VIOLATIONS = {
    "kl_above_bound": "KL divergence above `max_kl`",
    "kl_not_stats": "KL divergence other than `stats.kl`",
    "moved_when_rejected": "moved by a rejected step",
    "changed": "side effects",
    "refused": "refused without a fault",
    "not_named": "errors that name no parameter or field",
    "unseen": "faults not seen",
    "errors": "other errors",
}
COUNTS = {
    "updates": "updates",
    "accepted": "policy steps taken",
    "refusals": "refusals",
    "common": "errors of Tianshou too",
    **VIOLATIONS,
}
SOLVERS = (None, KFAC(), KFAC(inner_iterations=1), KFAC(samples=16), KFAC(relative_damping=0.0))
WITH_MODE = ("normal", "state-dependent normal", "laplace", "multivariate", "nested", "categorical", "bernoulli")
CONTINUOUS = ("normal", "state-dependent normal", "laplace", "gumbel", "beta", "gamma", "multivariate", "nested")
FITS: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: MinibatchFit(epochs=2, batch_size=16),
    GaussNewtonFit,
    lambda: LBFGSFit(iterations=2),
)


class FitFailedError(Exception):
    """The exception of a critic's fit that fails."""


@dataclass
class FailingFit:
    """Moves all of the critic, and raises."""

    def fit(self, task: Any) -> list[float]:
        """Raise."""
        with torch.no_grad():
            for parameter in task.critic.parameters():
                parameter.add_(1.0)
        task.critic.train()
        raise FitFailedError


# Faults. Those of networks and of acting come before the rollout, the others after it.


def noise(case: PolicyCase) -> None:
    case.actor.disturb = lambda features: features + torch.randn(features.shape, dtype=features.dtype)


def numpy_noise(case: PolicyCase) -> None:
    case.actor.disturb = lambda x: x + torch.as_tensor(np.random.normal(size=x.shape)).to(x)  # noqa: NPY002


def borrowed_layers(case: PolicyCase) -> None:
    layer = case.critic.last
    case.actor.disturb = lambda features: features + torch.tanh(layer(features))


def shared_memory(case: PolicyCase) -> None:
    case.critic.last.weight.data = case.actor.head.layers[0].weight.data[:1]


def mode_actions(case: PolicyCase) -> None:
    case.deterministic = True


def broken_recording(case: PolicyCase) -> None:
    for key in case.float_keys():
        part = case.buffer.obs_next if key is None else case.buffer.obs_next[key]
        part[...] = part[::-1].copy() + 1


def not_finite(field: str) -> Callable[[PolicyCase], None]:
    def spoil(case: PolicyCase) -> None:
        array = getattr(case.buffer, field)
        array = array.a if isinstance(array, Batch) else array
        array.reshape(-1)[case.rng.integers(array.size)] = case.rng.choice([np.nan, np.inf, -np.inf])

    return spoil


def failing_fit(case: PolicyCase) -> None:
    case.algorithm.critic_fit = FailingFit()


BUILT: dict[str, Callable[[Any], None]] = {
    "random numbers of torch": noise,
    "random numbers of NumPy": numpy_noise,
    "layers of the critic": borrowed_layers,
    "memory of the critic": shared_memory,
    "most probable actions": mode_actions,
}
RECORDED: dict[str, Callable[[Any], None]] = {
    "broken recording": broken_recording,
    "obs not finite": not_finite("obs"),
    "act not finite": not_finite("act"),
    "rew not finite": not_finite("rew"),
    "failing fit": failing_fit,
}
FAULTS = {**BUILT, **RECORDED}


class PolicyCase:
    """A policy, a critic, the settings of TRPO and rollouts, drawn from a number; built twice they are the same."""

    def __init__(self, number: int, **chosen: Any) -> None:
        self.number = number
        rng = self.rng = np.random.default_rng([number, 20])

        def pick(*values: Any) -> Any:
            return values[rng.integers(len(values))]

        self.kind = pick("numbers", "numbers", "dict", "epoch", "pixels", "words")
        self.read, self.critic_read = pick(*READERS[self.kind]), pick(*READERS[self.kind])
        self.family, self.body, self.critic_body = pick(*FAMILIES), pick(*BODIES), pick("tanh", *BODIES)
        self.dtype = pick(torch.float32, torch.float32, torch.float64)
        self.obs_dtype = pick(np.float32, np.float64)
        self.scale, self.std = 10.0 ** rng.uniform(-6, 4), 10.0 ** pick(0, rng.uniform(-2, 0), rng.uniform(-6, 0))
        self.reward_scale = 10.0 ** rng.uniform(-8, 8)
        self.sharing = pick("nothing", "nothing", "trunk", "entry")
        self.envs, self.steps = pick((1, 1), (1, 2), (1, 40), (2, 20), (4, 8), (30, 10), (3, 33), (50, 1))
        self.updates, self.repeat, self.batch_size = pick(1, 2, 3), pick(1, 1, 2, 3), pick(None, 16, 64)
        self.training, self.make_fit, self.lr = pick(True, False), pick(*FITS), pick(1e-3, 1e-2, 1.0)
        self.fault = pick(*FAULTS) if rng.random() < 0.25 else None
        self.settings = self._settings(rng, pick)
        self.deterministic = False
        vars(self).update(chosen)
        self._correct()

    @staticmethod
    def _settings(rng: np.random.Generator, pick: Callable[..., Any]) -> dict[str, Any]:
        return {
            "max_kl": float(10.0 ** pick(-2, rng.uniform(-3, -0.3), rng.uniform(-6, -0.3))),
            "optim_critic_iters": pick(0, 1, 3),
            "micro_batch_size": pick(None, None, 1, 7, 64),
            "ent_coef": pick(0.0, 0.0, 0.01, 1.0),
            "return_scaling": pick(True, False),
            "advantage_normalization": pick(True, True, False),
            "preconditioner": pick(*SOLVERS),
            "fisher_subsampling": pick(1.0, 1.0, 0.3, 0.01),
            "cg_tolerance": pick(0.0, 0.1, 0.9),
            "cg_damping": pick(0.0, 1e-3, 0.1),
            "cg_iters": pick(1, 10, 30),
            "full_budget": pick(True, False),
            "max_batchsize": pick(7, 256),
        }

    def _correct(self) -> None:
        """Take back what does not go together."""
        if FAMILIES[self.family].needs_mask and self.kind != "dict":
            self.kind = "dict"
            self.read, self.critic_read = READERS["dict"][1:3]
        if self.rows > 40 and self.settings["micro_batch_size"] in (1, 7):
            self.settings["micro_batch_size"] = 33  # the others would take seconds
        if self.family in WITHOUT_ENTROPY:
            self.settings["ent_coef"] = 0.0
        if self.fault in ("obs not finite", "broken recording") and not self.float_keys():
            self.fault = "rew not finite"
        if self.fault == "act not finite" and self.family not in CONTINUOUS:
            self.fault = "rew not finite"
        if self.fault == "most probable actions" and self.family not in WITH_MODE:
            self.fault = "failing fit"

    def float_keys(self) -> list[str | None]:
        """Return the keys of the observations that are floating-point arrays; None for an observation itself."""
        return {"dict": ["a"], "numbers": [None], "epoch": [None]}.get(self.kind, [])

    @property
    def rows(self) -> int:
        """The transitions of a rollout."""
        return self.envs * self.steps

    def build(self) -> None:
        """Make the networks and the algorithm."""
        torch.manual_seed(self.number)
        family = FAMILIES[self.family]
        trunk = Trunk(self.kind, self.read, self.body, self.dtype, self.scale)
        self.actor = Actor(trunk, Head(family.sizes, family.finish, self.std)).to(self.dtype)
        own = Trunk(self.kind, self.critic_read, self.critic_body, self.dtype, self.scale)
        if self.sharing == "entry":
            own.entry = trunk.entry
        self.critic = Critic(trunk if self.sharing == "trunk" else own).to(self.dtype)
        if self.fault in BUILT:
            BUILT[self.fault](self)
        self.policy = self._policy()
        self.algorithm: Any = TRPO(
            policy=self.policy,
            critic=self.critic,
            optim=AdamOptimizerFactory(lr=self.lr),
            critic_fit=self.make_fit(),
            **self.settings,
        )
        self.algorithm.train(self.training)
        self.policy.is_within_training_step = False

    def _policy(self) -> ProbabilisticActorPolicy:
        space = FAMILIES[self.family].space()
        bounded = hasattr(space, "low")
        return ProbabilisticActorPolicy(
            actor=self.actor,
            dist_fn=FAMILIES[self.family].dist_fn,
            action_space=space,
            action_scaling=bounded,
            action_bound_method="clip" if bounded else None,
        )

    def tianshou(self) -> TianshouTRPO:
        """Return Tianshou's algorithm with the same networks."""
        return TianshouTRPO(
            policy=self.policy,
            critic=self.critic,
            optim=AdamOptimizerFactory(lr=self.lr),
            max_kl=self.settings["max_kl"],
            optim_critic_iters=max(1, self.settings["optim_critic_iters"]),
        )

    def observations(self) -> Any:
        """Return observations ``(steps + 1, envs, ...)``."""
        rng, lead = self.rng, (self.steps + 1, self.envs)
        if self.kind == "pixels":
            return rng.integers(0, 256, (*lead, 1, 6, 6)).astype(np.uint8)
        if self.kind == "words":
            return rng.integers(0, WORDS, lead)
        found = self.scale * rng.normal(size=(*lead, INPUTS))
        if self.kind == "epoch":
            return found + EPOCH
        found = found.astype(self.obs_dtype)
        if self.kind == "numbers":
            return found
        mask = rng.random((*lead, 3)) < 0.6
        mask[..., 0] |= ~mask.any(-1)
        return Batch(a=found, mask=mask)

    def record(self) -> None:
        """Fill a new buffer with a rollout of the policy."""
        obs = self.observations()
        self.buffer = VectorReplayBuffer(self.rows, self.envs)
        for t in range(self.steps):
            dist = acting(self.policy, obs[t])
            act = (dist.mode if self.deterministic else dist.sample()).numpy()
            spread = act.reshape(self.envs, -1).astype(np.float64)
            spread = (spread - spread.mean()) / (1e-12 + self.std)
            rew = self.reward_scale * (self.rng.normal(size=self.envs) + np.clip(spread.sum(1), -10, 10))
            done = self.rng.random(self.envs) < 0.1
            step = {"terminated": done, "truncated": np.zeros(self.envs, bool), "done": done}
            batch = Batch(obs=obs[t], act=act, rew=rew, obs_next=obs[t + 1], info=Batch(), **step)
            self.buffer.add(batch, buffer_ids=np.arange(self.envs))
        ends = self.buffer.done.reshape(self.envs, self.steps)[:, :-1]
        self.inside = int((~ends).sum())
        if self.fault in RECORDED:
            RECORDED[self.fault](self)

    @property
    def must_be_refused(self) -> bool:
        """Whether the first update has to raise an error."""
        if FAMILIES[self.family].refused:
            return True
        if self.fault == "broken recording":
            return self.inside >= 4
        if self.fault == "most probable actions":
            return self.rows >= 4 and self.std > 0.1 and self.family == "normal" and self.dtype == torch.float64
        if str(self.fault).startswith("random numbers") and self.rows == 1 and self.family.startswith("masked"):
            return False  # a mask may leave the only row one action, which no random number changes
        return self.fault is not None and self.fault != "layers of the critic"


# The verdict


def _double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    return tuple(_double(item) for item in value)


@contextmanager
def _evaluated(policy: Any, change: Callable[[Any], Any]) -> Iterator[None]:
    """Let the policy act in evaluation mode with what the actor gives changed; put it and the generators back."""
    modes = [(module, module.training) for module in policy.modules()]
    dist_fn, states = policy.dist_fn, (torch.get_rng_state(), np.random.get_state())  # noqa: NPY002
    policy.eval()
    policy.dist_fn = lambda outputs: dist_fn(change(outputs))
    try:
        with torch.no_grad():
            yield
    finally:
        policy.dist_fn = dist_fn
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        for module, training in modes:
            module.training = training


def acting(policy: Any, obs: Any, change: Callable[[Any], Any] | None = None) -> Distribution:
    """Return the distribution by which the policy acts."""
    if change is None:
        modes = [(module, module.training) for module in policy.modules()]
        with torch.no_grad():
            found = policy.eval()(Batch(obs=copy.deepcopy(obs), info=Batch())).dist
        for module, training in modes:
            module.training = training
        return found
    with _evaluated(policy, change):
        return policy(Batch(obs=copy.deepcopy(obs), info=Batch())).dist


def _rounded(outputs: Any) -> Any:
    """Return outputs in float64, a few roundings of the largest number of each away."""
    if not isinstance(outputs, Tensor):
        return tuple(_rounded(item) for item in outputs)
    eps = 4 * torch.finfo(outputs.dtype).eps
    signs = torch.ones_like(outputs).double()
    signs.view(-1)[::2] = -1.0
    outputs = outputs.double()
    if bool((outputs > 0).all()):
        return outputs * (1 + eps * signs)
    size = outputs.abs().where(outputs.abs() < 1e7, torch.zeros(())).max()
    return outputs + eps * size * signs


def divergence(before: Distribution, after: Distribution) -> float:
    """Return the mean KL divergence."""
    return float(kl_divergence(before, after).mean())


def allowance(case: PolicyCase, kl: float, obs: Any) -> float:
    """Return how far rounding may move a divergence: 2 % in float32, or what a few roundings of the outputs make."""
    noise = abs(divergence(acting(case.policy, obs, _double), acting(case.policy, obs, _rounded)))
    share = 0.02 if case.dtype == torch.float32 else 1e-6
    return max(share * kl, 2 * (noise * kl) ** 0.5 + noise, 1e-12)


def _bytes(value: Any) -> Any:
    if isinstance(value, Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().numpy().tobytes()
    if isinstance(value, dict):
        return {key: _bytes(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_bytes(item) for item in value]
    return value


def learned(case: PolicyCase) -> dict[str, Any]:
    """Return all that an update may change, so that == compares it bit for bit."""
    moments = case.algorithm.optim._optim.state_dict()
    returns = pickle.dumps(vars(case.algorithm.ret_rms))
    return {"state": _bytes(dict(case.algorithm.state_dict())), "moments": _bytes(moments), "returns": returns}


def surroundings(case: PolicyCase, draws: bool) -> dict[str, Any]:
    """Return what no update may change."""
    modules = list(case.algorithm.modules())
    found: dict[str, Any] = {
        "modes": [module.training for module in modules],
        "attributes": [sorted(vars(module)) for module in modules],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules],
        "requires_grad": [p.requires_grad for p in case.algorithm.parameters()],
        "identity": [id(p) for p in case.algorithm.parameters()],
        "buffer": pickle.dumps(case.buffer),
        "switches": _switches(),
        "random": random.getstate(),
    }
    if not draws:
        found["torch generator"] = torch.get_rng_state().numpy().tobytes()
        found["numpy generator"] = np.random.get_state()[1].tobytes()  # type: ignore[union-attr]  # noqa: NPY002
    return found


def _switches() -> list[Any]:
    cuda = torch.backends.cuda
    return [
        Distribution._validate_args,
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.backends.cudnn.enabled,
        torch.are_deterministic_algorithms_enabled(),
        cuda.flash_sdp_enabled(),
        cuda.math_sdp_enabled(),
        cuda.mem_efficient_sdp_enabled(),
        torch.nn.functional.linear,
        torch.backends.mha.get_fastpath_enabled(),
    ]


def judge(case: PolicyCase) -> dict[str, Any]:
    """Make one update, and return the counts of what happened, violations among them, with a note on each."""
    case.record()
    obs = case.buffer.sample(0)[0].obs
    spoilt = case.fault == "obs not finite"
    before = None if spoilt else acting(case.policy, obs, _double)
    policy_before, state = _bytes(dict(case.policy.state_dict())), learned(case)
    shuffles = case.batch_size is not None or isinstance(case.algorithm.critic_fit, MinibatchFit)
    draws = shuffles or any(isinstance(m, nn.Dropout) and m.p for m in case.critic.modules())
    draws |= any(isinstance(m, nn.TransformerEncoderLayer) for m in case.critic.modules())
    around = surroundings(case, draws)
    error = None
    try:
        with policy_within_training_step(case.policy):
            stats = case.algorithm.update(case.buffer, case.batch_size, case.repeat)
    except Exception as raised:
        error = raised
    counts = _of_error(case, error, state) if error else _of_update(case, stats, before, obs, policy_before)
    after = surroundings(case, draws)
    changed = [name for name in around if around[name] != after[name]]
    if changed:
        counts["changed"], counts["note"] = 1, f"changed: {changed}; {counts.get('note', '')}"
    return counts


def _of_error(case: PolicyCase, error: Exception, state: dict[str, Any]) -> dict[str, Any]:
    counts: dict[str, Any] = {"stopped": True, "note": f"{type(error).__name__}: {error}"}
    if learned(case) != state:
        now = learned(case)
        counts.update(changed=1, note=f"changed: {[key for key in state if state[key] != now[key]]}; {counts['note']}")
    if isinstance(error, FitFailedError):
        counts["refusals"] = 1
    elif not isinstance(error, ValueError):
        counts["errors" if _tianshou_trains(case) else "common"] = 1
    elif any(name in str(error) for name in NAMES):
        expected = case.fault is not None or FAMILIES[case.family].refused or not _tianshou_trains(case)
        counts["refusals" if expected else "refused"] = 1
    else:
        counts["not_named" if _tianshou_trains(case) else "common"] = 1
    return counts


NAMES = ("policy", "critic", "dist_fn", "batch.", "buffer", "parameters", "ent_coef", "cg_damping", "max_kl")


def _tianshou_trains(case: PolicyCase) -> bool:
    """Whether Tianshou's algorithm makes the update."""
    twin = copy.deepcopy(case.tianshou())
    try:
        with policy_within_training_step(twin.policy):
            twin.update(copy.deepcopy(case.buffer), case.batch_size, case.repeat)
    except Exception:
        return False
    return all(bool(torch.isfinite(p).all()) for p in twin.policy.parameters())


def _of_update(case: PolicyCase, stats: Any, before: Any, obs: Any, policy_before: Any) -> dict[str, Any]:
    counts: dict[str, Any] = {"updates": 1, "accepted": int(stats.accepted)}
    if case.must_be_refused:
        return {**counts, "unseen": 1, "note": f"outcome {stats.outcome}"}
    if not stats.accepted:
        same = _bytes(dict(case.policy.state_dict())) == policy_before
        return counts if same and stats.kl.mean == 0.0 else {**counts, "moved_when_rejected": 1}
    kl, most = divergence(before, acting(case.policy, obs, _double)), case.settings["max_kl"]
    allowed = allowance(case, max(kl, stats.kl.mean), obs)
    counts["kl_above_bound"] = int(not kl <= most + allowed)
    counts["kl_not_stats"] = int(not abs(kl - stats.kl.mean) <= allowed)
    if counts["kl_above_bound"] or counts["kl_not_stats"]:
        counts["note"] = f"kl {kl:.6g}, stats {stats.kl.mean:.6g}, max {most:.6g}, allowed {allowed:.3g}"
    return counts


def _judged(case: PolicyCase, total: Counter[str]) -> list[str]:
    """Judge the updates of a case until one raises, add the counts up, and return the notes."""
    try:
        case.build()
    except ValueError as error:  # of the constructor
        total["refusals" if FAMILIES[case.family].refused or case.fault is not None else "refused"] += 1
        return [f"{type(error).__name__}: {error}"]
    notes = []
    for _ in range(case.updates):
        counts = judge(case)
        notes += [note] if (note := counts.pop("note", None)) else []
        stopped = counts.pop("stopped", False)
        total.update(counts)
        if stopped:
            break
    return notes


def run_one(number: int, **chosen: Any) -> dict[str, Any]:
    """Return what happened in a case, the counts of its updates added up."""
    start, total, notes = time.perf_counter(), Counter[str](), []
    case = PolicyCase(number, **chosen)
    case_words = {"fault": case.fault or "none", "body": case.body, "family": case.family}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        notes += _judged(case, total)
    found = {name: count for name, count in total.items() if count}
    seconds = round(time.perf_counter() - start, 3)
    return {"case": number, **case_words, **found, "notes": notes, "seconds": seconds}


def run(numbers: Iterable[int]) -> list[dict[str, Any]]:
    """Return what happened in some cases."""
    return [run_one(number) for number in numbers]


def broken(result: dict[str, Any]) -> dict[str, Any]:
    """Return a case's violations; nothing when there are none."""
    found = {name: result[name] for name in VIOLATIONS if result.get(name)}
    return {"case": result["case"], **found, "notes": result["notes"]} if found else {}


def table(results: list[dict[str, Any]]) -> str:
    """Return the table of the counts, without a fault, with one, and together."""
    groups = [[r for r in results if r["fault"] == "none"], [r for r in results if r["fault"] != "none"], results]
    rows = [["cases", *(f"{len(group):,}" for group in groups)]]
    for name, label in COUNTS.items():
        label = f"**{label}**" if name in VIOLATIONS else label
        rows.append([label, *(f"{sum(r.get(name, 0) for r in group):,}" for group in groups)])
    return common.markdown_table(["", "no fault", "with a fault", "all"], rows)


def measure(results: list[dict[str, Any]], cases: int) -> None:
    """Run the cases that the results lack, and save now and then."""
    torch.set_num_threads(1)
    done = {result["case"] for result in results}
    for number in sorted(set(range(cases)) - done):
        results.append(run_one(number))
        if broken(results[-1]):
            print(broken(results[-1]), flush=True)
        if number % 50 == 49:
            common.save("random_policies", {"environment": common.environment(), "cases": results})
    common.save("random_policies", {"environment": common.environment(), "cases": results})


def main() -> None:
    """Run cases, and write the table."""
    parser = common.parser(__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    arguments = parser.parse_args()
    results = common.load("random_policies").get("cases", [])
    if not arguments.table:
        measure(results, arguments.cases)
    common.write_between_markers(ROOT / "docs" / "reliability.md", "random-policies", table(results))


if __name__ == "__main__":
    main()
