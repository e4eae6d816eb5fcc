"""Read what ``torch.save`` writes, in time and memory that the file's own length bounds.

``torch.load(weights_only=True)`` runs no code, but a small file can let it fill the memory: compressed records, tensors
that repeat one number without end, containers that hold one another twice and double at each level. Here records are
not decompressed, tensors hold no more numbers than the file, and no two entries share a container.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import sys
import zipfile
from typing import Any

import torch
from torch import Tensor

__all__ = ["read_archive"]

_LOCAL_HEADER = 30
"""Bytes of a record's own header, before its name and its extra field."""

_OPCODES = {
    *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BINPERSID", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
}
"""All that ``torch.save`` writes for tensors and plain containers."""

_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}


def read_archive(content: bytes) -> Any:
    """Return nested dicts, lists and tuples of numbers, texts and tensors; nothing in them is shared.

    :raises ValueError: for anything else that a file may hold.
    :raises Exception: of any other kind, for a file that is damaged.
    """
    records = _Records(content)
    if records.read("byteorder") != sys.byteorder.encode():
        raise ValueError(f"the numbers are in another order of bytes than this machine's, {sys.byteorder}")
    pickled = records.read("data.pkl")
    _check_opcodes(pickled)
    value = _Unpickler(pickled, records).load()
    _check_tree(value)
    return value


class _Records:
    """The records of an archive, of which each byte may be read once on average."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._left = len(content)
        self._records: dict[str, zipfile.ZipInfo] = {}
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for record in archive.infolist():
                self._records[record.filename.partition("/")[2]] = record

    def read(self, name: str) -> bytes:
        record = self._records[name]
        if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1:
            raise ValueError(f"the record {name!r} is compressed or encrypted")
        start = record.header_offset
        # By hand, because torch may have been told to write no checksums, which `zipfile` insists on.
        lengths = self._content[start + _LOCAL_HEADER - 4 : start + _LOCAL_HEADER]
        start += _LOCAL_HEADER + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        data = self._content[start : start + record.file_size]
        self._left -= len(data)
        if len(data) != record.file_size or self._left < 0:
            raise ValueError(f"the record {name!r} reaches beyond the file, or is read again")
        return bytes(data)


class _Unpickler(pickle.Unpickler):
    """Makes tensors and plain containers; no name in the file is looked up outside of the tables here."""

    def __init__(self, pickled: bytes, records: _Records) -> None:
        super().__init__(io.BytesIO(pickled))
        self._records = records

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor_v3"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):  # the hooks of a tensor, of which there are none
            return _no_hooks
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return None
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        raise ValueError(f"the name {module}.{name} is none of a tensor's")

    def persistent_load(self, pid: Any) -> tuple[torch.dtype | None, bytes]:
        kind, dtype, name, _, _ = pid
        if kind != "storage" or not (dtype is None or isinstance(dtype, torch.dtype)):
            raise ValueError("a reference leads to no tensor's storage")
        return dtype, self._records.read(f"data/{name}")


def _no_hooks() -> None:
    return None


def _tensor(
    storage: tuple[torch.dtype | None, bytes],
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
    hooks: None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return a tensor of its own, dense like the one that was saved."""
    stored_dtype, data = storage
    if not isinstance(dtype := dtype or stored_dtype, torch.dtype):  # of a tensor with a conjugate bit it is a dict
        raise ValueError("a tensor is more than its numbers")
    if dtype is torch.bool and data.strip(b"\0\1"):
        # A byte that is neither 0 nor 1 counts differently in different kernels, some of which reserve memory by it.
        raise ValueError("a tensor of booleans holds other bytes than 0 and 1")
    numbers = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(dtype) if data else torch.empty(0, dtype=dtype)
    if _count(size) > len(numbers):
        raise ValueError(f"a tensor of shape {size} holds more numbers than its storage, {len(numbers)}")
    return numbers.as_strided(size, stride, offset).clone()  # which checks that all of it lies in the storage


def _count(size: tuple[int, ...]) -> int:
    count = 1
    for length in size:
        count *= length
    return count


def _check_opcodes(pickled: bytes) -> None:
    """Check that a pickle is such as ``torch.save`` writes, before the interpreter for it is let loose."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
        if opcode.name not in _OPCODES:
            raise ValueError(f"the instruction {opcode.name} makes more than tensors and plain containers")
        # The memory for places is reserved up to the largest one.
        if opcode.name in ("BINPUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= count:
            raise ValueError(f"the place {argument} is none that a writer would come to")


def _check_tree(root: Any) -> None:
    """Check that a value is made of plain containers and tensors, none of which is in two places or in itself."""
    seen: set[int] = set()
    rest = [root]
    while rest:
        value = rest.pop()
        if value is None or type(value) in (bool, int, float, str) or (type(value) is tuple and not value):
            continue
        if id(value) in seen:
            raise ValueError(f"a {type(value).__name__} is in two places")
        seen.add(id(value))
        if type(value) is dict:
            if not all(type(key) in (str, int) for key in value):
                raise ValueError("a dict has keys that are neither texts nor integers")
            rest.extend(value.values())
        elif type(value) in (list, tuple):
            rest.extend(value)
        elif type(value) is not Tensor:
            raise ValueError(f"a {type(value).__name__} is none of the types of a checkpoint")
