"""What is loaded is what was saved."""

from __future__ import annotations

import numpy as np
import pytest
from resumable import trainer_of
from runs import ENVS, ROLLOUT, STEPS, bits, make_run
from tianshou.algorithm import TRPO as TianshouTRPO
from tianshou.algorithm.optim import AdamOptimizerFactory, LRSchedulerFactoryLinear

from trpo_ts.checkpoints import ResumableTrainer, load_checkpoint, save_checkpoint
from trpo_ts.checkpoints.checkpoint_files import read_file, write_file
from trpo_ts.checkpoints.generators import generator_states


def test_a_learner_is_loaded_bit_for_bit_and_nothing_else_is_touched(tmp_path, whole):
    _, trainer = whole
    envs = trainer.params.training_collector.env
    path = save_checkpoint(tmp_path / "a" / "learner.ckpt", algorithm=trainer.algorithm, envs=envs)
    algorithm, params = make_run(seed=3)
    others = params.training_collector.env
    generators = bits(generator_states())
    assert load_checkpoint(path, algorithm=algorithm, envs=others) == {}
    assert bits(generator_states()) == generators
    assert bits(dict(algorithm.state_dict())) == bits(dict(trainer.algorithm.state_dict()))
    for statistics in ("mean", "var", "count"):
        assert bits(getattr(others.obs_rms, statistics)) == bits(getattr(envs.obs_rms, statistics))
    assert params.test_collector.env.obs_rms is others.obs_rms
    with pytest.raises(ValueError, match="holds a learner and no run to resume; load it without trainer"):
        load_checkpoint(path, algorithm=algorithm, trainer=ResumableTrainer(algorithm, params, tmp_path))


def test_numpy_numbers_in_the_optimiser_do_not_spoil_the_file(tmp_path):
    """Tianshou's linear schedule makes the learning rate a np.float64, which the safe loader of torch refuses."""
    algorithm, params = make_run(tests=False)
    optim = AdamOptimizerFactory(lr=1e-2).with_lr_scheduler_factory(LRSchedulerFactoryLinear(2, STEPS, ROLLOUT))
    theirs = TianshouTRPO(policy=algorithm.policy, critic=algorithm.critic, optim=optim)
    params.max_epochs = 1
    theirs.run_training(params)
    assert isinstance(theirs.optim._optim.param_groups[0]["lr"], np.float64)
    path = save_checkpoint(tmp_path / "a.ckpt", algorithm=theirs)
    before = bits(dict(theirs.state_dict()))
    load_checkpoint(path, algorithm=theirs)
    assert bits(dict(theirs.state_dict())) == before


def test_other_environments_are_refused_by_name(tmp_path, whole):
    folder, _ = whole
    trainer = trainer_of(tmp_path)
    state = read_file(folder / "update_000003.ckpt")
    state["run"]["collectors"]["training"]["count"] = 7
    path = write_file(tmp_path / "a.ckpt", state)
    with pytest.raises(ValueError, match=f"must have 7 environments, got {ENVS}"):
        load_checkpoint(path, algorithm=trainer.algorithm, trainer=trainer)
    state["run"]["collectors"]["training"]["count"] = ENVS
    state["run"]["collectors"]["training"]["episodes"]["environments"][0][-1]["class"] = "other.Env"
    write_file(path, state)
    with pytest.raises(ValueError, match=r"the environments must be \[.*other.Env"):
        load_checkpoint(path, algorithm=trainer.algorithm, trainer=trainer)
    del state["run"]["collectors"]["test"]
    state["run"]["collectors"]["training"]["episodes"] = None
    write_file(path, state)
    with pytest.raises(ValueError, match="saved without a test collector"):
        load_checkpoint(path, algorithm=trainer.algorithm, trainer=trainer)
