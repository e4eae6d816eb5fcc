"""A checkpoint's file: damaged anywhere it is refused and changes nothing, and a failing write leaves the old one."""

from __future__ import annotations

import errno
import hashlib
import io
import multiprocessing
import os
import pickle
import resource
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from properties import examples
from runs import bits, make_run

from trpo_ts.checkpoints import ResumableTrainer, load_checkpoint, save_checkpoint
from trpo_ts.checkpoints.checkpoint_files import VERSION, read_file, write_file
from trpo_ts.checkpoints.generators import generator_states

HEADER = 52


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A trainer, and a whole checkpoint of it."""
    folder = tmp_path_factory.mktemp("run")
    algorithm, params = make_run()
    trainer = ResumableTrainer(algorithm, params, folder)
    trainer.reset()
    return trainer, folder / "update_000000.ckpt"


def state_of(trainer):
    collector = trainer.params.training_collector
    return bits(
        [
            dict(trainer.algorithm.state_dict()),
            generator_states(),
            collector._pre_collect_obs_RO,
            collector.env.obs_rms.mean,
            trainer._env_step,
            trainer._best_score,
        ]
    )


def refused(trainer, folder, content, match):
    path = folder / "a.ckpt"
    path.write_bytes(content)
    before = state_of(trainer)
    with pytest.raises(ValueError, match=match):
        load_checkpoint(path, algorithm=trainer.algorithm, trainer=trainer)
    assert state_of(trainer) == before


def framed(content: bytes, version: int = VERSION) -> bytes:
    """Return content with a header that fits it."""
    digest = hashlib.sha256(struct.pack("<IQ", version, len(content)) + content).digest()
    return struct.pack("<8sIQ32s", b"TRPO-TS\n", version, len(content), digest) + content


def saved_by_torch(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("bit", range(0, 8 * HEADER, 5))
def test_a_flipped_bit_of_the_header_is_found(saved, tmp_path, bit):
    trainer, content = saved[0], saved[1].read_bytes()
    spoiled = bytearray(content)
    spoiled[bit // 8] ^= 1 << bit % 8
    refused(trainer, tmp_path, bytes(spoiled), r"no checkpoint|version|holds \d+ of \d+ bytes|checksum")


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bits_and_foreign_bytes_anywhere_are_found(saved, tmp_path, data):
    trainer, content = saved[0], saved[1].read_bytes()
    spoiled = bytearray(content)
    start = data.draw(st.integers(HEADER, len(content) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=64).filter(any))
    for i, byte in enumerate(noise[: len(content) - start]):
        spoiled[start + i] ^= byte
    if bytes(spoiled) != content:
        refused(trainer, tmp_path, bytes(spoiled), "checksum")


@examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_file_is_found(saved, tmp_path, data):
    trainer, content = saved[0], saved[1].read_bytes()
    length = data.draw(st.one_of(st.integers(0, HEADER), st.integers(0, len(content) - 1)))
    refused(trainer, tmp_path, content[:length], r"no checkpoint|truncated|holds \d+ of \d+ bytes")


def test_bytes_after_the_end_are_found(saved, tmp_path):
    trainer, content = saved[0], saved[1].read_bytes()
    refused(trainer, tmp_path, content + b"\0", "bytes")


def test_a_newer_version_and_foreign_files_are_named(saved, tmp_path):
    trainer, content = saved[0], saved[1].read_bytes()
    newer = framed(content[HEADER:], VERSION + 1)
    refused(trainer, tmp_path, newer, rf"has version {VERSION + 1} .* reads versions up to {VERSION}; update trpo_ts")
    for foreign in (b"text", saved_by_torch({"a": 1}), os.urandom(1000)):
        refused(trainer, tmp_path, foreign, "is no checkpoint of trpo_ts; give a file that save_checkpoint wrote")
    refused(trainer, tmp_path, framed(saved_by_torch({"a": 1})), "holds no learner")
    refused(trainer, tmp_path, framed(saved_by_torch([1])), "holds a list where a checkpoint has a dict")
    refused(trainer, tmp_path, framed(b"no zip"), "not a whole one")


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_a_file_is_not_run(saved, tmp_path):
    trainer, _ = saved
    trace = tmp_path / "was_run"
    payload = {"algorithm": Malicious(str(trace)), "observation_statistics": []}
    pickled = pickle.dumps(payload, protocol=2)
    for content in (saved_by_torch(payload), pickled):
        refused(trainer, tmp_path, framed(content), "more than tensors and plain containers")
    refused(trainer, tmp_path, pickled, "is no checkpoint")
    assert not trace.exists()
    pickle.loads(pickled)
    assert trace.exists(), "the file above would have run its code"


@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_forged_file_that_is_refused_changes_nothing(saved, tmp_path, data):
    """No accident makes such a file, since the checksum fits: it was written on purpose."""
    trainer, path = saved
    state = part = read_file(path)
    while True:
        key = data.draw(st.sampled_from(sorted(part, key=str)))
        if not (isinstance(part[key], dict) and part[key] and data.draw(st.booleans())):
            break
        part = part[key]
    part[key] = "something else"
    forged = write_file(tmp_path / "a.ckpt", state)
    load_checkpoint(path, algorithm=trainer.algorithm, trainer=trainer)
    before = state_of(trainer)
    try:
        load_checkpoint(forged, algorithm=trainer.algorithm, trainer=trainer)
    except ValueError:
        assert state_of(trainer) == before


def test_a_missing_file_is_a_missing_file(saved, tmp_path):
    trainer, _ = saved
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.ckpt", algorithm=trainer.algorithm)


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_checkpoint(saved, tmp_path, monkeypatch, call):
    trainer, _ = saved
    path = save_checkpoint(tmp_path / "a.ckpt", algorithm=trainer.algorithm)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open" if call == "open" else f"os.{call}", full)
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(path, algorithm=trainer.algorithm, trainer=trainer)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.ckpt"]


def write_with_little_room(path, results):
    """Run in a process of its own, which the kernel allows files of 4 KiB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        write_file(path, {"much": np.zeros(10_000)})
    except OSError as error:
        results.put(error.errno)


def test_a_write_that_the_kernel_cuts_short_leaves_the_old_checkpoint(tmp_path):
    path = write_file(tmp_path / "a.ckpt", {"little": 1})
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=write_with_little_room, args=(path, results))
    child.start()
    child.join()
    assert results.get() == errno.EFBIG
    assert read_file(path) == {"little": 1}
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_a_run_removes_what_a_killed_write_left(tmp_path):
    stale = tmp_path / f".update_000001.ckpt.{'0123' * 8}.tmp"
    stale.write_bytes(b"half")
    algorithm, params = make_run(tests=False)
    ResumableTrainer(algorithm, params, tmp_path).reset()
    assert os.listdir(tmp_path) == ["update_000000.ckpt"]
