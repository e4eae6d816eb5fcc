"""What a new user does with README.md alone, in an empty folder: its commands and scripts, shortened, in turn.

A step takes what the steps before it have left, as the user would. The other tests try each part in depth.
"""

from __future__ import annotations

import json
import re
import signal
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from browser import Browser, Page, whole_page
from command_line import metrics, start, start_python, wait_for
from exported_models import loaded_model
from readme import python_block, shell_block

import trpo_ts
from trpo_ts import TRPOTrainingStats

pytest.importorskip("mujoco")
pytestmark = pytest.mark.slow

TASK, STEPS, UPDATE = "Hopper-v4", 100_000, 1024
SHORTER = {"Hopper-v5": TASK, "1000000": str(STEPS)}
"""The task is the one that most papers report, and the training is shorter. All else is typed as README.md has it."""

TRAIN_POINT_MASS, TRAIN, WATCH, TRAIN_ANOTHER_SEED, REPORT, EVALUATE, TENSORBOARD = shell_block("Train")
AGENT, SWAP = python_block("trpo_ts.load"), python_block("# was: ")
RUN = Path("runs") / TASK / "seed_0"
SHOWN_STEPS = """Number([...document.querySelectorAll(".tiles dt")].find((dt) => dt.textContent === "Environment steps")
    ?.nextElementSibling.firstChild.textContent.replaceAll(",", "") ?? -1)"""


def shortened(text: str) -> str:
    for shown, typed in SHORTER.items():
        text = text.replace(shown, typed)
    return text


def typed(home: Path, command: list[str], *more: object) -> Any:
    """Start a command of trpo-ts."""
    program, *words = map(shortened, command)
    assert program == "trpo-ts"
    return start(*words, *more, cwd=home)


