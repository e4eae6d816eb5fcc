"""Values survive a file with their types."""

from __future__ import annotations

import random
from collections import deque

import numpy as np
import pytest
import torch
from runs import bits
from tianshou.data import Batch

from trpo_ts.checkpoints.checkpoint_files import read_file, write_file
from trpo_ts.checkpoints.packing import pack, unpack

VALUES = [
    None,
    True,
    3,
    2**127,
    -1.5,
    float("inf"),
    "text",
    np.float64(0.1),
    np.int32(4),
    np.bool_(True),
    np.array([1.0, np.nan], np.float32),
    np.zeros((0, 3)),
    np.arange(4, dtype=np.uint32),
    np.array("a name"),
    np.array([{"a": np.float32(1.0)}, {}], dtype=object),
    torch.tensor([[1.0, -0.0]], dtype=torch.bfloat16),
    (1, [2.0, {"a": (None,), 0: "b"}]),
    deque([1.0, 2.0], maxlen=5),
    Batch(a=np.ones(2), b=Batch(c=np.zeros(2))),
    random.getstate(),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_every_value_survives_a_file_with_its_type(tmp_path, value):
    back = read_file(write_file(tmp_path / "a.ckpt", {"value": value}))["value"]
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    if isinstance(value, np.ndarray | np.generic):
        assert back.dtype == value.dtype
    if isinstance(value, deque):
        assert back.maxlen == value.maxlen


@pytest.mark.parametrize("name", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
def test_generators_continue_where_they_were(tmp_path, name):
    generator = np.random.Generator(getattr(np.random, name)(7))
    generator.normal(size=3)
    back = read_file(write_file(tmp_path / "a.ckpt", {"value": generator}))["value"]
    assert (back.normal(size=5) == generator.normal(size=5)).all()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": [object()]}, r"state\['a'\]\[0\] is of type object"),
        ({"a": {1.5: 0}}, r"state\['a'\] has the key 1.5"),
        ({"a": {"__kind__": 0}}, "has the key '__kind__'"),
        ({"a": {1, 2}}, "is of type set"),
        ({"a": np.array([object()])}, r"state\['a'\].flat\[0\]"),
        ({"a": np.zeros(1, dtype=[("x", "f4")])}, "array of dtype"),
    ],
)
def test_what_cannot_be_serialised_is_named_and_the_file_stays(tmp_path, value, said):
    path = write_file(tmp_path / "a.ckpt", {"old": 1})
    with pytest.raises(ValueError, match=said):
        write_file(path, value)
    assert read_file(path) == {"old": 1}


@pytest.mark.parametrize("value", [{"__kind__": "code"}, {"__kind__": "array"}, {"__kind__": []}])
def test_marks_that_nothing_made_are_refused(value):
    with pytest.raises(ValueError, match="a checkpoint holds no"):
        unpack(value)


def test_packed_values_share_nothing():
    array, tensor = np.zeros(2), torch.zeros(2)
    packed = pack([array, tensor])
    array += 1.0
    tensor += 1.0
    assert [bits(value) for value in unpack(packed)] == [bits(np.zeros(2)), bits(torch.zeros(2))]
