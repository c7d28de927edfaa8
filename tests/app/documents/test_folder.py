"""A folder is searched: what is looked at in it, and that the right passages are found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.app.documents import folder
from openchat_local.app.documents.document import Unreadable
from openchat_local.app.documents.extraction import Cancelled
from openchat_local.app.documents.folder import walk
from openchat_local.app.documents.folder_index import Best, FolderIndex
from openchat_local.app.documents.ignored import is_ignored, rules
from openchat_local.app.documents.passages import joined, of_text
from support import documents as made

FILLER = "".join(f"On day {n} nothing at all came by the harbour, as ever.\n\n" for n in range(400))


def write(folder: Path, **files: str | bytes) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> FolderIndex:
    folder = tmp_path_factory.mktemp("notes")
    seals = "\n\nEleven grey seals lay on the north beach.\n\n"
    write(
        folder,
        **{
            "log.md": FILLER[:9000] + seals + FILLER[9000:],
            "海豹.md": "十月，灰海豹来到北边的海滩。\n",
            "code/parse.py": "def parseJsonFile(path):\n    return 1\n",
            "party.txt": "We bring 🎂 at noon.\n",
            "report.pdf": made.pdf(["An introduction", "The lighthouse keeper is called Marta."]),
            "cat.png": b"\x89PNG\r\n\x1a\n\0",
            "data.bin": b"\0seals",
            "locked.pdf": made.pdf(["seals"], encrypted=True),
        },
    )
    index = FolderIndex(folder)
    index.refresh()
    return index


def found(best: Best | None) -> list[str]:
    assert best is not None
    return [hit.file.name for hit in best.hits]


@pytest.mark.parametrize(
    ("question", "name", "words"),
    [
        ("How many seals were there?", "log.md", "Eleven grey seals"),
        ("a seal", "log.md", "Eleven grey seals"),
        ("海豹什么时候来？", "海豹.md", "十月"),
        ("What does json parsing give?", "code/parse.py", "parseJsonFile"),
        ("when 🎂?", "party.txt", "noon"),
        ("Who keeps the lighthouse?", "report.pdf", "Marta"),
        ("the party", "party.txt", "noon"),
    ],
    ids=["words", "stem", "chinese", "camel", "emoji", "pdf", "path"],
)
def test_the_passage_that_answers_is_found(
    notes: FolderIndex, question: str, name: str, words: str
) -> None:
    best = notes.best(question, 4000)
    assert found(best)[0] == name
    assert best is not None
    assert words in best.hits[0].passages[0].text
    assert sum(len(passage.text) for hit in best.hits for passage in hit.passages) <= 4000


def test_where_it_is_found_is_said_and_what_is_left_out(notes: FolderIndex) -> None:
    best = notes.best("seals", 4000)
    assert best is not None
    where, text = joined(best.hits[0].passages)
    first, last = map(int, where.removeprefix("lines ").split("-"))
    lines = (FILLER[:9000] + "\n\nEleven grey seals lay on the north beach.\n\n").split("\n")
    assert first <= lines.index("Eleven grey seals lay on the north beach.") + 1 <= last
    assert "Eleven" in text
    page = notes.best("Marta", 4000)
    assert page is not None
    assert joined(page.hits[0].passages)[0] == "page 2"
    assert dict(best.left_out) == {"pictures": 1, "no text": 1, "unreadable": 1}
    assert (best.files, best.whole) == (5, False)


def test_what_has_none_of_the_words_finds_nothing(notes: FolderIndex) -> None:
    assert found(notes.best("zebra crossing", 4000)) == []
    assert found(notes.best("what is this about?", 4000)) == []
    assert found(notes.best('") OR ("', 4000)) == []


def test_a_small_folder_is_taken_whole_and_read_anew_when_it_changes(tmp_path: Path) -> None:
    write(tmp_path, **{"a.md": "one", "b.md": "two"})
    index = FolderIndex(tmp_path)
    assert index.best("x", 100) is None
    index.refresh()
    best = index.best("x", 100)
    assert best is not None
    assert (found(best), best.whole) == (["a.md", "b.md"], True)
    write(tmp_path, **{"a.md": "three"})
    (tmp_path / "b.md").unlink()
    index.refresh()
    best = index.best("x", 100)
    assert best is not None
    assert [passage.text for hit in best.hits for passage in hit.passages] == ["three"]
    with pytest.raises(Cancelled):
        index.refresh(lambda: False)


def test_nothing_hidden_ignored_or_linked_is_looked_at(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    inside = tmp_path / "inside"
    write(outside, **{"secret.txt": "x"})
    write(
        inside,
        **{
            ".gitignore": "*.log\n/build/\n!keep.log\n",
            ".env": "x",
            ".git/config": "x",
            "node_modules/x.js": "x",
            "a.log": "x",
            "keep.log": "x",
            "build/x": "x",
            "src/build/x": "x",
            "src/.gitignore": "x.md\n",
            "src/x.md": "x",
            "x.md": "x",
            "empty": "",
        },
    )
    (inside / "out").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    (inside / "secret").symlink_to(outside / "secret.txt")
    os.mkfifo(inside / "pipe")
    listing = walk(inside)
    assert [file.name for file in listing.files] == ["keep.log", "src/build/x", "x.md"]
    assert dict(listing.left_out) == {
        "hidden": 5,
        "ignored": 3,
        "behind links": 3,
        "devices or pipes": 1,
    }


def test_a_huge_folder_and_all_of_a_home_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "MOST_FILES", 9)
    monkeypatch.setattr(folder, "MOST_ENTRIES", 20)
    for number in range(11):
        (tmp_path / f"{number:05d}").write_bytes(b"x")
    listing = walk(tmp_path)
    assert len(listing.files) == 9
    assert listing.left_out == (("beyond the first 9", 2),)
    for number in range(11, 30):
        (tmp_path / f"{number:05d}").write_bytes(b"x")
    assert "not looked at: the folder is too large" in dict(walk(tmp_path).left_out)
    monkeypatch.setenv("HOME", str(tmp_path))
    for whole in (tmp_path, Path("/"), tmp_path / "none"):
        with pytest.raises(Unreadable):
            walk(whole)


@pytest.mark.parametrize(
    ("pattern", "path", "ignored"),
    [
        ("*.log", "a/b.log", True),
        ("/a.log", "b/a.log", False),
        ("a/*", "a/b/c", False),
        ("a/**", "a/b/c", True),
        ("**/c", "a/b/c", True),
        ("a/**/c", "a/c", True),
        ("b?.[!a-c]", "bb.d", True),
        ("b?.[!a-c]", "bb.a", False),
        ("\\#x", "#x", True),
        ("# x", "# x", False),
        ("x ", "x", True),
        ("x/", "x", False),
        ("[", "[", True),
        ("*a*a*a*a*a*a*a*a*a*b", "a" * 60, False),
        ("**/a/**/a/**/a/**/b", "a/" * 30 + "c", False),
        ("a/**/b", "a/x/y/b", True),
    ],
)
def test_gitignore(pattern: str, path: str, ignored: bool) -> None:
    assert is_ignored(path, False, [("", rules(pattern))]) == ignored


@given(st.text(alphabet="ab \n海", max_size=400), st.integers(1, 8))
def test_no_word_is_lost_in_passages(text: str, times: int) -> None:
    text = "\n".join([text] * times * 5)
    passages = list(of_text(text))
    assert "".join("".join(each.text for each in passages).split()) == "".join(text.split())
    lines = text.split("\n")
    for each in passages:
        if "\n" in each.text:
            assert each.text == "\n".join(lines[each.first - 1 : each.last])
