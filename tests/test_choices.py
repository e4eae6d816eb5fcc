"""Where only some words are allowed, a type checker refuses the others, and so does the call."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from subprocess import run
from typing import get_type_hints

import pytest
from repository import ROOT

from trpo_ts.presets import Settings
from trpo_ts.presets.job_settings import SCHEDULED
from trpo_ts.training.job_overrides import JobOverrides

RIGHT_AND_WRONG = """\
import gymnasium as gym
from trpo_ts.critics import GaussNewtonFit, make_recurrent_critic
from trpo_ts.policies import make_policy, make_recurrent_policy
from trpo_ts.presets import Settings
from trpo_ts.training import make_job

env = gym.make("Pendulum-v1")
spaces = env.observation_space, env.action_space
make_policy(*spaces, distribution="beta", std="free")
make_policy(*spaces, distribution="betta")  # wrong
make_policy(*spaces, std="fre")  # wrong
make_recurrent_policy(*spaces, cell="lstm")
make_recurrent_policy(*spaces, cell="rnn")  # wrong
make_recurrent_critic(spaces[0], cell="rnn")  # wrong
Settings(memory="gru", activation="relu", distribution="gsde")
Settings(memory="grue")  # wrong
Settings(activation="swish")  # wrong
make_job("CartPole-v1", env_backend="envpool", memory="none", critic_fit=GaussNewtonFit(), preconditioner=None)
make_job("CartPole-v1", env_backend="envpol")  # wrong
make_job("CartPole-v1", memory="grue")  # wrong
make_job("CartPole-v1", activation="swish")  # wrong
make_job("CartPole-v1", distribution="normal")  # wrong
make_job("CartPole-v1", gamma="small")  # wrong
make_job("CartPole-v1", max_kll=0.1)  # wrong
"""


def test_mypy_refuses_the_wrong_words_and_no_others(tmp_path):
    script = tmp_path / "words.py"
    script.write_text(RIGHT_AND_WRONG)
    done = run([sys.executable, "-m", "mypy", str(script)], cwd=ROOT, capture_output=True, text=True, check=False)
    refused = {int(line) for line in re.findall(r"words\.py:(\d+): error", done.stdout)}
    wrong = {number for number, line in enumerate(RIGHT_AND_WRONG.splitlines(), 1) if line.endswith("# wrong")}
    assert refused == wrong, done.stdout + done.stderr


def test_every_setting_is_a_keyword_of_make_job():
    ours, settings = get_type_hints(JobOverrides), get_type_hints(Settings)
    assert list(ours) == [field.name for field in fields(Settings)]
    other = {name for name in ours if ours[name] != settings[name]}
    assert other == {"critic_fit", "preconditioner", "hidden_sizes", *SCHEDULED}  # objects and lists, too


@pytest.mark.parametrize("name", ["memory", "activation", "distribution", "std"])
def test_the_call_names_the_words(name):
    from trpo_ts.training import make_job

    with pytest.raises(ValueError, match=f"{name} must be one of '.*', got 'grue'"):
        make_job("Pendulum-v1", steps=64, num_envs=1, **{name: "grue"})
