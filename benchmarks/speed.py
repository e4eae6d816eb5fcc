"""Time, quality and memory of one update, side by side with Tianshou's and SB3-contrib's TRPO.

    python benchmarks/speed.py            # measure (nothing else may run), write results/speed.json and the tables
    python benchmarks/speed.py --table    # the tables only, from the committed results

One thread. The same networks, rollout, discount and damping on every side; Tianshou and we also start from the same
parameters and fit the same critic with the same optimiser. Times are whole calls of `update()`; the sides take turns,
and the ratio is the median over rounds of the quotient within a round.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import common
import gymnasium as gym
import numpy as np
import tianshou.algorithm
import torch
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, Collector, CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, VectorEnvNormObs
from tianshou.utils.torch_utils import policy_within_training_step

from trpo_ts import KFAC, TRPO
from trpo_ts.critics import GaussNewtonFit, make_critic
from trpo_ts.natural_gradient.conjugate_gradient import conjugate_gradient
from trpo_ts.natural_gradient.distributions import fisher_metric
from trpo_ts.natural_gradient.fisher import damped, gauss_newton_product
from trpo_ts.natural_gradient.kfac import KroneckerPreconditioner
from trpo_ts.natural_gradient.kronecker import moments_of
from trpo_ts.natural_gradient.parameters import FlatParameters
from trpo_ts.policies import make_policy
from trpo_ts.rollout import ActionDistribution

N_ENVS, CRITIC_STEPS, DAMPING = 16, 20, 0.1


@dataclass(frozen=True)
class Case:
    """A size: the task, the hidden layers, the samples of a rollout, and how long the policy trained before."""

    name: str
    task: str
    hidden: tuple[int, int]
    samples: int
    warm_up: int
    rounds: int


CASES = (
    Case("1,024 samples, 17-64-64-6", "HalfCheetah-v4", (64, 64), 1024, 200, 41),
    Case("1,024 samples, 17-64-64-6, Walker2d", "Walker2d-v4", (64, 64), 1024, 200, 41),
    Case("16,384 samples, 376-256-256-17", "Humanoid-v4", (256, 256), 16_384, 8, 7),
)
SIDES: dict[str, Callable[..., Any]] = {
    "Tianshou": tianshou.algorithm.TRPO,
    "trpo_ts": TRPO,
    "trpo_ts, Gauss-Newton critic": lambda **kwargs: TRPO(**kwargs, critic_fit=GaussNewtonFit()),
}


def prepare(case: Case) -> tuple[dict[str, Any], VectorReplayBuffer, VectorReplayBuffer]:
    """Train for a while, and return the arguments of an algorithm, a rollout and a held-out one."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    env = gym.make(case.task)
    policy = make_policy(env.observation_space, env.action_space, hidden_sizes=case.hidden)
    critic = make_critic(env.observation_space, hidden_sizes=case.hidden)
    arguments = {
        "policy": policy,
        "critic": critic,
        "optim": AdamOptimizerFactory(lr=1e-3),
        "optim_critic_iters": CRITIC_STEPS,
        "return_scaling": True,
    }
    algorithm = TRPO(**arguments)
    envs = VectorEnvNormObs(DummyVectorEnv([lambda: gym.make(case.task) for _ in range(N_ENVS)]))
    envs.seed(0)
    collector = Collector[CollectStats](policy, envs, VectorReplayBuffer(case.samples, N_ENVS))
    collector.reset()

    def collect() -> VectorReplayBuffer:
        collector.reset_buffer(keep_statistics=True)
        with policy_within_training_step(policy):
            collector.collect(n_step=case.samples)
        return collector.buffer

    for _ in range(case.warm_up):
        update(algorithm, collect())
    rollouts = copy.deepcopy(collect()), copy.deepcopy(collect())
    return {**arguments, "state": copy.deepcopy(algorithm.state_dict())}, *rollouts


def update(algorithm: Any, buffer: VectorReplayBuffer) -> float:
    """Update once and return the seconds it took."""
    with policy_within_training_step(algorithm.policy):
        start = time.perf_counter()
        algorithm.update(buffer, None, 1)
        return time.perf_counter() - start


