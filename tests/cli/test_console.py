"""What a training prints."""

from __future__ import annotations

import io

import pytest

from trpo_ts.cli.console import Progress, describe_result, describe_settings
from trpo_ts.diagnostics import EvaluationRecord, UpdateRecord


class Terminal(io.StringIO):
    def isatty(self):
        return True


def update(steps, **values):
    return UpdateRecord(iteration=max(1, steps // 10), env_steps=steps, **values)


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("trpo_ts.cli.console.time.monotonic", lambda: now[0])
    return now


def test_a_line_per_second_and_the_last_one(clock):
    stream = io.StringIO()
    progress = Progress(100, stream=stream)
    progress.start(0)
    for steps, seconds in ((10, 0.5), (20, 0.2), (30, 0.2), (40, 0.7), (50, 0.1)):
        clock[0] += seconds
        progress.tell(update(steps, kl=0.005, max_kl=0.01, episode_returns=(1.0, 2.0) if steps == 10 else ()))
    progress.close()
    lines = stream.getvalue().splitlines()
    assert [int(line.split()[0]) for line in lines] == [10, 40, 50]
    assert [line.split()[-2] for line in lines] == ["20", "27", "100"]
    assert all("return 1.50" in line and "KL 0.0050 of 0.01" in line for line in lines)


def test_a_line_says_what_there_is_and_no_more(clock):
    stream = io.StringIO()
    progress = Progress(100, prefix="[seed 1] ", stream=stream)
    progress.start(0)
    clock[0] += 2.0
    progress.tell(update(10, max_kl=0.01))
    progress.tell(EvaluationRecord(env_steps=10, episode_returns=(3.0, 5.0)))
    clock[0] += 2.0
    progress.tell(update(20, kl=0.01, max_kl=0.01, explained_variance=0.5, cg_iterations=3.0))
    before, after = stream.getvalue().splitlines()
    assert before == "[seed 1]           10 steps  return -  KL - of 0.01  explained variance -  products -  5 steps/s"
    assert after.endswith("return -  test 4.00  KL 0.0100 of 0.01  explained variance 0.50  products 3  5 steps/s")


def test_a_terminal_gets_a_bar_with_the_tests_above_it():
    stream = Terminal()
    progress = Progress(100, stream=stream)
    progress.start(20, "Resumed")
    progress.tell(update(50, kl=0.005, max_kl=0.01))
    progress.tell(EvaluationRecord(env_steps=50, episode_returns=(3.0,)))
    progress.close()
    text = stream.getvalue()
    assert text.count("Resumed\n") == 1
    assert "50 steps  test 3.00" in text
    assert "KL 0.0050 of 0.01" in text
    assert "50%" in text


def test_settings_are_a_paragraph():
    text = describe_settings({"steps": 1_000_000, "hidden_sizes": (64, 64), "full_budget": False, "mask_key": None})
    assert text == "  steps=1,000,000  hidden_sizes=64,64  full_budget=False  mask_key=None"


def test_a_result_without_episodes():
    summary = dict.fromkeys(("final_return_mean", "best_test_return", "last_test_return", "steps_per_second"))
    assert describe_result({**summary, "env_steps": 32, "wall_seconds": 0.4}) == "32 steps in 0 s: no episode ended"
