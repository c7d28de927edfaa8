"""Files in a prompt: which words are files, what is refused, what the model reads."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.app.replies.attachments import (
    Attachment,
    block,
    without_blocks,
)
from openchat_local.app.replies.gathering import gather
from openchat_local.app.replies.mentions import mentions
from openchat_local.app.replies.reading import Shelf


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("@a.txt", ["a.txt"]),
        ("see @a.txt, and @b/c.py.", ["a.txt", "b/c.py"]),
        ('@"my notes.txt" and @~/x', ["my notes.txt", "~/x"]),
        ("mail me@home.org", []),
        ("@@a.txt @ @", []),
        ("(@a)", []),
        ("twice @a @a", ["a"]),
        ("in @b/. Or @b/", ["b/"]),
        ("of @c.md:3-7, @c.md:x", ["c.md:3-7", "c.md:x"]),
        ('@"c d.md":3 and @"c d.md"', ["c d.md:3", "c d.md"]),
        ("@дом/東京.txt", ["дом/東京.txt"]),
    ],
)
def test_which_words_are_files(text: str, names: list[str]) -> None:
    Path("b").mkdir()
    Path("c.md").touch()
    assert [mention.name for mention in mentions(text)] == names


def test_files_stand_below_the_prompt_between_fences(folder: Path) -> None:
    (folder / "a.py").write_text("print('```')\n````\n", encoding="utf-8")
    (folder / "b.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    text = "Compare @a.py with @b.txt and @c.txt"
    whole = gather(text, Shelf()).text
    assert whole == (
        f"{text}\n\nFile a.py:\n`````py\nprint('```')\n````\n`````\n\n"
        "File b.txt:\n```txt\none\ntwo\n```"
    )
    assert without_blocks(whole) == text
    assert without_blocks(text) == text


def test_what_cannot_be_attached_stays_a_word_and_is_one_sentence(folder: Path) -> None:
    (folder / "binary").write_bytes(b"\x7fELF\0\0")
    (folder / "latin").write_bytes("Grüße".encode("latin-1"))
    (folder / "huge").write_bytes(b"x" * 1_000_001)
    (folder / "folder").mkdir()
    (folder / "picture").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (folder / "nowhere").symlink_to(folder / "gone")
    os.mkfifo(folder / "pipe")
    (folder / "a.txt").write_text("fine", encoding="utf-8")
    says = {
        "binary": "binary file",
        "latin": r"not UTF-8 \(byte 2\)",
        "huge": "1,000,001 bytes",
        "folder": "is a folder",
        "picture": "is a picture",
        "nowhere": "No such file",
        "pipe": "a device or a pipe",
        "/dev/null": "a device or a pipe",
    }
    for name, sentence in says.items():
        whole = gather(f"Why @{name} and @a.txt?", Shelf())
        assert whole.text == f"Why @{name} and @a.txt?\n\nFile a.txt:\n```txt\nfine\n```"
        (problem,) = whole.problems
        assert re.search(sentence, str(problem))
        assert str(problem).startswith(f"@{name} ")
        assert "stays a word of the prompt" in str(problem)
        assert whole.held_back_by is None


@given(st.text(), st.text(alphabet="`a\n ", max_size=40))
def test_no_file_can_end_its_own_fence(name: str, content: str) -> None:
    lines = block(Attachment(name, content, "x")).split("\n")
    fence = lines[-1]
    assert lines[0].startswith("File ")
    assert set(fence) == {"`"}
    assert not any(line.startswith(fence) for line in lines[2:-1])


def test_a_file_that_grows_while_it_is_read_is_cut_by_nobody(folder: Path) -> None:
    (folder / "a").write_text("x" * 1_000_000, encoding="utf-8")
    (attached,) = gather("@a", Shelf()).attached
    assert len(attached.parts[0].text) == 1_000_000