class Judge:
    """Optimality of directions, and errors of critics, on a rollout and a held-out one."""

    def __init__(self, arguments: dict[str, Any], rollout: VectorReplayBuffer, held_out: VectorReplayBuffer) -> None:
        arguments = dict(arguments)
        state = arguments.pop("state")
        reference = TRPO(**{**arguments, **_copies(arguments)})
        reference.load_state_dict(state)
        self._batches = []
        for buffer in (rollout, held_out):
            batch, indices = buffer.sample(0)
            statistics = copy.deepcopy(reference.ret_rms)
            self._batches.append(reference._preprocess_batch(batch, buffer, indices))
            reference.ret_rms = statistics
        batch = self._batches[0]
        network = ActionDistribution(reference.policy).eval()
        self.parameters = FlatParameters(network)
        self.theta = self.parameters.read().requires_grad_(True)
        trace = self.parameters.trace(self.theta, batch.obs, batch.info)
        self.metric = fisher_metric(trace.output)
        ratio = torch.exp(trace.output.log_prob(batch.act) - batch.logp_old)
        (self.gradient,) = torch.autograd.grad((ratio * batch.adv).mean(), self.theta, retain_graph=True)
        self.product = gauss_newton_product(self.metric, self.theta)
        chosen = torch.arange(min(512, len(batch.act))) * len(batch.act) // min(512, len(batch.act))
        trace = self.parameters.trace(self.theta, batch.obs[chosen], batch.info[chosen.numpy()])
        self.moments = moments_of(trace, fisher_metric(trace.output))
        self._best: dict[float, float] = {}

    def preconditioner(self, damping: float) -> KroneckerPreconditioner:
        """Return the default preconditioner at that damping."""
        inner = KFAC().inner_iterations
        return KroneckerPreconditioner(self.moments, self.parameters.slices, damping=damping, inner_iterations=inner)

    def optimality(self, x: torch.Tensor, damping: float = DAMPING) -> float:
        """Return g^T x / sqrt(x^T A x) over its maximum."""
        operator = damped(self.product, damping)
        if damping not in self._best:
            exact = conjugate_gradient(operator, self.gradient, max_iterations=600, tolerance=1e-5)
            self._best[damping] = math.sqrt(float(self.gradient.dot(exact.x)))
        return float(self.gradient.dot(x)) / math.sqrt(float(x.dot(operator(x)))) / self._best[damping]

    def step_optimality(self, algorithm: Any) -> float:
        """Return the optimality of the direction in which the algorithm moved the policy."""
        return self.optimality(FlatParameters(ActionDistribution(algorithm.policy)).read() - self.theta.detach())

    def critic_errors(self, algorithm: Any) -> tuple[float, float]:
        """Return the critic's mean squared error on the rollout and on the held-out one."""
        with torch.no_grad():
            errors = [(algorithm.critic(b.obs).flatten() - b.returns).square().mean() for b in self._batches]
        return float(errors[0]), float(errors[1])


def _copies(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: copy.deepcopy(arguments[name]) for name in ("policy", "critic")}


def measure(case: Case) -> dict[str, Any]:
    """Return times, ratios and qualities of all sides."""
    arguments, rollout, held_out = prepare(case)
    judge = Judge(arguments, rollout, held_out)
    state = arguments.pop("state")
    plain = {key: value for key, value in state.items() if key != "_extra_state"}
    algorithms = {name: build(**{**arguments, **_copies(arguments)}) for name, build in SIDES.items()}
    times: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(case.rounds + 1):
        for name, algorithm in algorithms.items():
            algorithm.load_state_dict(copy.deepcopy(plain if name == "Tianshou" else state))
            if name == "Tianshou":
                algorithm.ret_rms = copy.deepcopy(algorithms["trpo_ts"].ret_rms)
                for key in ("mean", "var", "count"):
                    setattr(algorithm.ret_rms, key, state["_extra_state"]["ret_rms"][key])
            times[name].append(update(algorithm, rollout))
    sides = {}
    for name, algorithm in algorithms.items():
        fit, held = judge.critic_errors(algorithm)
        ratios = [a / b for a, b in zip(times["Tianshou"][1:], times[name][1:], strict=True)]
        sides[name] = {
            "milliseconds": 1e3 * float(np.median(times[name][1:])),
            "speed_up": float(np.median(ratios)),
            "optimality": judge.step_optimality(algorithm),
            "critic_error": fit,
            "critic_error_held_out": held,
        }
    return {"case": case.name, "task": case.task, "sides": sides, "solve": solves(judge)}


