"""Checkpoints without numbers: last.ckpt and the one before it, of which one is whole at any moment."""

from __future__ import annotations

import os

import pytest
from resumable import checkpoints, trainer_of
from runs import bits, make_run

from trpo_ts.checkpoints import ResumableTrainer
from trpo_ts.checkpoints import checkpoint as module


def last_of(folder, **kwargs):
    algorithm, params = make_run()
    return ResumableTrainer(algorithm, params, folder, every=1, numbered=False, **kwargs)


@pytest.fixture(scope="module")
def whole_bits(whole):
    return bits(dict(whole[1].algorithm.state_dict()))


def test_the_newest_two_are_kept_and_continued_from(tmp_path, whole_bits):
    trainer = last_of(tmp_path)
    trainer.run()
    assert checkpoints(tmp_path) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    assert bits(dict(trainer.algorithm.state_dict())) == whole_bits
    again = last_of(tmp_path)
    again.reset()
    assert again._current_update_step == trainer._current_update_step
    assert bits(dict(again.algorithm.state_dict())) == whole_bits


def test_keep_1_leaves_no_older_one(tmp_path):
    last_of(tmp_path, keep=1).run()
    assert checkpoints(tmp_path) == ["best.ckpt", "last.ckpt"]


def test_a_damaged_one_gives_way_to_the_one_before(tmp_path, whole_bits):
    last_of(tmp_path).run()
    last = tmp_path / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1])
    resumed = last_of(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"checkpoint passed over: .*last.ckpt"):
        resumed.run()
    assert (tmp_path / "last.unreadable").exists()
    assert bits(dict(resumed.algorithm.state_dict())) == whole_bits


class DeadError(Exception):
    pass


@pytest.mark.parametrize("has_links", [True, False])
@pytest.mark.parametrize("moment", range(4))
def test_a_process_that_dies_while_it_saves_leaves_a_whole_one(tmp_path, monkeypatch, whole_bits, moment, has_links):
    """It dies before, between or after the steps of the second checkpoint."""
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *args: (_ for _ in ()).throw(OSError("no links here")))
    trainer = last_of(tmp_path)
    calls, replace, write = [], os.replace, module.write_file

    def counted(function):
        def step(*args, **kwargs):
            if trainer._current_update_step >= 2:
                calls.append(function)
                if len(calls) > moment:
                    raise DeadError
            return function(*args, **kwargs)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counted(replace))
        patch.setattr(module, "write_file", counted(write))
        with pytest.raises(DeadError):
            trainer.run()
    resumed = last_of(tmp_path)
    resumed.run()
    assert bits(dict(resumed.algorithm.state_dict())) == whole_bits


def test_what_a_killed_process_left_is_removed_and_the_users_files_stay(tmp_path):
    own = (f".last.ckpt.{'0' * 32}.tmp", f".best.ckpt.{'1' * 32}.tmp")
    users = (f".update_000001.ckpt.{'0' * 32}.tmp", "update_000001.ckpt", ".last.ckpt.tmp")
    for name in (*own, *users):
        (tmp_path / name).write_text(name)
    last_of(tmp_path).run()
    assert not any((tmp_path / name).exists() for name in own)
    assert all((tmp_path / name).read_text() == name for name in users)


def test_numbered_must_be_a_bool(tmp_path):
    algorithm, params = make_run()
    with pytest.raises(ValueError, match="numbered must be True or False"):
        ResumableTrainer(algorithm, params, tmp_path, numbered="no")
    assert trainer_of(tmp_path)._run_folder.checkpoint(3).name == "update_000003.ckpt"
