"""Agents are evaluated and filmed, in their task's environments and in given ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from agent_cases import normalised_envs, policy_of, saved
from command_line import train
from gymnasium import spaces
from PIL import Image
from space_tasks import Random
from tianshou.env import DummyVectorEnv

import trpo_ts
from trpo_ts.agents import Agent
from trpo_ts.cli.main import main
from trpo_ts.envs.task_description import TaskDescription
from trpo_ts.policies import make_policy, make_recurrent_policy

POINT_MASS = TaskDescription(task="PointMass1D-v0", max_episode_steps=20)


def agent_of(task: TaskDescription = POINT_MASS, **options: Any) -> Agent:
    env = task.make()
    torch.manual_seed(0)
    return Agent(make_policy(env.observation_space, env.action_space, **options), task=task)


def test_one_seed_gives_one_result_and_another_seed_another():
    agent = agent_of()
    result = agent.evaluate(25, seed=3)
    assert result == agent.evaluate(25, seed=3)
    assert result.returns != agent.evaluate(25, seed=4).returns
    assert len(result.returns) == len(result.lengths) == 25
    assert (result.mean, result.std) == (np.mean(result.returns), np.std(result.returns))
    assert set(result.lengths) == {20}


@pytest.mark.parametrize("distribution", ["gaussian", "gsde"])
def test_one_seed_gives_the_same_random_actions(distribution: str):
    agent = agent_of(distribution=distribution, noise_steps=7)
    before = torch.get_rng_state()
    result = agent.evaluate(12, seed=3, deterministic=False)
    assert result == agent.evaluate(12, seed=3, deterministic=False)
    assert result != agent.evaluate(12, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def played_by_hand(agent: Agent, env: gym.Env, seed: int, episodes: int) -> list[float]:
    """Play with ``act``: the first episode begins with a seed, and is followed by others."""
    returns = []
    obs, _ = env.reset(seed=seed)
    obs, _ = env.reset()
    for _ in range(episodes):
        agent.reset()
        total, over = 0.0, False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(agent.act(obs))
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
        obs, _ = env.reset()
    return returns


@pytest.mark.parametrize("memory", [False, True])
def test_episodes_are_those_that_act_would_play(memory: bool):
    env = gym.make("CartPole-v1")
    make = make_recurrent_policy if memory else make_policy
    torch.manual_seed(1)
    agent = Agent(make(env.observation_space, env.action_space))
    agent.act(np.zeros((3, 4), np.float32))
    vector = DummyVectorEnv([lambda: gym.make("CartPole-v1")] * 2)
    result = agent.evaluate(6, seed=5, env=vector)
    # Episodes end at different times; the environments are as many as the memory's rows.
    assert len(set(result.lengths)) > 1
    agent.act(np.zeros((3, 4), np.float32))  # what it remembers stays
    from trpo_ts.training.task_environments import environment_seeds

    (seed,) = environment_seeds(5, 0, 1)
    alone = agent.evaluate(4, seed=5, env=env)
    assert list(alone.returns) == played_by_hand(agent.fresh(), env, seed, 4)


def test_given_environments_of_structured_spaces_are_played_in():
    observation_space = spaces.Tuple([spaces.Discrete(3), spaces.Box(-1.0, 1.0, (2,))])
    policy = policy_of("structured")

    class Structured(Random):
        def step(self, action: Any) -> Any:
            assert self.action_space.contains(action), action
            return self.observation_space.sample(), float(action["gear"]), self.np_random.random() < 0.2, False, {}

    from trpo_ts.envs.tasks import with_flat_spaces

    env = Structured(observation_space, policy.action_space.structure)
    flat = with_flat_spaces(env)
    agent = Agent(make_policy(flat.observation_space, flat.action_space))
    assert agent.evaluate(5, env=env).lengths == agent.evaluate(5, env=flat).lengths
    obs, _ = env.reset(seed=0)
    assert env.action_space.contains(agent.act(obs))


def test_tasks_of_envpool_are_evaluated():
    env = gym.make("CartPole-v1")
    task = TaskDescription(task="CartPole-v1", env_backend="envpool")
    agent = Agent(make_policy(env.observation_space, env.action_space), task=task)
    result = agent.evaluate(12, seed=1)
    assert len(result.returns) == 12
    assert result == agent.evaluate(12, seed=1)
    with pytest.raises(ValueError, match="which has no single environments; pass env="):
        agent.make_env()


def test_wrong_calls_are_answered_with_one_error(tmp_path: Path):
    agent, taskless = agent_of(), Agent(agent_of().policy)
    memory = Agent(make_recurrent_policy(agent.observation_space, agent.action_space))
    rows = np.zeros((2, *agent.observation_space.shape), np.float32)
    memory.act(rows)
    cartpole = gym.make("CartPole-v1")
    calls: dict[str, Any] = {
        "episodes must be an integer >= 1, got 0": lambda: agent.evaluate(0),
        "seed must be an integer >= 0, got -1": lambda: agent.evaluate(seed=-1),
        "deterministic must be True or False, got 'no'": lambda: agent.evaluate(deterministic="no"),
        "env must be given, because the checkpoint does not say": taskless.evaluate,
        "pass env=gymnasium.make": taskless.make_env,
        "env must have the observation_space .* got": lambda: agent.evaluate(env=cartpole),
        "env must be an environment of gymnasium's.* got a str": lambda: agent.evaluate(env="CartPole-v1"),
        "env must give observations as they are": lambda: agent.evaluate(env=normalised_envs(policy_of("gaussian"))),
        "deterministic must be True or False, got 2": lambda: agent.act(rows, 2),
        r"obs must have 2 row\(s\) as at the step before, got 1: .* call agent.reset\(\)": lambda: memory.act(rows[0]),
        r"finished must be booleans of shape \(N,\), got int64": lambda: memory.reset([0, 1]),
        r"finished must have the shape \(2,\) of the batch, got \(3,\)": lambda: memory.reset([True] * 3),
        r"path must end in \.mp4 or \.gif": lambda: agent.record_video("film.avi"),
        "fps must be a number > 0": lambda: agent.record_video("film.mp4", fps=0),
        "env must have render_mode 'rgb_array', got None": lambda: agent.record_video("film.mp4", env=cartpole),
        "env must be a Env, got str": lambda: agent.record_video("film.mp4", env="CartPole-v1"),
        r"task Catch-v0 must be able to draw itself as 'rgb_array', got the render_modes \[\]": lambda: agent_of(
            TaskDescription(task="Catch-v0")
        ).record_video("film.mp4"),
        "task must be the id of a registered environment, got 'Nope-v0'": lambda: Agent(
            agent.policy, task=TaskDescription(task="Nope-v0")
        ).evaluate(),
    }
    for words, call in calls.items():
        with pytest.raises(ValueError, match=words):
            call()
    memory.act(rows)  # it is as it was
    assert not list(Path().glob("film.*"))


def test_a_policy_that_gives_no_number_is_named():
    agent = agent_of()
    with torch.no_grad():
        agent.policy.actor.mu.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"NaN|nan"):
        agent.act(np.zeros(agent.observation_space.shape, np.float32))


def frames_of(path: Path) -> tuple[int, tuple[int, int], float]:
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    return sum(1 for _ in reader), meta["size"], meta["fps"]


def test_films_show_every_step(tmp_path: Path):
    agent = agent_of()
    path = agent.record_video(tmp_path / "new" / "film.mp4", episodes=2)
    assert frames_of(path) == (42, (480, 160), 20.0)
    gif = agent.record_video(tmp_path / "film.gif", env=agent.make_env(render_mode="rgb_array"), fps=100.0)
    with Image.open(gif) as image:
        # Half of 21 frames, each for twice the time; equal ones may be joined.
        assert image.size == (480, 160)
        assert 1 < image.n_frames <= 11
        assert image.info["duration"] >= 20
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["film.gif", "film.mp4", "new"]


def test_a_film_that_fails_leaves_nothing_behind(tmp_path: Path):
    class Growing(gym.Wrapper):
        def render(self) -> Any:
            frame = super().render()
            self.count = getattr(self, "count", 0) + 1
            return frame[: -self.count]

    agent = agent_of()
    old = tmp_path / "film.mp4"
    old.write_bytes(b"old")
    with pytest.raises(ValueError, match="must return pictures of one shape"):
        agent.record_video(old, env=Growing(agent.make_env(render_mode="rgb_array")))
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
    assert old.read_bytes() == b"old"


def test_the_command_line_evaluates_and_films(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    train(tmp_path / "run", "--max-episode-steps", 20)
    capsys.readouterr()
    film = tmp_path / "film.mp4"
    words = ["--episodes", "3", "--seed", "7"]
    assert main(["evaluate", str(tmp_path / "run"), *words, "--video", str(film)]) == 0
    text = capsys.readouterr().out
    result = trpo_ts.load(tmp_path / "run").evaluate(3, 7)
    line = f"PointMass1D-v0, best.ckpt: mean return {result.mean:.2f}, standard deviation {result.std:.2f}, 3 episodes"
    assert text.splitlines() == [line, f"video of one episode: {film}"]
    assert frames_of(film)[0] == 21
    assert main(["evaluate", str(tmp_path / "run" / "best.ckpt"), *words]) == 0
    assert capsys.readouterr().out.splitlines() == [line]
    assert main(["evaluate", str(tmp_path / "run"), "--video", "film.avi"]) == 2
    assert "must end in .mp4 or .gif" in capsys.readouterr().err
    script = saved(tmp_path / "script.ckpt", policy_of("gaussian"))
    assert main(["evaluate", str(script)]) == 2
    assert "env must be given" in capsys.readouterr().err