def solves(judge: Judge) -> list[dict[str, float]]:
    """Return optimality against products and milliseconds, plain and preconditioned."""
    rows = []
    for damping in (0.1, 0.01):
        operator = damped(judge.product, damping)
        for name in ("plain", "K-FAC"):
            for products in (1, 2, 3, 4, 5) if name == "K-FAC" else (1, 2, 3, 4, 5, 10, 15, 25):
                seconds = []
                for _ in range(3):
                    start = time.perf_counter()
                    model = judge.preconditioner(damping) if name == "K-FAC" else None
                    x = conjugate_gradient(operator, judge.gradient, max_iterations=products, preconditioner=model).x
                    seconds.append(time.perf_counter() - start)
                rows.append(
                    {
                        "damping": damping,
                        "solver": name,
                        "products": products,
                        "optimality": round(judge.optimality(x, damping), 4),
                        "milliseconds": round(1e3 * min(seconds), 3),
                    }
                )
    return rows


def sb3() -> float:
    """Return the milliseconds of SB3-contrib's update of 1,024 HalfCheetah samples, 10 epochs of 128-minibatches."""
    from sb3_contrib import TRPO as SB3TRPO
    from stable_baselines3.common.env_util import make_vec_env

    model = SB3TRPO("MlpPolicy", make_vec_env("HalfCheetah-v4", N_ENVS), n_steps=64, cg_max_steps=10, device="cpu")
    model.learn(1024)
    seconds = []
    for _ in range(11):
        start = time.perf_counter()
        model.train()
        seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.median(seconds))


