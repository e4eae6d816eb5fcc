"""Every block of code in the documentation runs, in the order of its page; trainings are shortened, nothing else."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import pytest
import torch
from repository import ROOT
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import VectorReplayBuffer
from tianshou.env import DummyVectorEnv, VectorEnvNormObs

from trpo_ts import TRPO
from trpo_ts.collectors import RolloutCollector
from trpo_ts.critics import make_critic
from trpo_ts.distributions import fisher_metric
from trpo_ts.policies import make_policy
from trpo_ts.training import trainer_params

TESTED_ELSEWHERE = {"agents.md", "distributed.md"}
"""Pages whose code needs a trained run, or several ranks: these have tests of their own."""

PAGES = sorted(
    path
    for path in (ROOT / "docs").glob("*.md")
    if "```python" in path.read_text() and path.name not in TESTED_ELSEWHERE
)

SHORTER = {
    r"\b(steps|total_timesteps|epoch_num_steps)=[\d_]+": r"\1=2_048",
    r"\b(max_epochs|num_experiments|n_trials|update_step)=\d+": r"\1=1",
    r"range\(3\)": "range(1)",
    r"watch = True": "watch = False",  # nobody looks
}
"""How trainings are shortened: a few updates show that the code runs, and other tests that it learns."""


SLOW = dict.fromkeys(("from_sb3", "from_spinning_up", "highlevel"), pytest.mark.slow)
"""Pages with several trainings, or with those of other libraries."""


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)


def parts_of_a_script() -> dict[str, Any]:
    """What pages that show a part of a script take as given."""
    envs = VectorEnvNormObs(DummyVectorEnv([partial(gym.make, "Pendulum-v1")] * 4))
    space, actions = gym.make("Pendulum-v1").observation_space, gym.make("Pendulum-v1").action_space
    algorithm = TRPO(policy=make_policy(space, actions), critic=make_critic(space), optim=AdamOptimizerFactory(lr=1e-3))
    training_collector = RolloutCollector(algorithm, envs, VectorReplayBuffer(2048, 4))
    test_collector = RolloutCollector(algorithm, envs)
    params = trainer_params(
        training_collector=training_collector,
        collection_step_num_env_steps=256,
        epoch_num_steps=256,
        max_epochs=1,
    )
    given: dict[str, Any] = {"algorithm": algorithm, "params": params, "torch": torch}
    given |= {"envs": envs, "training_envs": envs, "test_envs": envs, "VectorReplayBuffer": VectorReplayBuffer}
    return {**given, "training_collector": training_collector, "test_collector": test_collector}


GIVEN: dict[str, Callable[[], dict[str, Any]]] = dict.fromkeys(
    ("checkpoints.md", "collecting.md", "diagnostics.md", "trpo.md"), parts_of_a_script
)
"""Pages whose code is part of a script of the reader's."""


@pytest.fixture
def _alone(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder, and leave what is registered, and torch's switches, as they were."""
    monkeypatch.chdir(tmp_path)
    metrics = vars(__import__("trpo_ts.distributions.fisher_metric", fromlist=["METRICS"]))["METRICS"]
    before, registry, threads = copy.copy(metrics), copy.copy(gym.registry), torch.get_num_threads()
    yield
    for registered, old in ((metrics, before), (gym.registry, registry)):
        registered.clear()
        registered.update(old)
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_alone")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", [pytest.param(page, marks=SLOW.get(page.stem, ()), id=page.stem) for page in PAGES])
def test_the_code_of_a_page_runs(page):
    if page.stem == "from_sb3":
        pytest.importorskip("sb3_contrib")
    names = GIVEN.get(page.name, dict)()
    torch.manual_seed(0)
    for number, code in enumerate(python_blocks(page.read_text()), start=1):
        for pattern, shorter in SHORTER.items():
            code = re.sub(pattern, shorter, code)
        exec(compile(code, f"{page.name}, block {number}", "exec"), names)
    check = CHECKS.get(page.name)
    if check is not None:
        check(names)


def check_extending(names: dict[str, Any]) -> None:
    assert names["result"].update_step == 2
    assert names["stats"].cg_iterations >= 1.0
    distribution = names["policy"].dist_fn(torch.ones(3, 1, requires_grad=True))
    assert fisher_metric(distribution) is not None


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {"extending.md": check_extending}
"""What a page says of its results, beyond running."""
