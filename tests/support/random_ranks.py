"""The contract over ranks: random policies, settings, shares and faults of one rank, and a verdict on each update.

python tests/support/random_ranks.py --cases 200   # the cases that results/random_ranks.json lacks
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from random_distributions import FAMILIES
from random_policies import RECORDED, PolicyCase, _bytes, _double, acting, allowance, divergence, learned
from rank_pool import Failure, RankPool
from repository import ROOT
from tianshou.algorithm.algorithm_base import policy_within_training_step

sys.path.append(str(ROOT / "benchmarks"))

import common

FAULTS = ("obs not finite", "act not finite", "rew not finite")
VIOLATIONS = (
    "kl_above_bound",
    "kl_not_stats",
    "moved_when_rejected",
    "differ",
    "refused",
    "unseen",
    "changed",
    "errors",
)


def case_of_rank(number: int) -> PolicyCase:
    """Return a case with this rank's share of rows: as many as it draws, and a fault on one rank at times."""
    rank, size = dist.get_rank(), dist.get_world_size()
    rng = np.random.default_rng([number, 21])
    shares = [(int(rng.integers(1, 5)), int(rng.choice([1, 2, 9, 20]))) for _ in range(size)]
    place, fault = int(rng.integers(size)), str(rng.choice(FAULTS)) if rng.random() < 0.25 else None
    case = PolicyCase(number, fault=None, updates=2)
    case.envs, case.steps = shares[rank]
    if fault == "act not finite" and not np.issubdtype(FAMILIES[case.family].space().dtype, np.floating):
        fault = "rew not finite"
    if fault == "obs not finite" and not case.float_keys():
        fault = "rew not finite"
    case.rank_fault = fault  # type: ignore[attr-defined]
    case.fault_is_here = fault is not None and place == rank  # type: ignore[attr-defined]
    case.build()
    case.rng = np.random.default_rng([number, 22, rank])
    torch.manual_seed(1000 * number + rank)
    return case


def gathered(value: Any) -> list[Any]:
    """Return what each rank has."""
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def judge_update(case: Any) -> dict[str, int]:
    """Make one update and return its counts; each rank returns the same."""
    case.record()
    if case.fault_is_here:
        RECORDED[case.rank_fault](case)
    before, policy_before = learned(case), _bytes(dict(case.policy.state_dict()))
    obs = case.buffer.sample(0)[0].obs
    behaviour = None if case.fault_is_here else acting(case.policy, obs, _double)
    error, stats = None, None
    try:
        with policy_within_training_step(case.policy):
            stats = case.algorithm.update(case.buffer, case.batch_size, case.repeat)
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    errors = gathered(error)
    if any(errors):
        return _of_errors(case, errors, before == learned(case))
    if case.rank_fault is not None:
        return {"updates": 1, "unseen": 1}
    return {"updates": 1, **_of_stats(case, stats, behaviour, obs, policy_before)}


def _of_errors(case: Any, errors: list[str | None], unchanged: bool) -> dict[str, int]:
    # Heavy tails overflow at times, so that an action is not finite without a fault.
    overflowed = any(gathered(not np.isfinite(case.buffer.act).all()))
    batch_statistics = any("batch normalisation" in str(error) for error in errors)
    expected = case.rank_fault is not None or FAMILIES[case.family].refused or batch_statistics or overflowed
    return {
        "refusals": 1,
        "refused": int(not expected),
        "differ": int(None in errors),
        "changed": int(not all(gathered(unchanged))),
    }


def _of_stats(case: Any, stats: Any, behaviour: Any, obs: Any, policy_before: Any) -> dict[str, int]:
    numbers = (
        stats.kl.mean,
        stats.accepted,
        stats.outcome,
        stats.vf_loss.mean,
        stats.entropy,
        stats.explained_variance,
    )
    states = gathered((numbers, [p.detach().numpy().tobytes() for p in case.algorithm.parameters()]))
    found = {"accepted": int(stats.accepted), "differ": int(any(state != states[0] for state in states))}
    if not stats.accepted:
        same = _bytes(dict(case.policy.state_dict())) == policy_before
        return {**found, "moved_when_rejected": int(not (all(gathered(same)) and stats.kl.mean == 0.0))}
    here = divergence(behaviour, acting(case.policy, obs, _double))
    shares = gathered((case.rows, here, allowance(case, max(here, stats.kl.mean), obs)))
    rows = sum(share[0] for share in shares)
    kl = sum(share[0] * share[1] for share in shares) / rows
    allowed = max(share[2] for share in shares)
    return {
        **found,
        "kl_above_bound": int(not kl <= case.settings["max_kl"] + allowed),
        "kl_not_stats": int(not abs(kl - stats.kl.mean) <= allowed),
    }


def judge_case(number: int) -> dict[str, int]:
    """Return the counts of a case's updates, on each rank."""
    total: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            case = case_of_rank(number)
        except ValueError:  # of the constructor: all ranks raise it before they meet
            return {"refusals": 1}
        for _ in range(case.updates):
            counts = judge_update(case)
            total.update(counts)
            if counts.get("refusals"):
                break
    return dict(total)


def run_case(pool: RankPool, number: int) -> dict[str, Any]:
    """Return what happened in a case on 2 or 3 ranks."""
    size = 2 + number % 2
    results = pool.run(size, judge_case, number)
    failures = [str(result) for result in results if isinstance(result, Failure)]
    if failures:
        return {"case": number, "ranks": size, "errors": 1, "notes": failures}
    return {"case": number, "ranks": size, **results[0], "notes": []}


def broken(result: dict[str, Any]) -> bool:
    """Whether a case has a violation."""
    return any(result.get(name) for name in VIOLATIONS)


def main() -> None:
    """Run the cases that the results lack."""
    parser = common.parser(__doc__)
    parser.add_argument("--cases", type=int, default=200)
    arguments = parser.parse_args()
    results = common.load("random_ranks").get("cases", [])
    done, pool = {result["case"] for result in results}, RankPool(3, preload="random_ranks")
    for number in sorted(set(range(arguments.cases)) - done):
        results.append(run_case(pool, number))
        common.save("random_ranks", {"environment": common.environment(), "cases": results})
        if broken(results[-1]):
            print(results[-1], flush=True)
    pool.close()
    total: Counter[str] = Counter()
    for result in results:
        total.update({name: count for name, count in result.items() if isinstance(count, int)})
    print({name: total[name] for name in ("updates", "accepted", "refusals", *VIOLATIONS)})


if __name__ == "__main__":
    main()