class SyntheticRollout:
    """As much of a buffer as an update needs, of 16 environments and any size, without the time to fill one."""

    def __init__(self, samples: int) -> None:
        rng = np.random.default_rng(0)
        obs = rng.standard_normal((samples + 1, 17), dtype=np.float32)
        ends = np.zeros(samples, dtype=bool)
        self.terminated = ends
        self._batch = Batch(
            obs=obs[:-1],
            obs_next=obs[1:],
            act=rng.standard_normal((samples, 6), dtype=np.float32),
            rew=rng.standard_normal(samples),
            terminated=ends,
            truncated=ends,
            info=Batch(env_id=np.zeros(samples, dtype=np.int64)),
        )

    def __len__(self) -> int:
        return len(self.terminated)

    def sample(self, size: int | None) -> tuple[Batch, np.ndarray]:
        """Return a copy of all transitions and their indices, as a buffer does."""
        indices = np.arange(len(self))
        return self._batch[indices], indices

    def unfinished_index(self) -> np.ndarray:
        """Return the last transition of each environment."""
        return np.arange(1, N_ENVS + 1) * (len(self) // N_ENVS) - 1


def memory(side: str) -> float:
    """Return the megabytes that an update of 200,000 samples takes above the rollout; run in a fresh process."""
    observation, action = gym.spaces.Box(-np.inf, np.inf, (17,)), gym.spaces.Box(-1.0, 1.0, (6,))
    build = tianshou.algorithm.TRPO if side == "Tianshou" else TRPO
    extra = {"micro_batch_size": 4096} if side == "trpo_ts, micro-batches of 4,096" else {}
    algorithm = build(
        policy=make_policy(observation, action),
        critic=make_critic(observation),
        optim=AdamOptimizerFactory(lr=1e-3),
        max_batchsize=4096,
        **extra,
    )
    update(algorithm, SyntheticRollout(64))  # what any first update compiles and loads
    rollout = SyntheticRollout(200_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    update(algorithm, rollout)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


MEMORY_SIDES = ("Tianshou", "trpo_ts", "trpo_ts, micro-batches of 4,096")


def tables(data: dict[str, Any]) -> dict[str, str]:
    """Return the tables by their names in the documents."""
    speed = [
        [
            case["case"],
            name,
            f"{side['milliseconds']:.1f} ms",
            f"{side['speed_up']:.2f}",
            f"{side['optimality']:.3f}",
            f"{side['critic_error']:.4f}",
            f"{side['critic_error_held_out']:.4f}",
        ]
        for case in data["cases"]
        for name, side in case["sides"].items()
    ]
    header = ["update", "side", "time", "times as fast", "optimality", "critic error", "held out"]

    def cell(row: dict[str, Any]) -> str:
        return f"{row['optimality']:.3f} ({row['products']} products, {row['milliseconds']:.1f} ms)"

    solve = []
    for case in data["cases"]:
        for damping, model, plain in ((0.1, 3, 10), (0.01, 4, 25)):
            rows = {(r["solver"], r["products"]): r for r in case["solve"] if r["damping"] == damping}
            solve.append([case["case"], f"{damping:g}", cell(rows["K-FAC", model]), cell(rows["plain", plain])])
    tianshou_megabytes = data["memory"]["Tianshou"]
    memory_rows = [
        [name, f"{megabytes:.0f} MB", f"{megabytes / tianshou_megabytes:.2f}"]
        for name, megabytes in data["memory"].items()
    ]
    return {
        "speed": common.markdown_table(header, speed),
        "solve": common.markdown_table(["batch", "damping", "K-FAC", "plain conjugate gradient"], solve),
        "memory": common.markdown_table(["side", "peak above the rollout", "of Tianshou's"], memory_rows),
        "sb3": f"SB3-contrib's update of the first size takes {data['sb3_milliseconds']:.1f} ms "
        "(its own critic fit, 10 epochs of minibatches of 128).",
    }


def summary(data: dict[str, Any]) -> str:
    """Return the sentence of the README."""
    small, large = data["cases"][0], data["cases"][-1]

    def speed_up(case: dict[str, Any]) -> str:
        return f"{case['sides']['trpo_ts, Gauss-Newton critic']['speed_up']:.1f}"

    memory_ratio = data["memory"][MEMORY_SIDES[-1]] / data["memory"]["Tianshou"]
    return (
        f"An update with `GaussNewtonFit()` is {speed_up(small)} times as fast as Tianshou's for {small['case']} and "
        f"{speed_up(large)} times for\n{large['case']}, with a direction closer to the exact natural gradient; with "
        f"`micro_batch_size=4096` an update of\n200,000 samples takes {memory_ratio:.2f} of its memory."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure unless only the tables are asked for."""
    parser = argparse.ArgumentParser(description="Time, quality and memory of one update.")
    parser.add_argument("--table", action="store_true", help="only write the tables from the committed results")
    parser.add_argument("--memory", choices=MEMORY_SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    gym.logger.min_level = gym.logger.ERROR
    if args.memory:
        print(json.dumps(memory(args.memory)))
        return
    if not args.table:
        data: dict[str, Any] = {"environment": common.environment(), "memory": {}, "cases": []}
        for side in MEMORY_SIDES:
            command = [sys.executable, __file__, "--memory", side]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            data["memory"][side] = round(json.loads(output.splitlines()[-1]), 1)
            print(side, data["memory"][side], "MB", flush=True)
        data["sb3_milliseconds"] = round(sb3(), 2)
        for case in CASES:
            data["cases"].append(measure(case))
            print(json.dumps(data["cases"][-1]["sides"], indent=1), flush=True)
            common.save("speed", data)
    for name, text in tables(common.load("speed")).items():
        common.write_between_markers(common.ROOT / "docs" / "benchmarks.md", name, text)
        print(text)
    common.write_between_markers(common.ROOT / "README.md", "speed", summary(common.load("speed")))


if __name__ == "__main__":
    main()
