"""The file of a checkpoint: a header with version, length and checksum, and an archive of torch's."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
from pathlib import Path
from typing import Any, BinaryIO

import torch

from trpo_ts.atomic_write import atomic_write
from trpo_ts.checkpoints.packing import pack, unpack
from trpo_ts.checkpoints.tensor_archive import read_archive

__all__ = ["VERSION", "read_file", "write_file"]

VERSION = 1
"""The version of the format that is written, and the newest that is read."""

_MAGIC = b"TRPO-TS\n"
_HEADER = struct.Struct("<8sIQ32s")
"""Magic, version, length of the content in bytes, SHA-256 of all that follows the magic but itself."""


def write_file(path: str | os.PathLike[str], state: dict[str, Any]) -> Path:
    """Write nested containers, numbers, texts, arrays and tensors, atomically.

    :return: the path written.
    :raises ValueError: for a value that cannot be written down, before the file is touched.
    :raises OSError: when the file cannot be written; the old one is as it was.
    """
    buffer = io.BytesIO()
    torch.save(pack(state, "state"), buffer)
    content = buffer.getvalue()
    header = _HEADER.pack(_MAGIC, VERSION, len(content), _digest(VERSION, content))
    return atomic_write(path, header + content)


def read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what :func:`write_file` was given; no code in the file is run.

    The checksum finds accidents. It is no signature: a file of unknown origin cannot run code, or take more time and
    memory than its length explains, but it can hold any numbers.

    :raises ValueError: for a file that is truncated, damaged, of a newer version, or no checkpoint at all.
    :raises OSError: when the file cannot be read.
    """
    name = os.fspath(path)
    content = _content(name)
    try:
        state = unpack(read_archive(content))
    except Exception as error:
        raise ValueError(f"{name} holds more than tensors and plain containers, or not a whole one: {error}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{name} holds a {type(state).__name__} where a checkpoint has a dict")
    return state


def _content(name: str) -> bytes:
    """Return what follows a file's header, of which not a byte is read before the header is sound."""
    mode = os.stat(name).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # to open a pipe would wait for a writer
        raise ValueError(f"{name} is a device or a pipe and no checkpoint; give a file that save_checkpoint wrote")
    with open(name, "rb") as file:
        version, length, digest = _header(name, file)
        content = file.read(length + 1)
    if len(content) != length:
        raise ValueError(f"{name} holds {len(content)} of {length} bytes; it is damaged: take an older checkpoint")
    if _digest(version, content) != digest:
        raise ValueError(f"{name} does not fit its checksum; it is damaged: take an older checkpoint")
    return content


def _header(name: str, file: BinaryIO) -> tuple[int, int, bytes]:
    """Return version, length and checksum of a file that is as long as it says."""
    header = file.read(_HEADER.size)
    if header[: len(_MAGIC)] != _MAGIC[: len(header)] or not header:
        raise ValueError(f"{name} is no checkpoint of trpo_ts; give a file that save_checkpoint wrote")
    if len(header) < _HEADER.size:
        raise ValueError(f"{name} is truncated within its header; take an older checkpoint")
    _, version, length, digest = _HEADER.unpack(header)
    if not 1 <= version <= VERSION:
        raise ValueError(
            f"{name} has version {version} of the format, and this trpo_ts reads versions up to {VERSION}; "
            "update trpo_ts, or take an older checkpoint if the file is damaged"
        )
    there = os.fstat(file.fileno()).st_size - _HEADER.size
    if there != length:
        raise ValueError(f"{name} holds {there} of {length} bytes; it is damaged: take an older checkpoint")
    return version, length, digest


def _digest(version: int, content: bytes) -> bytes:
    digest = hashlib.sha256(struct.pack("<IQ", version, len(content)))
    digest.update(content)
    return digest.digest()
