"""Parameters that change during a training: their values in each update, their errors, their state."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.trainer import OnPolicyTrainer

from trpo_ts import TRPO
from trpo_ts.checkpoints import ResumableTrainer
from trpo_ts.diagnostics import TrainingRecorder
from trpo_ts.schedules import LinearSchedule
from trpo_ts.training import make_job

UPDATE = {"num_envs": 2, "segment": 16}


def small_job(**overrides):
    return make_job("Pendulum-v1", steps=320, test_every=0, **{**UPDATE, "critic_fit": None, **overrides})


def trained(job, trainer_of=None):
    recorder = TrainingRecorder()
    job.params.logger = recorder
    (trainer_of or job.algorithm.create_trainer)(job.params).run()
    job.close()
    return recorder.updates


@given(start=st.floats(-5, 5), end=st.floats(-5, 5), until=st.floats(0.01, 1), progress=st.floats(0, 1))
def test_a_line_between_its_ends(start, end, until, progress):
    schedule = LinearSchedule(start=start, end=end, until=until)
    expected = end if progress >= until else start + (end - start) * progress / until
    assert schedule(progress) == pytest.approx(expected, abs=1e-9)
    assert schedule(0.0) == start
    assert schedule(1.0) == end


@pytest.mark.parametrize("wrong", [{"until": 0.0}, {"until": 1.5}, {"start": math.nan}, {"end": math.inf}])
def test_wrong_ends_are_named(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} must be a number"):
        LinearSchedule(**{"start": 1.0, "end": 0.0, **wrong})


def test_each_update_has_the_value_of_its_progress():
    updates = trained(small_job(max_kl="LinearSchedule(start=0.02, end=0)"))
    assert [update.max_kl for update in updates] == pytest.approx([0.02 * (1 - i / 10) for i in range(10)])
    assert all(update.kl <= update.max_kl for update in updates)


def test_any_function_of_progress_for_any_number():
    seen = []
    job = small_job()
    scheduled = {"gamma": 0.9, "gae_lambda": 0.8, "ent_coef": 0.01, "cg_damping": 0.2, "backtrack_coeff": 0.5}
    parts = {"policy": job.algorithm.policy, "critic": job.algorithm.critic, "optim": AdamOptimizerFactory(lr=1e-3)}
    algorithm = TRPO(**parts, **{name: lambda p, v=value: v * (1 + p / 10) for name, value in scheduled.items()})
    before = algorithm._update_with_batch

    def watched(*args, **kwargs):
        seen.append({name: getattr(algorithm, name) for name in scheduled})
        return before(*args, **kwargs)

    algorithm._update_with_batch = watched
    job.params.training_collector.policy = algorithm.policy
    algorithm.run_training(job.params)
    for i, values in enumerate(seen):
        assert values == pytest.approx({name: value * (1 + i / 100) for name, value in scheduled.items()})
    assert len(seen) == 10


def test_the_rate_of_the_critic_follows_its_schedule():
    job = small_job(lr="LinearSchedule(start=1e-2, end=0)")
    rates = []
    (optimizer,) = (wrapped._optim for wrapped in job.algorithm._optimizers)
    job.params.training_fn = lambda epoch, steps: rates.append(optimizer.param_groups[0]["lr"])
    trained(job)
    assert rates == pytest.approx([1e-2 * (1 - i / 10) for i in range(10)])


def test_a_resumed_run_continues_the_schedule(tmp_path):
    def run(stop_at=None):
        job = small_job(max_kl="LinearSchedule(start=0.02, end=0.01)")
        job.params.training_fn = _raise_at(stop_at)
        return trained(job, lambda params: ResumableTrainer(job.algorithm, params, tmp_path, every=2))

    whole = trained(small_job(max_kl="LinearSchedule(start=0.02, end=0.01)"))
    with pytest.raises(KeyboardInterrupt):
        run(stop_at=192)
    assert [update.max_kl for update in run()] == [update.max_kl for update in whole]


def _raise_at(steps):
    def check(epoch, env_steps):
        if steps is not None and env_steps >= steps:
            raise KeyboardInterrupt

    return check


def test_the_state_holds_the_progress():
    job = small_job(max_kl="LinearSchedule(start=0.02, end=0.01)")
    trained(job)
    state = copy.deepcopy(job.algorithm.state_dict())
    fresh = small_job(max_kl="LinearSchedule(start=0.02, end=0.01)").algorithm
    assert fresh.progress is None
    fresh.load_state_dict(state)
    assert fresh.progress == pytest.approx(0.9)


def test_without_progress_it_says_what_to_do():
    job = small_job(max_kl="LinearSchedule(start=0.02, end=0.01)")
    before = copy.deepcopy(job.algorithm.state_dict())
    trainer = OnPolicyTrainer(job.algorithm, job.params)  # Tianshou's own, which does not tell
    with pytest.raises(ValueError, match="progress must be set for the schedule of max_kl, got None"):
        trainer.run()
    after = job.algorithm.state_dict()
    assert all(after[name].equal(value) for name, value in before.items() if hasattr(value, "equal"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_kl": "LinearSchedule(start=0.02)"}, "max_kl must be a number or a schedule, such as"),
        ({"max_kl": "Linear(start=1, end=0)"}, "Linear is unknown"),
        (
            {"max_kl": "LinearSchedule(start=0, end=1)"},
            r"max_kl \(by its schedule, at progress 0\) must be a number > 0",
        ),
        ({"lr": "LinearSchedule(start=0, end=1)"}, r"lr \(by its schedule, at progress 0\) must be"),
        ({"gae_lambda": "LinearSchedule(start=2, end=1)"}, r"gae_lambda \(by its schedule"),
    ],
)
def test_wrong_schedules_are_named_at_the_start(setting, message):
    with pytest.raises(ValueError, match=message):
        small_job(**setting)


def test_a_value_that_leaves_its_range_later_is_named():
    job = small_job(max_kl="LinearSchedule(start=0.02, end=-0.02)")
    with pytest.raises(ValueError, match=r"max_kl \(by its schedule, at progress 0\.5\) must be a number > 0"):
        trained(job)
