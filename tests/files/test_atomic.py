"""Writing: whole or not at all, through devices and links, nothing left behind."""

import os
import threading
from pathlib import Path

import pytest

from quantbench.atomic import atomic_path, write_text
from quantbench.errors import QuantbenchError


def test_a_device_is_written_through_and_stays_a_device() -> None:
    before = os.stat("/dev/null")
    write_text(Path("/dev/null"), "gone")
    after = os.stat("/dev/null")
    assert (before.st_mode, before.st_rdev) == (after.st_mode, after.st_rdev)


def test_a_pipe_gets_the_content(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text(encoding="utf-8")))
    reader.start()
    write_text(pipe, "content")
    reader.join(timeout=10)
    assert got == ["content"]
    assert not pipe.is_file()


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "real.txt"
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    write_text(link, "one")
    write_text(link, "two")
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == "two"


@pytest.mark.parametrize("kind", ["folder", "circle", "no folder"])
def test_what_cannot_be_replaced_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    if kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path)
    else:
        (tmp_path / "file").write_text("x", encoding="utf-8")
        path = tmp_path / "file" / "out"
    with pytest.raises(QuantbenchError, match="cannot write"):
        write_text(path, "x")


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    dead = tmp_path / ".a.txt.4194999-x.part"
    alive = tmp_path / f".a.txt.{os.getppid()}-x.part"
    other = tmp_path / ".b.txt.4194999-x.part"
    for file in (dead, alive, other):
        file.write_text("half", encoding="utf-8")
    write_text(tmp_path / "a.txt", "whole")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([alive.name, "a.txt", other.name])


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fails() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("new", encoding="utf-8")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fails()
    assert path.read_text(encoding="utf-8") == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
