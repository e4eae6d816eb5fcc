"""Train with environments that run in Ray's processes.

    python examples/ray_environments.py                            # Ray starts on this machine
    RAY_ADDRESS=auto python examples/ray_environments.py --task HalfCheetah-v4 --num-envs 64    # on a cluster

It pays where a step of the simulator takes longer than a message, about a millisecond. Needs the extra `ray`.
"""

from __future__ import annotations

import argparse

from trpo_ts.training import make_job


def main() -> None:
    """Train, and print the return of the last test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="Pendulum-v1")
    parser.add_argument("--num-envs", type=int, default=4)
    parser.add_argument("--segment", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20_000)
    arguments = parser.parse_args()
    shape = {"num_envs": arguments.num_envs, "segment": arguments.segment, "steps": arguments.steps}
    job = make_job(arguments.task, env_backend="ray", test_every=arguments.steps, test_episodes=4, **shape)
    print(f"mean return {job.algorithm.run_training(job.params).best_score:.1f}")
    job.close()


if __name__ == "__main__":
    main()