def said(process: Any) -> str:
    """Return what a process printed until its end."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


def ran(home: Path, code: str) -> str:
    """Save Python code as a script, run it and return what it printed."""
    (home / "script.py").write_text(code)
    return said(start_python("script.py", cwd=home))


def assert_whole(chromium: Browser, report: Path, *, charts: int) -> None:
    for width in (1200, 390):
        with whole_page(chromium, report, width) as page:
            assert page.value("document.querySelectorAll('.chart .scatterlayer').length") >= charts


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@dataclass(frozen=True)
class Watched:
    """What a user sees who watches a training, interrupts it and types its command again."""

    shown: list[int]
    """Environment steps on the page: when opened, refreshed once, and at the end."""
    flaws: list[str]
    exit_code: int
    interruption: str
    """What was printed last."""
    before: list[dict[str, Any]]
    """Metrics at the interruption."""
    continued: str


def watched_on(page: Page, home: Path, training: Any) -> Watched:
    shown = [page.value(SHOWN_STEPS)]
    page.wait_for(f"{SHOWN_STEPS} > {shown[0]}")
    shown.append(page.value(SHOWN_STEPS))
    assert training.poll() is None, "the training was over before it was interrupted"
    training.send_signal(signal.SIGINT)
    interruption, _ = training.communicate(timeout=300)
    before = metrics(home / RUN)
    continued = said(typed(home, TRAIN))
    page.wait_for(f"{SHOWN_STEPS} >= {STEPS}")
    shown.append(page.value(SHOWN_STEPS))
    return Watched(shown, page.flaws(), training.returncode, interruption, before, continued)


@pytest.fixture(scope="module")
def watched(home, chromium):
    training = typed(home, TRAIN)
    wait_for(training, home / RUN, 2)
    server = typed(home, WATCH, "--port", 0)
    try:
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())
        with chromium.page(1200) as page:
            page.open(address)
            return watched_on(page, home, training)
    finally:
        for process in (training, server):
            process.kill()
            process.communicate()


@pytest.fixture
def agent(home, watched):
    return trpo_ts.load(home / RUN)


def test_the_point_mass_is_learned_and_its_report_is_whole(home, chromium):
    last = said(typed(home, TRAIN_POINT_MASS)).splitlines()[-1]
    report = home / last.split("; ")[-1]
    summary = json.loads((report.parent / "summary.json").read_text())
    assert summary["final_return_mean"] > -30.0  # random actions have about -300, the best controller has -22
    assert summary["max_kl_seen"] <= 0.02
    assert_whole(chromium, report, charts=12)


def test_a_training_is_watched_live(watched, home):
    opened, refreshed, ended = watched.shown
    assert 0 < opened < refreshed < ended == metrics(home / RUN, "update")[-1]["env_steps"]
    assert watched.flaws == []


def test_the_command_typed_again_continues_a_training(watched, home):
    assert watched.exit_code == 130
    step = f"step {watched.before[-1]['env_steps']:,} "
    assert f"saved up to {step}" in watched.interruption
    assert re.search(f"^Resumed from update .*{step}", watched.continued, flags=re.MULTILINE)
    whole = metrics(home / RUN)
    assert 0 < len(watched.before) < len(whole)
    assert whole[: len(watched.before)] == watched.before
    steps = [line["env_steps"] for line in whole if line["kind"] == "update"]
    assert steps == list(range(UPDATE, STEPS + UPDATE, UPDATE))


def test_a_second_seed_is_drawn_over_the_first(watched, home, chromium):
    said(typed(home, TRAIN_ANOTHER_SEED))
    report = home / said(typed(home, REPORT)).strip()
    assert_whole(chromium, report, charts=14)
    with chromium.page(1200) as page:
        page.open(report.as_uri())
        for chart in ("return", "test_return", "kl"):
            names = page.value(f"document.getElementById('chart-{chart}').data.map((trace) => trace.name)")
            assert {"seed_0", "seed_1", f"mean of {TASK}"} <= set(names)


def test_the_agent_is_scored_in_another_process(home, agent):
    mean, std, episodes = re.search(
        rf"{TASK}, best\.ckpt: mean return (.+), standard deviation (.+), (\d+) episodes", said(typed(home, EVALUATE))
    ).groups()
    result = agent.evaluate(int(episodes), seed=1_000_000)
    assert (mean, std) == (f"{result.mean:.2f}", f"{result.std:.2f}")
    assert float(mean) > 150.0  # random actions have about 18


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_the_script_scores_and_exports_the_agent(home, agent, suffix):
    printed = ran(home, shortened(AGENT).replace(".onnx", suffix))
    assert printed == f"{agent.evaluate(episodes=10)}\n"
    env = gym.make(TASK)
    observations = [env.reset(seed=0)[0]]  # of states that it meets: random ones would drive it to the bounds
    while len(observations) < 1000:
        obs, _, terminated, truncated, _ = env.step(agent.act(observations[-1]))
        observations.append(env.reset()[0] if terminated or truncated else obs)
    obs = np.stack(observations)
    outputs = loaded_model(home / f"hopper{suffix}")({"obs": obs})
    np.testing.assert_allclose(outputs["action"], agent.act(obs), rtol=1e-5, atol=1e-5)
    assert len(np.unique(outputs["action"], axis=0)) > 500  # the others are at the bounds


@pytest.fixture(scope="module")
def swapped(home):
    """Run the script with Tianshou's TRPO and with ours, and return what both printed."""
    ours, theirs = re.search(r"^(from .* import TRPO)  # was: (.*)$", SWAP, flags=re.MULTILINE).groups()
    before = SWAP.replace(ours, theirs).replace("runs/swap", "runs/before")
    return ran(home, before), ran(home, SWAP)


def test_trpo_is_swapped_into_a_tianshou_script(swapped):
    for printed in swapped:
        assert float(re.fullmatch(r"best test return: (.*)\n", printed)[1]) > 195.0


def asked(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"{address}data/plugin/scalars/{path}", timeout=60) as answer:
        return json.load(answer)


@pytest.fixture
def tensorboard(home):
    """Start TensorBoard as typed, and return its address."""
    program, *words = TENSORBOARD
    server = start_python("-m", f"{program}.main", *words, "--port", 0, cwd=home)
    try:
        yield next(found[0] for line in server.stderr if (found := re.search(r"http://\S+/", line)))
    finally:
        server.kill()
        server.communicate()


def test_tensorboard_shows_the_metrics_of_the_swap(swapped, tensorboard):
    deadline = time.monotonic() + 60.0
    while "update/outcome" not in (tags := asked(tensorboard, "tags").get("swap", {})):
        assert time.monotonic() < deadline, tags
        time.sleep(0.5)
    fields = {name for name in TRPOTrainingStats.__dataclass_fields__ if name not in ("smoothed_loss", "policy_std")}
    assert fields <= {tag.split("/")[1] for tag in tags if tag.startswith("update/")}
    curve = asked(tensorboard, "scalars?run=swap&tag=update/kl/mean")
    assert [step for _, step, _ in curve] == list(range(2048, 40_961, 2048))
    assert all(0.0 < kl <= 0.01 for *_, kl in curve)
