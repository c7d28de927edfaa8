"""What bears a name is whole, whatever happened while it was being written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from openchat_local.models.system.atomic import replacing, replacing_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


def write_and_fail(folder: Path) -> None:
    with replacing(folder / "file") as part:
        part.write_text("new")
        raise RuntimeError


def fill_and_fail(folder: Path) -> None:
    with replacing_folder(folder / "folder") as part:
        (part / "inside").write_text("new")
        raise RuntimeError


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_text("old")
    with pytest.raises(RuntimeError):
        write_and_fail(tmp_path)
    with pytest.raises(RuntimeError):
        fill_and_fail(tmp_path)
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "inside").read_text() == "old"
    assert names(tmp_path) == ["file", "folder"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for content in ("a", "b"):
        with replacing_folder(folder) as part:
            (part / content).mkdir()
            (part / content / "inside").write_text(content)
    assert names(folder) == ["b"]
    assert names(tmp_path) == ["folder"]


WRITER = """
import os, signal, sys
from pathlib import Path
from openchat_local.models.system.atomic import replacing
with replacing(Path(sys.argv[1])) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_kill_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", WRITER, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def write_for_minutes(folder: Path, name: str) -> None:
    with replacing(folder / name, new=True) as part:
        part.write_text("new")
        if name == "link":
            (folder / name).symlink_to(folder / "nowhere")
        else:
            (folder / name).write_text("mine")


def fill_for_minutes(folder: Path) -> None:
    with replacing_folder(folder / "folder", new=True) as part:
        (part / "inside").write_text("new")
        (folder / "folder").mkdir()
        (folder / "folder" / "thesis.txt").write_text("mine")


def test_a_new_file_or_folder_takes_the_place_of_nothing_that_came_meanwhile(
    tmp_path: Path,
) -> None:
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            write_for_minutes(tmp_path, name)
    with pytest.raises(OSError, match="folder"):
        fill_for_minutes(tmp_path)
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "mine"
    assert names(tmp_path) == ["file", "folder", "link"]


def test_where_nothing_is_a_new_one_takes_its_place(tmp_path: Path) -> None:
    with replacing(tmp_path / "file", new=True) as part:
        part.write_text("new")
    with replacing_folder(tmp_path / "folder", new=True) as part:
        (part / "inside").write_text("new")
    assert names(tmp_path) == ["file", "folder"]
