"""Files are replaced as a whole, and remain what they were: their mode, their links, and what is no regular file."""

from __future__ import annotations

import errno
import os
import stat
import threading

import pytest

from trpo_ts.atomic_write import atomic_write, is_temporary_of


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o664, 0o755])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path, umask, mode):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(mode)
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_mode_of_the_umask(tmp_path, umask):
    assert stat.S_IMODE(atomic_write(tmp_path / "a" / "b", b"").stat().st_mode) == 0o644


def test_nobody_else_may_read_a_private_file_while_it_is_written(tmp_path, umask, monkeypatch):
    path = tmp_path / "a"
    path.touch(0o600)
    seen = []
    fsync = os.fsync

    def watched(descriptor):
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    atomic_write(path, b"new")
    assert seen[0] == 0o600


def test_a_link_stays_and_the_file_it_names_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    path, link = tmp_path / "there" / "a", tmp_path / "link"
    link.symlink_to(path)
    for content in (b"through a link to nothing", b"and to a file"):
        assert atomic_write(link, content) == link
        assert link.is_symlink()
        assert path.read_bytes() == content
    assert os.listdir(tmp_path / "there") == ["a"]


def test_a_device_is_written_to_and_stays_a_device():
    before = os.stat(os.devnull)
    atomic_write(os.devnull, b"nothing of this remains")
    after = os.stat(os.devnull)
    assert stat.S_ISCHR(after.st_mode)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


def test_a_pipe_gets_the_bytes_and_stays_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    atomic_write(path, b"through the pipe")
    reader.join(10.0)
    assert got == [b"through the pipe"]
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def failing_for_folders(monkeypatch, call, number):
    original = getattr(os, call)

    def failing(what, *args):
        if os.path.isdir(what) if call == "open" else stat.S_ISDIR(os.fstat(what).st_mode):
            raise OSError(number, os.strerror(number))
        return original(what, *args)

    monkeypatch.setattr(os, call, failing)


@pytest.mark.parametrize(
    ("call", "number"),
    [("fsync", errno.EINVAL), ("fsync", errno.ENOTSUP), ("fsync", errno.ENOSYS), ("open", errno.EACCES)],
)
def test_a_folder_that_cannot_be_synchronised_is_no_error(tmp_path, monkeypatch, call, number):
    failing_for_folders(monkeypatch, call, number)
    assert atomic_write(tmp_path / "a", b"new").read_bytes() == b"new"


def test_a_folder_that_fails_to_synchronise_is_one(tmp_path, monkeypatch):
    failing_for_folders(monkeypatch, "fsync", errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        atomic_write(tmp_path / "a", b"new")


def test_only_own_temporaries_are_taken_for_such(tmp_path, monkeypatch):
    seen = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append(os.path.basename(a)), replace(a, b)))
    atomic_write(tmp_path / "a.ckpt", b"")
    assert is_temporary_of("a.ckpt", seen[0])
    others = (seen[0][1:], seen[0] + "x", seen[0].replace("a", "b", 1))
    for name in (".notes.tmp", ".a.ckpt.tmp", ".a.ckpt.0123.tmp", *others):
        assert not is_temporary_of("a.ckpt", name)
