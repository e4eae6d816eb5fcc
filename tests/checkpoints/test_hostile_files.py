"""Files with a right checksum that somebody wrote with intent: refused in little time and memory, without a crash."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import pickle
import resource
import struct
import zipfile

import numpy as np
import pytest
import torch
from runs import bits, make_run

from trpo_ts.checkpoints import ResumableTrainer, load_checkpoint
from trpo_ts.checkpoints.checkpoint_files import VERSION, read_file, write_file
from trpo_ts.checkpoints.generators import generator_states, set_generator_states

SECONDS, BYTES = 30, 2 << 30


def framed(content: bytes) -> bytes:
    """Return content with a header that fits it."""
    digest = hashlib.sha256(struct.pack("<IQ", VERSION, len(content)) + content).digest()
    return struct.pack("<8sIQ32s", b"TRPO-TS\n", VERSION, len(content), digest) + content


def saved_by_torch(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def rebuilt(content: bytes, compression=zipfile.ZIP_STORED, **replaced: bytes) -> bytes:
    """Return an archive with other records in the places of some, written by another program."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, replaced.get(name.rpartition("/")[2].replace(".", "_"), old.read(name)))
    return buffer.getvalue()


def in_child(function, *args):
    """Return what a call raises, as text; it runs in a process of its own with little memory and time."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def call():
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
        try:
            function(*args)
            theirs.send("nothing")
        except BaseException as error:
            theirs.send(f"{type(error).__name__}: {error}")

    child = context.Process(target=call)
    child.start()
    answered = ours.poll(SECONDS)
    if not answered:
        child.kill()
    child.join()
    return ours.recv() if answered and child.exitcode == 0 else f"killed by {child.exitcode}"


def doubling(depth: int):
    """Return a list of two lists that are one, and so on: few bytes, and 2 to the power of ``depth`` entries."""
    value = [0]
    for _ in range(depth):
        value = [value, value]
    return value


def itself():
    value: list = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": doubling(40)}, "a list is in two places"),
        ({"a": itself()}, "a list is in two places"),
        ({"a": [torch.zeros(1)] * 2}, "a Tensor is in two places"),
        ({"a": torch.zeros(1).expand(1 << 40)}, "holds more numbers than its storage, 1"),
        ({"a": [rows[:1] for rows in torch.zeros(1000).split([1] * 1000)]}, "is read again"),
        ({"a": torch.eye(2).to_sparse()}, "_rebuild_sparse_tensor is none of a tensor's"),
        ({"a": torch.device("cpu")}, "torch.device is none of a tensor's"),
        ({"a": {(1, 2): 3}}, "a dict has keys that are neither texts nor integers"),
        ({"a": torch.Size([1])}, "torch.Size is none of a tensor's"),
        ({"a": b"bytes"}, "_codecs.encode is none of a tensor's"),
    ],
)
def test_entries_that_are_shared_or_without_end_are_refused(tmp_path, value, said):
    path = tmp_path / "a.ckpt"
    path.write_bytes(framed(saved_by_torch(value)))
    assert said in in_child(read_file, path)


def test_a_compressed_record_is_refused(tmp_path):
    zeros = saved_by_torch({"a": torch.zeros(1 << 26)})
    path = tmp_path / "a.ckpt"
    path.write_bytes(framed(rebuilt(zeros, zipfile.ZIP_DEFLATED)))
    assert path.stat().st_size < 1 << 22
    assert "is compressed or encrypted" in in_child(read_file, path)


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (b"\x80\x02}r\xff\xff\xff\xff.", "the place 4294967295 is none that a writer would come to"),
        (pickle.dumps({"a": {1, 2}}, 4), "makes more than tensors and plain containers"),
        (b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", "the name posix.system is none of a tensor's"),
        (b"\x80\x02ctorch\nload\n.", "the name torch.load is none of a tensor's"),
        (b"\x80\x02cbuiltins\neval\n.", "the name builtins.eval is none of a tensor's"),
    ],
)
def test_instructions_that_make_something_else_are_refused(tmp_path, pickled, said):
    path = tmp_path / "a.ckpt"
    path.write_bytes(framed(rebuilt(saved_by_torch({}), data_pkl=pickled)))
    assert said in in_child(read_file, path)


def test_booleans_are_zero_or_one(tmp_path):
    """NumPy reserves memory by the sum of the bytes of a mask, and then writes as many entries as are not zero."""
    kind = {"__kind__": "array", "dtype": "|b1", "shape": [2]}
    path = tmp_path / "a.ckpt"
    for value in ({**kind, "bytes": torch.tensor([1, 7], dtype=torch.uint8)}, torch.tensor([True, True])):
        content = saved_by_torch({"a": value})
        path.write_bytes(framed(content if isinstance(value, dict) else rebuilt(content, **{"0": b"\x01\x07"})))
        assert "booleans holds other bytes than 0 and 1" in in_child(read_file, path)


@pytest.mark.parametrize("dtype", ["|O", "f8,f8", "(2,3)<f8", "float", "|V0", ">f"])
def test_an_array_of_another_kind_is_refused(tmp_path, dtype):
    content = torch.zeros(48, dtype=torch.uint8)
    path = tmp_path / "a.ckpt"
    state = {"a": {"__kind__": "array", "dtype": dtype, "shape": [6], "bytes": content}}
    path.write_bytes(framed(saved_by_torch(state)))
    assert in_child(read_file, path).startswith("ValueError: ")


def bit_generator(name):
    return {"__kind__": "generator", **{"state": getattr(np.random, name)(3).state}}


FORGED = {
    "MT19937": [("state", "pos", 1 << 30), ("state", "pos", -5), ("state", "key", np.zeros(3, np.uint32))],
    "Philox": [("buffer_pos", None, 1 << 20), ("buffer_pos", None, -1), ("buffer", None, np.zeros(1, np.uint64))],
    "PCG64": [("state", "state", 1 << 128), ("state", "inc", -1), ("has_uint32", None, 7), ("uinteger", None, 1 << 32)],
    "PCG64DXSM": [("state", "inc", 1 << 128)],
    "SFC64": [("state", "state", np.zeros(2, np.uint64)), ("state", "state", np.zeros(4, np.float64))],
}


@pytest.mark.parametrize(
    ("name", "forged"), [(name, forged) for name, cases in FORGED.items() for forged in cases], ids=str
)
def test_a_generator_out_of_its_range_is_refused(tmp_path, name, forged):
    """NumPy takes such a state, and reads before or behind its memory with the next number."""
    field, inner, value = forged
    state = getattr(np.random, name)(3).state
    if inner is None:
        state[field] = value
    else:
        state[field][inner] = value
    path = write_file(tmp_path / "a.ckpt", {"a": {"kind": "generator", "state": state}})
    torch_state = torch.load(io.BytesIO(path.read_bytes()[52:]), weights_only=True)
    torch_state["a"]["__kind__"] = torch_state["a"].pop("kind")
    path.write_bytes(framed(saved_by_torch(torch_state)))

    def draw():
        generator = read_file(path)["a"]
        generator.bit_generator.random_raw(10_000)

    assert f" of {name} must be an " in in_child(draw)


@pytest.mark.parametrize(
    "seeds",
    [{"pool_size": 1 << 28}, {"entropy": 1 << 5000}, {"entropy": -1}, {"entropy": [1] * 5000}, {"spawn_key": ("a",)}],
    ids=str,
)
def test_seeds_that_take_long_to_mix_are_refused(tmp_path, seeds):
    path = write_file(tmp_path / "a.ckpt", {"a": np.random.default_rng(1)})
    state = torch.load(io.BytesIO(path.read_bytes()[52:]), weights_only=True)
    state["a"]["seed_sequence"].update(seeds)
    path.write_bytes(framed(saved_by_torch(state)))
    assert "of a SeedSequence must be" in in_child(read_file, path)


def forged_torch(left: int, following: int):
    state = bytearray(torch.get_rng_state().numpy().tobytes())
    struct.pack_into("<i", state, 8, left)
    struct.pack_into("<Q", state, 16, following)
    return torch.frombuffer(state, dtype=torch.uint8).clone()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"torch": (624, 624)}, r"next of torch's generator must be an integer in [0, 1], got 624"),
        ({"torch": (0, 0)}, "left of torch's generator"),
        ({"torch": (1, 1 << 40)}, "next of torch's generator"),
        ({"torch": torch.zeros(16, dtype=torch.uint8)}, "bytes of torch's generator"),
        ({"torch": torch.zeros(5056)}, "must be a tensor of bytes"),
        ({"numpy": ("MT19937", np.zeros(624, np.uint32), 1 << 30, 0, 0.0)}, "pos of MT19937"),
        ({"numpy": ("MT19937", np.zeros(624, np.uint32), -3, 0, 0.0)}, "pos of MT19937"),
        ({"python": (3, (0,) * 624 + (625,), None)}, "position of Python's generator"),
        ({"python": (3, (1 << 32,) + (0,) * 624, None)}, "word of Python's generator"),
        ({"python": (3, (0,) * 7, None)}, "length of Python's generator"),
    ],
    ids=range(10),
)
def test_the_process_generators_out_of_their_range_are_refused_before_any_is_set(changed, said):
    changed = {name: forged_torch(*v) if name == "torch" and type(v) is tuple else v for name, v in changed.items()}

    def set_and_draw():
        before = bits(generator_states())
        try:
            set_generator_states({**generator_states(), **changed})
        except ValueError:
            assert bits(generator_states()) == before
            raise
        np.random.random(10_000)  # noqa: NPY002
        torch.rand(10_000)

    assert said in in_child(set_and_draw)


def test_a_run_with_such_a_generator_is_refused_before_anything_changes(tmp_path):
    algorithm, params = make_run()
    trainer = ResumableTrainer(algorithm, params, tmp_path)
    trainer.reset()
    state = read_file(tmp_path / "update_000000.ckpt")
    state["run"]["generators"]["torch"] = forged_torch(624, 624)
    path = write_file(tmp_path / "a.ckpt", state)

    def load():
        before = bits([dict(algorithm.state_dict()), generator_states()])
        try:
            load_checkpoint(path, algorithm=algorithm, trainer=trainer)
        finally:
            assert bits([dict(algorithm.state_dict()), generator_states()]) == before

    assert "a.ckpt does not fit what it is loaded into: next of torch's generator" in in_child(load)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("counters", "epoch"), -1),
        (("counters", "env_step"), "many"),
        (("counters", "current_update_step"), 1.5),
        (("counters", "stop_fn_flag"), 3),
        (("steps_in_epoch",), -2),
        (("best", "best_score"), "high"),
        (("averages",), {"loss": 3}),
        (("seconds",), float("nan")),
    ],
)
def test_counters_that_no_trainer_has_are_refused(tmp_path, place, value):
    algorithm, params = make_run(tests=False)
    trainer = ResumableTrainer(algorithm, params, tmp_path)
    trainer.reset()
    state = read_file(tmp_path / "update_000000.ckpt")
    part = state["run"]["progress"]
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = value
    path = write_file(tmp_path / "a.ckpt", state)
    with pytest.raises(ValueError, match=f"{place[-1]} must be"):
        load_checkpoint(path, algorithm=algorithm, trainer=trainer)


def test_a_foreign_file_is_refused_by_its_first_bytes(tmp_path):
    path = tmp_path / "a.ckpt"
    with open(path, "wb") as file:
        file.truncate(20_000_000_000)  # takes no room on the disk
    assert "is no checkpoint of trpo_ts" in in_child(read_file, path)
    with open(path, "r+b") as file:
        file.write(struct.pack("<8sIQ32s", b"TRPO-TS\n", VERSION, 100, bytes(32)))
    assert "holds 19999999948 of 100 bytes" in in_child(read_file, path)


@pytest.mark.parametrize("target", ["/dev/zero", "pipe"])
def test_a_device_and_a_pipe_are_no_checkpoints(tmp_path, target):
    if target == "pipe":
        target = tmp_path / "pipe"
        os.mkfifo(target)
    assert "is a device or a pipe and no checkpoint" in in_child(read_file, target)
