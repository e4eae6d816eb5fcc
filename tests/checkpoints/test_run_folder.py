"""A run's folder: whatever the newest checkpoint is, the one before is taken, and what is the user's stays."""

from __future__ import annotations

import os
import shutil
import uuid

import pytest
from resumable import checkpoints, trainer_of
from runs import bits

from trpo_ts.checkpoints import load_checkpoint, save_checkpoint

TEMPORARY = f"{uuid.uuid4().hex}.tmp"


def damaged(path):
    path.write_bytes(path.read_bytes()[:-1])


def folder(path):
    path.unlink()
    path.mkdir()
    (path / "inside").touch()


def link_to_nothing(path):
    path.unlink()
    path.symlink_to("nowhere")


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [damaged, folder, link_to_nothing, pipe, empty])
def test_an_unreadable_newest_checkpoint_gives_way_to_the_one_before(tmp_path, whole, spoil):
    source, trainer = whole
    for name in ("update_000002.ckpt", "update_000003.ckpt"):
        shutil.copy(source / name, tmp_path)
    spoil(tmp_path / "update_000003.ckpt")
    (tmp_path / "update_000003.unreadable").write_bytes(b"of an earlier time")
    resumed = trainer_of(tmp_path, seed=9)
    with pytest.warns(RuntimeWarning, match=r"checkpoint passed over: .*update_000003.ckpt"):
        resumed.run()
    assert bits(dict(resumed.algorithm.state_dict())) == bits(dict(trainer.algorithm.state_dict()))
    assert (tmp_path / "update_000003.unreadable").read_bytes() == b"of an earlier time"
    assert os.path.lexists(tmp_path / "update_000003.unreadable1")
    assert (tmp_path / "update_000003.ckpt").is_file()


def test_a_disk_that_does_not_give_the_newest_checkpoint_gives_the_one_before(tmp_path, whole, monkeypatch):
    source, _ = whole
    for name in ("update_000002.ckpt", "update_000003.ckpt"):
        shutil.copy(source / name, tmp_path)
    original = open

    def failing(path, *args, **kwargs):
        if str(path).endswith("update_000003.ckpt"):
            raise OSError(5, "Input/output error")
        return original(path, *args, **kwargs)

    resumed = trainer_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", failing)
        with pytest.warns(RuntimeWarning, match="Input/output error"):
            resumed.reset()
    assert resumed._current_update_step == 2


def test_without_any_readable_checkpoint_nothing_is_moved_and_the_run_does_not_begin_anew(tmp_path):
    (tmp_path / "update_000003.ckpt").mkdir()
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be loaded: .*Is a directory"):
        trainer_of(tmp_path).run()
    assert os.listdir(tmp_path) == ["update_000003.ckpt"]


USERS = (".notes.tmp", ".a.ckpt.0123.tmp", f".a.ckpt.{TEMPORARY}", f".records.jsonl.{TEMPORARY}", "update_7.ckpt.old")


def test_a_run_leaves_the_users_files_and_removes_its_own(tmp_path):
    own = (f".update_000001.ckpt.{TEMPORARY}", f".best.ckpt.{TEMPORARY}", f".update_1234567.ckpt.{TEMPORARY}")
    for name in (*USERS, *own):
        (tmp_path / name).write_text(name)
    (tmp_path / "update_7.ckpt").write_text("a copy of the user's own")
    trainer_of(tmp_path, keep=1).run()
    assert checkpoints(tmp_path) == ["best.ckpt", "update_000006.ckpt", "update_7.ckpt"]
    for name in USERS:
        assert (tmp_path / name).read_text() == name
    assert not any((tmp_path / name).exists() for name in own)


def test_a_private_checkpoint_stays_private(tmp_path, whole):
    path = tmp_path / "update_000003.ckpt"
    shutil.copy(whole[0] / path.name, path)
    path.chmod(0o600)
    trainer = trainer_of(tmp_path)
    load_checkpoint(path, algorithm=trainer.algorithm, trainer=trainer)
    save_checkpoint(path, algorithm=trainer.algorithm, trainer=trainer)
    assert path.stat().st_mode & 0o777 == 0o600
